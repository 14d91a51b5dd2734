/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies a directory tree. The source is hostile and may change during the copying. So every entry
 * is opened without following links, and the entry's type is read from the descriptor, not from the
 * name.
 */
#include "base/copy.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/dir.h"
#include "base/fd.h"

/* how many levels of directories are copied at most; each level needs two descriptors */
#define DEPTH_MAX 128
/*
 * The kernel's limit in bytes, both for the names of all extended attributes of a file together and
 * for the value of one attribute.
 */
#define XATTR_MAX 65536

static int copy_dir(int from, int to, int depth);

static int entry_failed(const char *name)
{
	return err_set(errno, "copy %s: %s", name, err_text(errno));
}

/*
 * Copies the extended attributes of a file. Attributes that the file system or the user namespace
 * does not allow to set are left out.
 */
static int copy_xattrs(int in, int out, const char *name)
{
	_cleanup_free_ char *names = malloc(XATTR_MAX), *value = malloc(XATTR_MAX);

	if (!names || !value)
		return err_set(ENOMEM, "out of memory");
	ssize_t len = flistxattr(in, names, XATTR_MAX);
	if (len < 0)
		return errno == ENOTSUP ? 0 : entry_failed(name);
	for (const char *n = names; n < names + len; n += strlen(n) + 1) {
		ssize_t size = fgetxattr(in, n, value, XATTR_MAX);
		if (size < 0 || fsetxattr(out, n, value, (size_t)size, 0) < 0) {
			if (errno != ENOTSUP && errno != EPERM && errno != EINVAL &&
				errno != ENODATA)
				return entry_failed(name);
		}
	}
	return 0;
}

/*
 * Gives the copy at `path` in the directory fd, or fd itself if path is empty, the owner of the
 * original. If the user namespace does not map the owner's id (EINVAL), the copy stays owned by the
 * user of this process.
 */
static int copy_owner(int fd, const char *path, const struct stat *st)
{
	int r = fchownat(fd, path, st->st_uid, st->st_gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW);

	return r < 0 && errno != EINVAL ? -1 : 0;
}

/*
 * Copies the attributes of a file. The owner is set first, because chown(2) takes set-id bits and
 * file capabilities away. The times are set last, because setting the other attributes changes the
 * times.
 */
static int copy_attrs(int in, int out, const struct stat *st, const char *name)
{
	struct timespec times[2] = {st->st_atim, st->st_mtim};

	if (copy_owner(out, "", st) < 0 || fchmod(out, st->st_mode & 07777) < 0)
		return entry_failed(name);
	int r = copy_xattrs(in, out, name);
	if (r >= 0 && futimens(out, times) < 0)
		r = entry_failed(name);
	return r;
}

/*
 * Copies the parts of the file that hold data, and skips the holes, because zeros written in place
 * of the holes would take up memory or disk. Returns -1 and sets errno on failure.
 */
static int copy_data(int in, int out, off_t size)
{
	for (off_t at = 0; at < size;) {
		off_t from = lseek(in, at, SEEK_DATA);
		if (from < 0 && errno == ENXIO)
			/*
			 * The original has no data behind `from`, so the rest of the file is a
			 * hole.
			 */
			break;
		/* If the file system does not support SEEK_DATA, the whole file counts as data. */
		off_t end = from < 0 ? size : lseek(in, from, SEEK_HOLE);
		if (from < 0)
			from = at;
		if (end < 0 || lseek(out, from, SEEK_SET) < 0)
			return -1;
		for (at = from; at < end;) {
			ssize_t n = sendfile(out, in, &at, (size_t)(end - at));
			if (n < 0 && errno != EINTR)
				return -1;
			if (n == 0)
				/*
				 * The original was shortened while it was copied. The copy gets the
				 * size that the original had at first.
				 */
				return ftruncate(out, size);
		}
	}
	return ftruncate(out, size);
}

static int copy_file(int dir, int to, const char *name)
{
	struct stat st;

	/*
	 * O_NONBLOCK is set because the file may have been replaced by a FIFO, and opening a FIFO
	 * would wait for a writer.
	 */
	_cleanup_fd_ int in =
		openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (in < 0 || fstat(in, &st) < 0)
		return entry_failed(name);
	if (!S_ISREG(st.st_mode))
		return err_set(EBUSY, "%s changed while it was copied", name);
	_cleanup_fd_ int out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (out < 0)
		return entry_failed(name);
	if (copy_data(in, out, st.st_size) < 0)
		return entry_failed(name);
	return copy_attrs(in, out, &st, name);
}

static int copy_subdir(int dir, int to, const char *name, int depth)
{
	struct stat st;

	_cleanup_fd_ int in = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (in < 0 || fstat(in, &st) < 0 || mkdirat(to, name, 0700) < 0)
		return entry_failed(name);
	_cleanup_fd_ int out = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (out < 0)
		return entry_failed(name);
	int r = copy_dir(in, out, depth + 1);
	return r < 0 ? err_ctx(r, "%s", name) : copy_attrs(in, out, &st, name);
}

static int copy_link(int dir, int to, const char *name)
{
	char target[PATH_MAX + 1];

	ssize_t n = readlinkat(dir, name, target, PATH_MAX);
	if (n < 0)
		return entry_failed(name);
	target[n] = '\0';
	return symlinkat(target, to, name) < 0 ? entry_failed(name) : 0;
}

static int copy_entry(int dir, int to, const char *name, int depth)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		/*
		 * A directory entry that another process has deleted since the directory was read
		 * is skipped.
		 */
		return errno == ENOENT ? 0 : entry_failed(name);
	switch (st.st_mode & S_IFMT) {
	case S_IFREG:
		return copy_file(dir, to, name);
	case S_IFDIR:
		return copy_subdir(dir, to, name, depth);
	case S_IFLNK: {
		int r = copy_link(dir, to, name);
		if (r < 0)
			return r;
		break;
	}
	default:
		if (mknodat(to, name, st.st_mode, st.st_rdev) < 0)
			return entry_failed(name);
	}
	struct timespec times[2] = {st.st_atim, st.st_mtim};
	if (copy_owner(to, name, &st) < 0 || utimensat(to, name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return entry_failed(name);
	return 0;
}

static int copy_dir(int from, int to, int depth)
{
	int r = 0;

	if (depth > DEPTH_MAX)
		return err_set(ELOOP, "more than %d levels of directories", DEPTH_MAX);
	int fd = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = dir_take_fd(fd);
	if (!dir)
		return err_sys("read the directory");
	for (;;) {
		errno = 0;
		const struct dirent *e = readdir(dir);
		if (!e) {
			r = errno ? err_sys("read the directory") : 0;
			break;
		}
		if (streq(e->d_name, ".") || streq(e->d_name, ".."))
			continue;
		r = copy_entry(fd, to, e->d_name, depth);
		if (r < 0)
			break;
	}
	closedir(dir);
	return r;
}

int copy_tree(int from, int to)
{
	return copy_dir(from, to, 0);
}

int copy_tree_with_root(int from, int to)
{
	struct stat st;
	int r = copy_dir(from, to, 0);

	if (r >= 0 && fstat(from, &st) < 0)
		r = entry_failed(".");
	return r < 0 ? r : copy_attrs(from, to, &st, ".");
}
