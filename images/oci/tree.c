/* SPDX-License-Identifier: Apache-2.0 */
#include "images/oci/tree.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include "base/path.h"
#include "images/oci/tree_internal.h"

#define WHITEOUT ".wh."
#define OPAQUE ".wh..wh..opq"
#define AUFS ".wh..wh."
#define BYTES_RESERVED (16u << 20) /* how many bytes of the file system unpacking leaves free */

void tree_warn(struct tree *t, enum tree_warning kind, const char *name, const char *why)
{
	char text[600];

	if (!t->options->warn || t->warned & (1u << kind))
		return;
	t->warned |= 1u << kind;
	switch (kind) {
	case TREE_WARN_DEVICE:
		snprintf(text, sizeof(text),
			"%.200s is not made, nor are other device nodes: this user may not make "
			"them",
			name);
		break;
	case TREE_WARN_WHITEOUT_DEVICE:
		snprintf(text, sizeof(text),
			"%.200s is not made: a device node 0:0 is overlayfs's mark of a removed "
			"file",
			name);
		break;
	case TREE_WARN_XATTR:
		snprintf(text, sizeof(text),
			"%.200s does not get its extended attribute %.100s, and others may be "
			"missing too: "
			"the file system or this user may not set it",
			name, why);
		break;
	case TREE_WARN_OVERLAY_XATTR:
		snprintf(text, sizeof(text),
			"%.200s does not get %.100s, which means something to overlayfs", name,
			why);
		break;
	case TREE_WARN_OWNER:
		snprintf(text, sizeof(text),
			"%.200s gets this user as its owner, and others may too: %.200s", name,
			why);
		break;
	}
	t->options->warn(t->options->data, text);
}

int tree_begin(struct tree *t, int root, const struct tree_options *options)
{
	struct statvfs fs;

	*t = (struct tree)TREE_INIT;
	t->root = root;
	t->options = options;
	t->bytes_left = options->max_bytes;
	if (!t->bytes_left) {
		if (fstatvfs(root, &fs) < 0)
			return err_sys("look at the file system");
		uint64_t avail = (uint64_t)fs.f_bavail * fs.f_frsize;
		t->bytes_left = avail > BYTES_RESERVED ? avail - BYTES_RESERVED : 0;
	}
	int r = seen_new(&t->seen);
	return r < 0 ? r : dir_times_new(&t->times);
}

static void forget_parent(struct tree *t)
{
	fd_close(&t->parent);
	free(t->parent_path);
	t->parent_path = NULL;
}

void tree_release(struct tree *t)
{
	forget_parent(t);
	fd_close(&t->file);
	seen_free(t->seen);
	dir_times_free(t->times);
	links_free(t->links);
	t->links = NULL;
	t->seen = NULL;
	t->times = NULL;
}

/*
 * Turns a name of the tar into a plain relative path, without "." components, doubled slashes and
 * slashes at either end. *ret_name points to the last component in buf, which is "" for the root
 * itself.
 */
static int clean_name(const char *name, char buf[TAR_NAME_MAX], char **ret_name)
{
	char *out = buf;

	*ret_name = buf;
	if (!*name)
		return err_set(EBADMSG, "an entry has no name");
	for (const char *p = name; *p;) {
		size_t len = strcspn(p, "/");
		if (len == 2 && p[0] == '.' && p[1] == '.')
			return err_set(EBADMSG, "the name %.300s has a component \"..\"", name);
		if (len > NAME_MAX)
			return err_set(ENAMETOOLONG,
				"the name %.300s... has a component of %zu bytes", name, len);
		if (len > 0 && !(len == 1 && p[0] == '.')) {
			if (out > buf)
				*out++ = '/';
			*ret_name = out;
			memcpy(out, p, len);
			out += len;
		}
		p += len + (p[len] == '/');
	}
	*out = '\0';
	return 0;
}

int tree_note_parent(struct tree *t, int fd, const char *path)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys("look at the directory %s", path);
	return dir_times_note(t->times, path, &st, &st.st_mtim, true);
}

