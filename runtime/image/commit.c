/* SPDX-License-Identifier: Apache-2.0 */
/* Runs `caisson image commit` and `caisson image diff`. */
#include "images/oci/commit.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "base/path.h"
#include "base/program.h"
#include "base/userns.h"
#include "image/image.h"
#include "images/oci/chain.h"

static void warn(void *data, const char *text)
{
	log_warn("%s", text);
}

/* $SOURCE_DATE_EPOCH makes the image the same whenever it is made. */
static int choose_time(int64_t *ret)
{
	const char *text = getenv("SOURCE_DATE_EPOCH");
	uint64_t seconds;

	*ret = (int64_t)time(NULL);
	if (!text)
		return 0;
	if (str_to_u64(text, &seconds) < 0 || seconds > INT32_MAX * UINT64_C(100))
		return err_set(
			EINVAL, "SOURCE_DATE_EPOCH=%.100s: expected seconds since 1970", text);
	*ret = (int64_t)seconds;
	return 0;
}

/* The store is opened first, because its path depends on the caller's user id. */
static int open_container(const struct image_globals *g, struct arena *a, const char *name,
	struct store *s, struct container_uses *ret)
{
	bool rootless;
	int r = image_open_store(g, s);

	if (r >= 0)
		r = userns_become_root(&rootless);
	return r < 0 ? r : container_dir_read(s, a, name, ret);
}

int image_cmd_commit(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv)
{
	struct commit_options o = {.warn = g->quiet ? NULL : warn};
	struct option_list changes = {0};
	const char *compression = "gzip";
	const struct option_def defs[] = {
		{"change", 'c', OPTION_LIST, &changes, "CHANGE",
			"a line of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, "
			"USER, VOLUME, WORKDIR"},
		{"author", 'a', OPTION_STRING, &o.author, "TEXT", "who made the image"},
		{"message", 'm', OPTION_STRING, &o.message, "TEXT", "a comment in its history"},
		{"compression", 0, OPTION_STRING, &compression, "gzip|zstd|none",
			"of the new layer (default: gzip)"},
		{0},
	};
	struct image_arguments args = {.min = 1, .max = 2};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_store_ struct store s = STORE_INIT;
	struct container_uses uses;
	struct descriptor made;

	int r = image_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	o.changes = changes.v;
	o.nchanges = changes.n;
	o.name = args.n == 2 ? args.v[1] : arena_printf(&a, "localhost/%s:latest", args.v[0]);
	r = o.name ? layer_compression_parse(compression, &o.compression) : -ENOMEM;
	if (r >= 0)
		r = choose_time(&o.created);
	if (r >= 0)
		r = open_container(g, &a, args.v[0], &s, &uses);
	if (r >= 0)
		r = image_commit(&s, args.v[0], &uses, &o, &made);
	if (r < 0)
		return r;
	const char *line = arena_printf(&a, "%s\n", made.digest.text);
	return line ? program_print(line, strlen(line)) : -ENOMEM;
}

struct diffing {
	struct container_changes changes;
	int lower; /* the tree of the container's image */
	struct strbuf out;
};

static bool skip_mount_point(void *data, const char *path)
{
	const struct diffing *d = data;

	return container_is_mount_point(&d->changes, path);
}

/* Prints the names of the image's directory that the container's, which replaces it, lacks. */
static int print_replaced(struct diffing *d, const struct upper_entry *e)
{
	_cleanup_fd_ int upper =
		openat(e->parent, e->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_fd_ int lower = path_open(d->lower, e->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	DIR *dir = lower < 0 || upper < 0 ? NULL : fdopendir(lower);
	struct dirent *n;
	struct stat st;
	int r = 0;

	err_clear();
	if (!dir)
		return 0;
	(void)take_fd(&lower);
	while (r >= 0 && (n = readdir(dir)))
		if (!streq(n->d_name, ".") && !streq(n->d_name, "..") &&
			fstatat(upper, n->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			r = strbuf_addf(&d->out, "D /%s/%s\n", e->path, n->d_name);
	closedir(dir);
	return r;
}

static int print_change(void *data, const struct upper_entry *e)
{
	struct diffing *d = data;
	char kind = 'D';

	if (!*e->path)
		return 0;
	if (e->kind == UPPER_OPAQUE)
		return print_replaced(d, e);
	if (e->kind == UPPER_ENTRY) {
		_cleanup_fd_ int there = path_open(d->lower, e->path, O_PATH | O_NOFOLLOW);
		kind = there < 0 ? 'A' : 'C';
		err_clear();
	}
	return strbuf_addf(&d->out, "%c /%s\n", kind, e->path);
}

static int diff(struct diffing *d, const struct store *s, struct arena *a, const char *name,
	const struct container_uses *uses)
{
	int r = container_changes_open(s, a, name, uses, &d->changes);

	if (r < 0)
		return r;
	d->lower = chain_open_view(s, uses->layers);
	if (d->lower < 0)
		return d->lower;
	const struct upper_options walk = {.upper = d->changes.upper,
		.is_mount_point = skip_mount_point,
		.entry = print_change,
		.data = d};
	r = upper_walk(&walk);
	return r < 0 ? r : program_print(strbuf_str(&d->out), d->out.len);
}

int image_cmd_diff(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv)
{
	const struct option_def defs[] = {{0}};
	struct image_arguments args = {.min = 1, .max = 1};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_store_ struct store s = STORE_INIT;
	struct diffing d = {.changes = {.upper = -EBADF}, .lower = -EBADF};
	struct container_uses uses;

	int r = image_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = open_container(g, &a, args.v[0], &s, &uses);
	if (r >= 0)
		r = diff(&d, &s, &a, args.v[0], &uses);
	fd_close(&d.changes.upper);
	fd_close(&d.lower);
	strbuf_release(&d.out);
	return r;
}
