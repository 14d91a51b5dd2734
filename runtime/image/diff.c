/* SPDX-License-Identifier: Apache-2.0 */
/* Runs `caisson image diff`. */
#include <dirent.h>
#include <linux/limits.h>
#include <stdio.h>

#include "base/log.h"
#include "base/path.h"
#include "base/rootless.h"
#include "image/image.h"
#include "images/oci/chain.h"
#include "images/oci/commit.h"
#include "images/oci/tree_diff.h"

struct diffing {
	struct container_changes changes;
	int lower; /* descriptor of the unpacked tree of the container's image */
	struct change_list *list;
};

static bool skip_mount_point(void *data, const char *path)
{
	const struct diffing *d = data;

	return container_is_mount_point(&d->changes, path);
}

/*
 * Lists names as deleted if the container has replaced a whole directory of the image: those that
 * the image's directory has and the container's directory lacks.
 */
static int add_replaced(struct diffing *d, const struct upper_entry *e)
{
	_cleanup_fd_ int upper =
		openat(e->parent, e->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_fd_ int lower = path_open(d->lower, e->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	DIR *dir = lower < 0 || upper < 0 ? NULL : fdopendir(lower);
	struct dirent *n;
	char path[PATH_MAX];
	struct stat st;
	int r = 0;

	err_clear();
	if (!dir)
		return 0;
	(void)take_fd(&lower);
	while (r >= 0 && (n = readdir(dir))) {
		if (streq(n->d_name, ".") || streq(n->d_name, "..") ||
			fstatat(upper, n->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", e->path, n->d_name);
		r = change_add(d->list, CHANGE_DELETED, path);
	}
	closedir(dir);
	return r;
}

static int add_change(void *data, const struct upper_entry *e)
{
	struct diffing *d = data;
	enum change_kind kind = CHANGE_DELETED;

	if (!*e->path)
		return 0;
	if (e->kind == UPPER_OPAQUE)
		return add_replaced(d, e);
	if (e->kind == UPPER_ENTRY) {
		_cleanup_fd_ int there = path_open(d->lower, e->path, O_PATH | O_NOFOLLOW);
		kind = there < 0 ? CHANGE_ADDED : CHANGE_CHANGED;
		err_clear();
	}
	return change_add(d->list, kind, e->path);
}

static int walk_container(struct diffing *d, const struct store *s, struct arena *a,
	const char *name, const struct container_uses *uses)
{
	int r = container_changes_open(s, a, name, uses, &d->changes);

	if (r < 0)
		return r;
	d->lower = chain_open_view(s, uses->layers);
	if (d->lower < 0)
		return d->lower;
	const struct upper_options walk = {.upper = d->changes.upper,
		.is_mount_point = skip_mount_point,
		.entry = add_change,
		.data = d};
	return upper_walk(&walk);
}

static int diff_container(
	const struct image_globals *g, struct arena *a, const char *name, struct change_list *ret)
{
	_cleanup_store_ struct store s = STORE_INIT;
	struct diffing d = {.changes = {.upper = -EBADF}, .lower = -EBADF, .list = ret};
	struct container_uses uses;
	int r = image_open_container(g, a, name, &s, &uses);

	if (r >= 0)
		r = walk_container(&d, &s, a, name, &uses);
	fd_close(&d.changes.upper);
	fd_close(&d.lower);
	return r;
}

/*
 * Opens the image's tree in the store, and unpacks the image into the store first if its tree is
 * not there yet.
 */
static int open_tree(const struct store *s, struct arena *a, const char *name,
	const struct tree_options *options)
{
	_cleanup_strbuf_ struct strbuf layers = {0};
	struct image img;
	int r = image_open(s, a, name, NULL, &img);

	if (r >= 0)
		r = chain_unpack(s, &img, options, NULL, &layers);
	return r < 0 ? r : chain_open_view(s, strbuf_str(&layers));
}

static void warn(void *data, const char *text)
{
	log_warn("%s", text);
}

static int diff_images(
	const struct image_globals *g, struct arena *a, char **names, struct change_list *ret)
{
	_cleanup_store_ struct store s = STORE_INIT;
	struct rootless rootless;
	int r = image_open_store(g, &s);

	if (r >= 0)
		r = rootless_become_root(&rootless);
	if (r < 0)
		return r;
	const struct tree_options options = {.warn = g->quiet ? NULL : warn,
		.squash = rootless.one_id,
		.squash_reason = rootless.one_id};
	_cleanup_fd_ int from = open_tree(&s, a, names[0], &options);
	if (from < 0)
		return from;
	_cleanup_fd_ int to = open_tree(&s, a, names[1], &options);
	return to < 0 ? to : tree_diff(from, to, ret);
}

static int print_lines(const struct change_list *l)
{
	_cleanup_strbuf_ struct strbuf out = {0};
	char path[PATH_MAX];
	int r = 0;

	for (size_t i = 0; i < l->n && r >= 0; i++) {
		/*
		 * str_clean() replaces control characters, because a file name may contain a line
		 * end, and what follows the line end must not look like another line of the output.
		 */
		str_clean(path, sizeof(path), l->v[i].path, strlen(l->v[i].path));
		r = strbuf_addf(&out, "%c %s\n", l->v[i].kind, path);
	}
	return r < 0 ? r : program_print(strbuf_str(&out), out.len);
}

static int print_json(const struct change_list *l)
{
	_cleanup_json_out_ struct json_out o = {0};
	int r = json_out_init(&o, false);

	if (r < 0)
		return r;
	json_out_array(&o, NULL);
	for (size_t i = 0; i < l->n; i++) {
		const char kind[] = {(char)l->v[i].kind, '\0'};
		json_out_object(&o, NULL);
		json_out_str(&o, "kind", kind);
		json_out_str(&o, "path", l->v[i].path);
		json_out_end_object(&o);
	}
	json_out_end_array(&o);
	return program_print_json(&o);
}

int image_cmd_diff(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv)
{
	bool json = false;
	const struct option_def defs[] = {
		{"json", 0, OPTION_FLAG, &json, NULL, "print it in JSON"}, {0}};
	struct image_arguments args = {.min = 1, .max = 2};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_changes_ struct change_list changes = {0};

	int r = image_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = args.n == 1 ? diff_container(g, &a, args.v[0], &changes)
			: diff_images(g, &a, args.v, &changes);
	if (r < 0)
		return r;
	return json ? print_json(&changes) : print_lines(&changes);
}
