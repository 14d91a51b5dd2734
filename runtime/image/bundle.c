/* SPDX-License-Identifier: Apache-2.0 */
/* Runs `caisson image unpack` and `caisson image bundle`. */
#include "images/oci/bundle.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/dir.h"
#include "base/log.h"
#include "base/rootless.h"
#include "image/image.h"
#include "image/progress.h"
#include "images/oci/chain.h"
#include "images/oci/tree_internal.h"
#include "spec/spec.h"

/* The options that `caisson image unpack` and `caisson image bundle` both have. */
struct unpacking {
	const char *platform, *uid_map, *gid_map;
	bool json;
	bool squash; /* all files get the caller as their owner */
	struct rootless rootless;
};

static void warn(void *data, const char *text)
{
	log_warn("%s", text);
}

/* Parses an id map in the form "CONTAINER:HOST:COUNT[,...]". */
static int parse_map(const char *text, const char *option, struct id_map *ret)
{
	unsigned inside, outside, count;
	int used;

	for (const char *p = text; p && *p; p += used, p += *p == ',') {
		if (ret->n == ARRAY_SIZE(ret->v))
			return err_set(
				E2BIG, "%s: more than %zu ranges", option, ARRAY_SIZE(ret->v));
		if (sscanf(p, "%9u:%9u:%9u%n", &inside, &outside, &count, &used) != 3 ||
			count == 0 || (p[used] && p[used] != ','))
			return err_set(EINVAL, "%s %.100s: expected CONTAINER:HOST:COUNT[,...]",
				option, text);
		ret->v[ret->n++] = (struct id_range){inside, outside, count};
	}
	return 0;
}

/*
 * Makes the directory `path`, or takes a directory that is already there if it is empty. Returns
 * its descriptor.
 */