/*
 * Opens the directory `path`, and makes the directory and its parents if they are missing. Records
 * the times of the directories in which it makes others. Begins at the end of the path, because
 * most often only the last directory is missing. Makes each directory through its parent's
 * descriptor, so that a long path costs no more system calls than it has components.
 */
static int make_parents(struct tree *t, const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	_cleanup_free_ char *above = slash ? strndup(path, (size_t)(slash - path)) : strdup(".");

	if (!above)
		return err_set(ENOMEM, "out of memory");
	_cleanup_fd_ int parent = path_open(t->root, above, O_PATH | O_DIRECTORY);
	if (parent == -ENOENT && slash)
		parent = make_parents(t, above);
	if (parent < 0)
		return parent;
	int r = tree_note_parent(t, parent, above);
	if (r < 0)
		return r;
	if (mkdirat(parent, name, 0755) == 0) {
		int fd = openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		return fd < 0 ? err_sys("open the directory %s", path) : fd;
	}
	/*
	 * If mkdirat(2) fails with EEXIST, the name is a symbolic link whose target is missing,
	 * because a directory would have been found before. The target directory is then made.
	 */
	if (errno == EEXIST)
		return path_mkdirs(t->root, path);
	return err_sys("create the directory %s", path);
}

/*
 * Returns a descriptor of the directory `path` ("" is the root), which the struct tree keeps and
 * closes later. Makes the directory if it is missing and `make` is set.
 */
static int open_parent(struct tree *t, const char *path, bool make)
{
	const char *name = *path ? path : ".";

	if (t->parent >= 0 && streq(t->parent_path, path))
		return t->parent;
	forget_parent(t);
	t->parent = path_open(t->root, name, O_PATH | O_DIRECTORY);
	if (t->parent == -ENOENT && make)
		t->parent = make_parents(t, path);
	if (t->parent < 0)
		return t->parent;
	t->parent_path = strdup(path);
	if (!t->parent_path)
		return err_set(ENOMEM, "out of memory");
	int r = tree_note_parent(t, t->parent, name);
	return r < 0 ? r : t->parent;
}

/*
 * Opens a directory a second time, to read its entries or set its properties, because an O_PATH
 * descriptor allows neither.
 */
static int reopen_dir(int fd)
{
	int dir = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return dir < 0 ? err_sys("open a directory") : dir;
}

static int white_out(struct tree *t, const char *parent_path, const char *name)
{
	const char *hidden = name + strlen(WHITEOUT);
	bool opaque = streq(name, OPAQUE);

	if (!opaque && (!*hidden || streq(hidden, ".") || streq(hidden, "..")))
		return err_set(EBADMSG, "a whiteout %s hides no name", name);
	int parent = open_parent(t, parent_path, false);
	/*
	 * If the directory in which the whiteout hides a name does not exist, or is a file, the
	 * whiteout has no effect. umoci writes such whiteouts when a directory became a file.
	 */
	if (parent == -ENOENT || parent == -ENOTDIR) {
		err_clear();
		return 0;
	}
	if (parent < 0)
		return parent;
	int r = opaque ? tree_clear(parent, t->seen) : tree_remove(parent, hidden, t->seen);
	forget_parent(t);
	return r;
}

/*
 * Returns whether `path` is a file that tools put into layers for their own use; such a file is not
 * unpacked.
 */
