/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements tar-out, tar-in and cp in the guest, and the unpacking of a tar for the guest and the
 * host. The tar reader is the one for image layers (images/oci/tar.h), which trusts no byte of the
 * tar.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/path.h"
#include "images/oci/tree.h"
#include "inside/inside.h"

struct input {
	int fd;
	unsigned char *buffer;
};

static ssize_t next_block(void *data, const unsigned char **ret)
{
	struct input *in = data;
	ssize_t n;

	do
		n = read(in->fd, in->buffer, STREAM_BLOCK);
	while (n < 0 && errno == EINTR);
	*ret = in->buffer;
	return n < 0 ? err_sys("read the tar") : n;
}

static int unpack_file(struct tar *tar, struct tree *tree, const struct tar_entry *e)
{
	const unsigned char *bytes;
	uint64_t offset;
	ssize_t n;
	int r = 0;

	while (r >= 0 && (n = tar_data(tar, &bytes, &offset)) != 0)
		r = n < 0 ? (int)n : tree_write(tree, bytes, (size_t)n, offset);
	return r < 0 ? r : tree_close_file(tree, e);
}

static int unpack_all(struct tar *tar, struct tree *tree,
	int (*edit)(void *data, struct tar_entry *e), void *data)
{
	struct tar_entry e;
	int r;

	while ((r = tar_next(tar, &e)) > 0) {
		r = edit ? edit(data, &e) : 1;
		if (r > 0)
			r = tree_add(tree, &e);
		if (r > 0)
			r = unpack_file(tar, tree, &e);
		if (r < 0)
			break;
	}
	return r < 0 ? r : tree_end(tree);
}

int inside_unpack(int in, int root, const struct tree_options *options,
	int (*edit)(void *data, struct tar_entry *e), void *data)
{
	_cleanup_free_ unsigned char *buffer = malloc(STREAM_BLOCK);
	struct input input = {.fd = in, .buffer = buffer};
	const struct stream stream = {next_block, &input};
	_cleanup_free_ struct tar *tar = malloc(sizeof(*tar));
	_cleanup_tree_ struct tree tree = TREE_INIT;
	const unsigned char *rest;
	ssize_t n;

	if (!buffer || !tar)
		return err_set(ENOMEM, "out of memory");
	tar_init(tar, &stream);
	int r = tree_begin(&tree, root, options);
	if (r >= 0)
		r = unpack_all(tar, &tree, edit, data);
	tar_release(tar);
	/*
	 * The bytes behind the tar's end are read too, because the program that writes the pipe
	 * would otherwise get SIGPIPE.
	 */
	while (r >= 0 && (n = stream_next(&stream, &rest)) != 0)
		r = n < 0 ? (int)n : 0;
	return r;
}

/* --- the commands in the guest --- */

static void warn(void *data, const char *text)
{
	fd_say(STDERR_FILENO, "caisson disk", text);
}

static int open_directory(struct inside_guest *g, const char *path)
{
	int fd = path_open(g->root, path, O_RDONLY | O_DIRECTORY);

	return fd;
}

int guest_tar_out(struct inside_guest *g, int argc, char **argv)
{
	struct pack *p = NULL;

	int r = mounts_make(g);
	_cleanup_fd_ int dir = r < 0 ? r : open_directory(g, argv[0]);
	if (dir < 0)
		return dir;
	r = pack_start(&p, STDOUT_FILENO);
	if (r >= 0)
		r = pack_add(p, dir, ".", NULL);
	if (r >= 0)
		r = pack_finish(p);
	pack_free(p);
	return r;
}

int guest_tar_in(struct inside_guest *g, int argc, char **argv)
{
	const struct tree_options options = {.warn = warn, .plain = true, .max_bytes = UINT64_MAX};

	int r = mounts_make(g);
	_cleanup_fd_ int dir = r < 0 ? r : open_directory(g, argv[0]);
	return dir < 0 ? dir : inside_unpack(STDIN_FILENO, dir, &options, NULL, NULL);
}

/*
 * Opens the directory of the disk in which the last component of `path` is, and copies that
 * component to `name`. Unlike path_parent(), the function makes no directories.
 */