static int make_empty_dir(int at, const char *path, mode_t mode)
{
	if (mkdirat(at, path, mode) < 0 && errno != EEXIST)
		return err_sys("create %s", path);
	_cleanup_fd_ int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = dir_take_fd(fd < 0 ? -EBADF : openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *e;
	bool empty = true;

	if (!d)
		return err_sys("open %s", path);
	while ((e = readdir(d)))
		empty &= streq(e->d_name, ".") || streq(e->d_name, "..");
	closedir(d);
	if (!empty)
		return err_set(
			ENOTEMPTY, "%s is not empty: give a directory that is, or a new one", path);
	return take_fd(&fd);
}

static int unpack(const struct image_globals *g, const struct store *s, const struct image *img,
	const struct unpacking *u, int root, struct strbuf *layers)
{
	struct tree_options options = {.warn = g->quiet ? NULL : warn,
		.squash = u->squash || u->rootless.one_id,
		.squash_reason = u->squash ? NULL : u->rootless.one_id};
	struct progress p;
	const struct unpack_progress progress = {progress_layer, progress_bytes, &p};
	uint64_t all = 0;
	int r = parse_map(u->uid_map, "--uid-map", &options.uids);

	if (r >= 0)
		r = parse_map(u->gid_map, "--gid-map", &options.gids);
	if (r < 0)
		return r;
	if (layers && (u->uid_map || u->gid_map || u->squash))
		return err_set(EINVAL,
			"--uid-map, --gid-map, --squash: the store keeps one form of a layer: "
			"give a DIR");
	for (size_t i = 0; i < img->document.nlayers; i++)
		all += img->document.layers[i].size;
	progress_init(&p, u->json, g->quiet, all);
	r = layers ? chain_unpack(s, img, &options, &progress, layers)
		   : image_unpack(s, img, root, &options, &progress);
	progress_end(&p);
	/*
	 * If unpacking fails, the target directory is emptied, because a part of a tree is of no
	 * use, and a new attempt needs an empty directory.
	 */
	if (r < 0 && !layers) {
		char message[ERR_MAX];
		snprintf(message, sizeof(message), "%s", err_msg());
		if (tree_clear(root, NULL) < 0)
			log_warn("%s", err_msg());
		return err_set(-r, "%s", message);
	}
	return r;
}

/*
 * Unpacks the layers into the store, and prints the value for the option --root-layers of `caisson
 * create`.
 */
static int unpack_shared(const struct image_globals *g, const struct store *s,
	const struct image *img, const struct unpacking *u)
{
	_cleanup_strbuf_ struct strbuf layers = {0}, line = {0};
	int r = unpack(g, s, img, u, -EBADF, &layers);

	if (r >= 0)
		r = strbuf_addf(&line, "%s/layers:%s\n", s->path, strbuf_str(&layers));
	return r < 0 ? r : program_print(strbuf_str(&line), line.len);
}

/*
 * Opens the store, becomes root in a user namespace, and then finds the image in the store. The
 * store is opened first, because its path depends on the caller's user id.
 */
static int open_image(const struct image_globals *g, struct arena *a, const char *name,
	struct unpacking *u, struct store *s, struct image *img)
{
	struct platform buf;
	const struct platform *platform;
	int r = image_platform(a, u->platform, &buf, &platform);

	if (r >= 0)
		r = image_open_store(g, s);
	if (r >= 0)
		r = rootless_become_root(&u->rootless);
	return r < 0 ? r : image_open(s, a, name, platform, img);
}

int image_cmd_unpack(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv)
{
	struct unpacking u = {0};
	const struct option_def defs[] = {
		{"platform", 0, OPTION_STRING, &u.platform, "OS/ARCH[/VARIANT]",
			"of an image for several (default: this machine's)"},
		{"uid-map", 0, OPTION_STRING, &u.uid_map, "CONTAINER:HOST:COUNT",
			"shift owners, as in a user namespace"},
		{"gid-map", 0, OPTION_STRING, &u.gid_map, "CONTAINER:HOST:COUNT",
			"the same for groups"},
		{"squash", 0, OPTION_FLAG, &u.squash, NULL,
			"all files belong to the caller, whatever their owners in the image"},
		{"json", 0, OPTION_FLAG, &u.json, NULL,
			"progress as JSON objects, on standard error"},
		{0},
	};
	struct image_arguments args = {.min = 1, .max = 2};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_store_ struct store s = STORE_INIT;
	struct image img;

	int r = image_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = open_image(g, &a, args.v[0], &u, &s, &img);
	if (r < 0)
		return r;
	if (args.n == 1)
		return unpack_shared(g, &s, &img, &u);
	_cleanup_fd_ int root = make_empty_dir(AT_FDCWD, args.v[1], 0755);
	return root < 0 ? root : unpack(g, &s, &img, &u, root, NULL);
}

/*
 * Makes the config.json that `caisson spec` writes, as a JSON tree to which the image's settings
 * are added.
 */
static int default_config(struct arena *a, const struct unpacking *u, struct json **ret)
{
	_cleanup_json_out_ struct json_out o = {0};
	_cleanup_strbuf_ struct strbuf users = {0}, groups = {0};
	const char *text;
	size_t len;
	int r = json_out_init(&o, false);

	if (r >= 0)
		r = rootless_read_maps(&users, &groups);
	if (r < 0)
		return r;
	const struct spec_user_maps maps = {strbuf_str(&users), strbuf_str(&groups)};
	r = spec_write_default(&o, u->rootless.entered ? &maps : NULL);
	if (r >= 0)
		r = json_out_text(&o, &text, &len);
	return r < 0 ? r : json_parse(a, text, len, "the default config.json", ret);
}

static int write_config(
	int bundle, const struct image *img, int root, const struct bundle_options *b)
{
	_cleanup_json_out_ struct json_out o = {0};
	const char *text;
	size_t len;
	int r = json_out_init(&o, true);

	if (r >= 0)
		r = bundle_config(&o, img, root, b);
	if (r >= 0)
		r = json_out_text(&o, &text, &len);
	return r < 0 ? r : fd_replace_file(bundle, "config.json", text, len, 0644);
}

static int make_bundle(const struct image_globals *g, const struct store *s,
	const struct image *img, const struct unpacking *u, const char *dir,
	const struct bundle_options *b)
{
	_cleanup_fd_ int bundle = make_empty_dir(AT_FDCWD, dir, 0755);
	if (bundle < 0)
		return bundle;
	_cleanup_fd_ int root = make_empty_dir(bundle, "rootfs", 0755);
	int r = root < 0 ? root : unpack(g, s, img, u, root, NULL);
	if (r >= 0)
		r = write_config(bundle, img, root, b);
	return r;
}

int image_cmd_bundle(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv)
{
	struct unpacking u = {0};
	struct option_list env = {0};
	struct bundle_options b = {.warn = g->quiet ? NULL : warn};
	bool no_entrypoint = false;
	const struct option_def defs[] = {
		{"platform", 0, OPTION_STRING, &u.platform, "OS/ARCH[/VARIANT]",
			"of an image for several (default: this machine's)"},
		{"entrypoint", 0, OPTION_STRING, &b.entrypoint, "PROGRAM",
			"in place of the image's; its Cmd is left out too"},
		{"no-entrypoint", 0, OPTION_FLAG, &no_entrypoint, NULL,
			"without the image's entrypoint"},
		{"env", 'e', OPTION_LIST, &env, "NAME=VALUE", "set a variable beside the image's"},
		{"user", 'u', OPTION_STRING, &b.user, "USER[:GROUP]", "in place of the image's"},
		{"workdir", 'w', OPTION_STRING, &b.working_dir, "DIR", "in place of the image's"},
		{"tty", 't', OPTION_FLAG, &b.terminal, NULL, "the program gets a terminal"},
		{"read-only", 0, OPTION_FLAG, &b.read_only, NULL,
			"the container sees its root file system read-only"},
		{"squash", 0, OPTION_FLAG, &u.squash, NULL,
			"all files belong to the caller, whatever their owners in the image"},
		{"json", 0, OPTION_FLAG, &u.json, NULL,
			"progress as JSON objects, on standard error"},
		{0},
	};
	struct image_arguments args = {.min = 2, .max = -1, .stop_at_first = true};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_store_ struct store s = STORE_INIT;
	struct image img;
	struct json *base;

	int r = image_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	/*
	 * The words after the argument DIR become the container's arguments; as in argv, a NULL
	 * follows the last one.
	 */
	char **words = args.v + 2 + (args.n > 2 && streq(args.v[2], "--"));
	b.args = *words ? (const char *const *)words : NULL;
	b.entrypoint = no_entrypoint ? "" : b.entrypoint;
	if (env.n == ARRAY_SIZE(env.v))
		return err_set(E2BIG, "--env: given too often");
	b.env = env.v;
	r = open_image(g, &a, args.v[0], &u, &s, &img);
	if (r >= 0)
		r = default_config(&a, &u, &base);
	if (r < 0)
		return r;
	b.base = base;
	return make_bundle(g, &s, &img, &u, args.v[1], &b);
}