static bool is_tool_name(const char *path)
{
	static const char *const names[] = {
		"stargz.index.json", ".prefetch.landmark", ".no.prefetch.landmark"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (streq(path, names[i]))
			return true;
	return false;
}

/*
 * Checks the components of an entry's path for the prefixes of whiteouts. Returns 1 if the entry is
 * one of AUFS's own files, and -EBADMSG if a directory in the path has the name of a whiteout.
 */
static int check_components(const char *path, const char *last)
{
	for (const char *p = path; p < last; p += strcspn(p, "/") + 1) {
		if (str_starts(p, AUFS))
			return 1;
		if (str_starts(p, WHITEOUT))
			return err_set(EBADMSG, "the name %.300s goes through a whiteout", path);
	}
	return str_starts(last, AUFS) && !streq(last, OPAQUE);
}

/*
 * Makes `name` free for a new object by removing the file that has this name. If the file and the
 * new object are both directories, the file stays, and *ret_exists is set.
 */
static int make_room(struct tree *t, int parent, const char *name, bool dir, bool *ret_exists)
{
	struct stat st;

	*ret_exists = false;
	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_sys("look at %s", name);
	if (S_ISDIR(st.st_mode) && dir) {
		*ret_exists = true;
		return 0;
	}
	if (S_ISDIR(st.st_mode) && t->options->plain)
		return err_set(EISDIR, "%s is a directory, and would be replaced by a file", name);
	return tree_remove(parent, name, NULL);
}

static int add_dir(
	struct tree *t, const struct object *o, const char *path, const struct tar_entry *e)
{
	struct stat st;
	bool exists = false;
	bool root = !*path;
	int r = root ? 0 : make_room(t, o->parent, o->name, true, &exists);

	if (r < 0)
		return r;
	if (!root && !exists && mkdirat(o->parent, o->name, 0700) < 0)
		return err_sys("create the directory %s", e->name);
	_cleanup_fd_ int fd =
		root ? reopen_dir(t->root)
		     : openat(o->parent, o->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return root ? fd : err_sys("open the directory %s", e->name);
	if (fstat(fd, &st) < 0)
		return err_sys("look at the directory %s", e->name);
	r = dir_times_note(t->times, root ? "." : path, &st, &e->mtime, false);
	return r < 0 ? r : object_set(t, &(struct object){.fd = fd}, e);
}

static int add_file(struct tree *t, const struct object *o, const struct tar_entry *e)
{
	if (e->stored > t->bytes_left)
		return err_set(ENOSPC,
			"%s: with its %" PRIu64 " bytes the layer needs more than the %" PRIu64
			" bytes that are left for it",
			e->name, e->stored, t->bytes_left);
	t->bytes_left -= e->stored;
	t->file = openat(
		o->parent, o->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (t->file < 0)
		return err_sys("create the file %s", e->name);
	return 1;
}

static int add_symlink(struct tree *t, const struct object *o, const struct tar_entry *e)
{
	if (!*e->link)
		return err_set(EBADMSG, "the symbolic link %s has no target", e->name);
	if (symlinkat(e->link, o->parent, o->name) < 0)
		return err_sys("create the symbolic link %s", e->name);
	return object_set(t, o, e);
}

static int add_node(struct tree *t, const struct object *o, const struct tar_entry *e)
{
	mode_t type = e->type == TAR_CHAR ? S_IFCHR : e->type == TAR_BLOCK ? S_IFBLK : S_IFIFO;
	dev_t dev = e->type == TAR_FIFO ? 0 : makedev(e->major, e->minor);

	if (e->type == TAR_CHAR && e->major == 0 && e->minor == 0) {
		tree_warn(t, TREE_WARN_WHITEOUT_DEVICE, e->name, NULL);
		return 0;
	}
	if (mknodat(o->parent, o->name, type | 0600, dev) < 0) {
		if (errno == EPERM && e->type != TAR_FIFO) {
			tree_warn(t, TREE_WARN_DEVICE, e->name, NULL);
			return 0;
		}
		return err_sys("create the node %s", e->name);
	}
	return object_set(t, o, e);
}

/*
 * Makes a hard link to a file of this layer or of a lower one. The target's parent directory is
 * resolved inside the root, and the target itself is not followed, so that a hard link to a
 * symbolic link works. A target that cannot be linked is an error, because a copy would be another
 * file, and might be a copy of a file of the host.
 */
static int add_hardlink(struct tree *t, const struct object *o, const struct tar_entry *e)
{
	char buf[TAR_NAME_MAX], *last;
	struct stat target, there;
	bool exists;
	int r = clean_name(e->link, buf, &last);

	if (r < 0)
		return err_ctx(r, "the hard link %s", e->name);
	if (!*last)
		return err_set(EBADMSG, "the hard link %s leads to the root directory", e->name);
	if (last > buf)
		last[-1] = '\0';
	_cleanup_fd_ int parent = path_open(t->root, last > buf ? buf : ".", O_PATH | O_DIRECTORY);
	if (parent < 0)
		return err_ctx(parent, "the hard link %s to %s", e->name, e->link);
	if (fstatat(parent, last, &target, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys("the hard link %s to %s", e->name, e->link);
	if (fstatat(o->parent, o->name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
		there.st_ino == target.st_ino && there.st_dev == target.st_dev)
		return 0;
	r = links_find(t, &target);
	if (r >= 0)
		r = make_room(t, o->parent, o->name, false, &exists);
	if (r < 0)
		return r;
	if (linkat(parent, last, o->parent, o->name, 0) < 0)
		return err_sys("link %s to %s", e->name, e->link);
	return links_keep(t, &target, o->parent, o->name);
}

static int add_object(
	struct tree *t, const struct object *o, const char *path, const struct tar_entry *e)
{
	bool exists;

	if (e->type == TAR_DIR)
		return add_dir(t, o, path, e);
	if (e->type == TAR_HARDLINK)
		return add_hardlink(t, o, e);
	int r = make_room(t, o->parent, o->name, false, &exists);
	if (r < 0)
		return r;
	switch (e->type) {
	case TAR_FILE:
		return add_file(t, o, e);
	case TAR_SYMLINK:
		return add_symlink(t, o, e);
	default:
		return add_node(t, o, e);
	}
}

int tree_add(struct tree *t, const struct tar_entry *e)
{
	char path[TAR_NAME_MAX], parent_path[TAR_NAME_MAX], *name;
	struct stat st;
	int r = clean_name(e->name, path, &name);

	if (r >= 0 && ++t->entries > TREE_ENTRIES_MAX)
		return err_set(E2BIG, "the layer has more than %u entries", TREE_ENTRIES_MAX);
	if (r >= 0 && !t->options->plain)
		r = check_components(path, name);
	if (r != 0)
		return r < 0 ? r : 0;
	size_t len = name > path ? (size_t)(name - path - 1) : 0;
	memcpy(parent_path, path, len);
	parent_path[len] = '\0';
	if (str_starts(name, WHITEOUT) && !t->options->plain)
		return white_out(t, parent_path, name);
	if (is_tool_name(path) && !t->options->plain)
		return 0;
	if (!*path && e->type != TAR_DIR)
		return err_set(EBADMSG, "the root directory is no directory in the layer");
	int parent = open_parent(t, parent_path, true);
	if (parent < 0)
		return err_ctx(parent, "%s", e->name);
	if (fstat(parent, &st) < 0)
		return err_sys("look at the directory of %s", e->name);
	r = add_object(t, &(struct object){.fd = -EBADF, .parent = parent, .name = name}, path, e);
	if (r < 0)
		return r;
	int added = *path ? seen_add(t->seen, st.st_ino, name) : 0;
	return added < 0 ? added : r;
}

int tree_write(struct tree *t, const void *data, size_t len, uint64_t offset)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = pwrite(t->file, p, len, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys("write a file");
		p += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

int tree_close_file(struct tree *t, const struct tar_entry *e)
{
	/* The file is extended to its full size, because a sparse file may end in a hole. */
	if (e->size != e->stored && ftruncate(t->file, (off_t)e->size) < 0)
		return err_sys("set the size of %s", e->name);
	int r = object_set(t, &(struct object){.fd = t->file}, e);
	fd_close(&t->file);
	return r;
}

int tree_end(struct tree *t)
{
	forget_parent(t);
	return dir_times_apply(t->times, t->root);
}