static int open_parent(struct inside_guest *g, const char *path, char name[NAME_MAX + 1])
{
	_cleanup_free_ char *text = strdup(path);

	if (!text)
		return err_set(ENOMEM, "out of memory");
	for (size_t n = strlen(text); n > 1 && text[n - 1] == '/'; n--)
		text[n - 1] = '\0';
	char *slash = strrchr(text, '/'), *last = slash ? slash + 1 : text;
	if (!*last || streq(last, ".") || streq(last, "..") || strlen(last) > NAME_MAX)
		return err_set(EINVAL,
			"%s: expected a path that ends in a name; `caisson disk tar-out` and "
			"tar-in copy the content of a directory",
			path);
	memcpy(name, last, strlen(last) + 1);
	*last = '\0';
	return path_open(g->root, *text ? text : "/", O_RDONLY | O_DIRECTORY);
}

/* Adds a file or directory of the disk to the tar. A symbolic link is added as a link. */
static int pack_path(struct inside_guest *g, struct pack *p, const char *path, const char *as)
{
	char name[NAME_MAX + 1];
	struct stat st;

	_cleanup_fd_ int parent = open_parent(g, path, name);
	if (parent < 0)
		return parent;
	/* pack_add() would name `as`, which is nothing on the disk. */
	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys("%s", path);
	return pack_add(p, parent, name, as);
}

static int copy_out(struct inside_guest *g, int argc, char **argv)
{
	struct pack *p = NULL;
	int r = pack_start(&p, STDOUT_FILENO);

	for (int i = 0; i < argc && r >= 0; i++)
		r = pack_path(g, p, argv[i], i == 0 ? g->options.as : NULL);
	if (r >= 0)
		r = pack_finish(p);
	pack_free(p);
	return r;
}

/* The name that the copied file or directory gets in the disk, if `cp` gives it a new name. */
struct rename {
	const char *to;
	char name[TAR_NAME_MAX], link[TAR_NAME_MAX];
};

static int rename_first(const struct rename *n, const char *old, char *to, const char **ret)
{
	const char *rest = strchr(old, '/');

	if (snprintf(to, TAR_NAME_MAX, "%s%s", n->to, rest ? rest : "") >= (int)TAR_NAME_MAX)
		return err_set(ENAMETOOLONG, "%.500s: the name is too long", old);
	*ret = to;
	return 1;
}

static int rename_entry(void *data, struct tar_entry *e)
{
	struct rename *n = data;
	int r = rename_first(n, e->name, n->name, &e->name);

	return r > 0 && e->type == TAR_HARDLINK ? rename_first(n, e->link, n->link, &e->link) : r;
}

/*
 * Copies the tar on standard input to `target`, a path in the disk. `several` says that the tar has
 * more than one source, so `target` has to be a directory.
 */
static int copy_in(struct inside_guest *g, const char *target, bool several)
{
	const struct tree_options options = {.warn = warn,
		.plain = true,
		.max_bytes = UINT64_MAX,
		.squash = !g->options.archive};
	char name[NAME_MAX + 1];
	struct rename n;

	_cleanup_fd_ int dir = path_open(g->root, target, O_RDONLY | O_DIRECTORY);
	if (dir >= 0)
		return inside_unpack(STDIN_FILENO, dir, &options, NULL, NULL);
	if (several || target[strlen(target) - 1] == '/')
		return err_ctx(dir, "%s: expected a directory of the disk", target);
	_cleanup_fd_ int root = open_parent(g, target, name);
	if (root < 0)
		return root;
	n.to = name;
	return inside_unpack(STDIN_FILENO, root, &options, rename_entry, &n);
}

/*
 * Implements `cp` in the guest. The arguments are "out" SOURCE... for a copy out of the disk, and
 * "in" TARGET NUMBER-OF-SOURCES for a copy into the disk.
 */
int guest_cp(struct inside_guest *g, int argc, char **argv)
{
	int r = mounts_make(g);

	if (r < 0)
		return r;
	if (streq(argv[0], "out"))
		return copy_out(g, argc - 1, argv + 1);
	return copy_in(g, argv[1], !streq(argv[2], "1"));
}
