/* SPDX-License-Identifier: Apache-2.0 */
#include "images/oci/export_target.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/path.h"

#define COPY_SIZE (256u << 10)
#define TAR_BLOCK_SIZE 512u

static int write_out(int fd, const void *data, size_t len)
{
	int r = fd_write_all(fd, data, len);

	return r < 0 ? err_set(-r, "write the image: %s", err_text(-r)) : 0;
}

static int write_header(struct export_target *t, const char *name, uint64_t size, char type)
{
	unsigned char h[TAR_BLOCK_SIZE] = {0};
	unsigned sum = 0;

	snprintf((char *)h, 100, "%s", name);
	memcpy(h + 100,
		"0000644\0"
		"0000000\0"
		"0000000\0",
		24);
	if (size >> 33) {
		/*
		 * A size with more than eleven octal digits is written in base 256, an extension of
		 * GNU that all readers support.
		 */
		h[124] = 0x80;
		for (int i = 0; i < 8; i++)
			h[135 - i] = (unsigned char)(size >> (8 * i));
	} else {
		snprintf((char *)h + 124, 12, "%011llo", (unsigned long long)size);
	}
	memcpy(h + 136, "00000000000\0        ", 20);
	h[156] = (unsigned char)type;
	memcpy(h + 257,
		"ustar\0"
		"00",
		8);
	for (size_t i = 0; i < sizeof(h); i++)
		sum += h[i];
	snprintf((char *)h + 148, 8, "%06o", sum);
	return write_out(t->fd, h, sizeof(h));
}

static int write_padding(struct export_target *t, uint64_t size)
{
	static const char zeros[TAR_BLOCK_SIZE];

	return write_out(t->fd, zeros, (TAR_BLOCK_SIZE - size % TAR_BLOCK_SIZE) % TAR_BLOCK_SIZE);
}

/*
 * Writes the header of a tar member. If the name is longer than the 100 bytes of a header, as a
 * name with a sha512 digest is, a PAX record with the name comes before the header.
 */
static int begin_member(struct export_target *t, const char *name, uint64_t size)
{
	char record[400];
	int r = 0;

	if (strlen(name) > 100) {
		/*
		 * The length of the PAX record, with which it begins, has three digits, because the
		 * name has more than 100 and less than 300 bytes.
		 */
		size_t len = strlen(name) + sizeof("000 path=\n") - 1;
		snprintf(record, sizeof(record), "%zu path=%s\n", len, name);
		r = write_header(t, "pax", strlen(record), 'x');
		if (r >= 0)
			r = write_out(t->fd, record, strlen(record));
		if (r >= 0)
			r = write_padding(t, strlen(record));
	}
	return r < 0 ? r : write_header(t, name, size, '0');
}

/*
 * Opens the directory of a name such as "blobs/sha256/HEX". No symbolic link is followed, because
 * the layout may come from somebody else, and a symbolic link in it could lead to any directory of
 * the host.
 */
static int open_parent(const struct export_target *t, const char *name, const char **ret_last)
{
	const char *slash = strrchr(name, '/');
	char path[64] = ".";

	*ret_last = slash ? slash + 1 : name;
	if (slash)
		snprintf(path, sizeof(path), "%.*s", (int)(slash - name), name);
	int fd = path_open_nolinks(t->fd, path, O_RDONLY | O_DIRECTORY);
	if (fd == -ELOOP || fd == -ENOTDIR)
		return err_set(-fd,
			"%s is no directory of its own, or one above it is a symbolic link: "
			"export into a new directory",
			path);
	return fd;
}

/*
 * If the result `r` of writing a new file is success, gives the file its final name; otherwise
 * removes the file.
 */
static int name_new(int dir, const char *temporary, const char *name, int r)
{
	if (r >= 0 && renameat(dir, temporary, dir, name) < 0)
		r = err_sys("name %s", name);
	if (r < 0)
		unlinkat(dir, temporary, 0);
	return r;
}

static int write_file(struct export_target *t, const char *path, const void *data, size_t len)
{
	char temporary[FD_TMP_MAX];
	const char *name;
	_cleanup_fd_ int dir = open_parent(t, path, &name);

	if (dir < 0)
		return dir;
	_cleanup_fd_ int fd = fd_open_temporary(dir, name, 0644, temporary);
	return fd < 0 ? fd : name_new(dir, temporary, name, write_out(fd, data, len));
}

int export_bytes(struct export_target *t, const char *name, const void *data, size_t len)
{
	if (!t->tar)
		return write_file(t, name, data, len);
	int r = begin_member(t, name, len);
	if (r >= 0)
		r = write_out(t->fd, data, len);
	return r < 0 ? r : write_padding(t, len);
}

/*
 * Copies a blob and checks the blob's digest at the same time, so that a damaged store does not
 * produce damaged images.
 */
static int copy_blob(int from, int to, const struct descriptor *d)
{
	_cleanup_hasher_ struct hasher h = {0};
	_cleanup_free_ char *buf = malloc(COPY_SIZE);
	struct digest found;
	uint64_t done = 0;

	if (!buf)
		return err_set(ENOMEM, "out of memory");
	int r = hasher_init(&h, d->digest.algorithm);
	while (r >= 0) {
		ssize_t n = read(from, buf, COPY_SIZE);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys("read the blob %s", d->digest.text);
		if (n == 0)
			break;
		done += (uint64_t)n;
		r = hasher_update(&h, buf, (size_t)n);
		if (r >= 0)
			r = write_out(to, buf, (size_t)n);
	}
	if (r >= 0)
		r = hasher_final(&h, &found);
	if (r >= 0 && (done != d->size || !digest_equal(&found, &d->digest)))
		r = err_set(EBADMSG, "the blob %s of the store is damaged", d->digest.text);
	return r;
}

static int blob_to_dir(
	struct export_target *t, const char *path, int from, const struct descriptor *d)
{
	char temporary[FD_TMP_MAX];
	const char *name;
	struct stat st;
	_cleanup_fd_ int dir = open_parent(t, path, &name);

	if (dir < 0)
		return dir;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
		(uint64_t)st.st_size == d->size)
		return 0;
	_cleanup_fd_ int fd = fd_open_temporary(dir, name, 0644, temporary);
	return fd < 0 ? fd : name_new(dir, temporary, name, copy_blob(from, fd, d));
}

/*
 * Notes that the tar gets the member `name`, so that it is not written twice. Returns 1 if the tar
 * has the member already.
 */
static int note_written(struct export_target *t, const char *name)
{
	for (size_t i = 0; i < t->nwritten; i++)
		if (streq(t->written[i], name))
			return 1;
	if (t->nwritten == t->cap) {
		size_t cap = t->cap ? t->cap * 2 : 64;
		const char **v = reallocarray(t->written, cap, sizeof(*v));
		if (!v)
			return err_set(ENOMEM, "out of memory");
		t->written = v;
		t->cap = cap;
	}
	t->written[t->nwritten] = arena_strdup(&t->arena, name);
	return t->written[t->nwritten] ? (t->nwritten++, 0) : -ENOMEM;
}

static int blob_to_tar(
	struct export_target *t, const char *name, int from, const struct descriptor *d)
{
	int r = begin_member(t, name, d->size);

	if (r >= 0)
		r = copy_blob(from, t->fd, d);
	return r < 0 ? r : write_padding(t, d->size);
}

int export_blob(struct export_target *t, const char *name, const struct descriptor *d)
{
	uint64_t size;
	int r = t->tar ? note_written(t, name) : 0;

	if (r != 0)
		return r < 0 ? r : 0;
	_cleanup_fd_ int from = store_open_blob(t->s, &d->digest, &size);
	if (from < 0)
		return from;
	if (size != d->size)
		return err_set(EBADMSG, "the blob %s of the store is damaged", d->digest.text);
	return t->tar ? blob_to_tar(t, name, from, d) : blob_to_dir(t, name, from, d);
}

/*
 * Makes the directories for blobs in a layout. No symbolic link in the layout is followed, because
 * the layout may come from somebody else.
 */
static int make_blob_dirs(const struct export_target *t)
{
	static const char *const paths[] = {"blobs", "blobs/sha256", "blobs/sha512"};

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		const char *name;
		_cleanup_fd_ int dir = open_parent(t, paths[i], &name);
		if (dir < 0)
			return dir;
		if (mkdirat(dir, name, 0755) < 0 && errno != EEXIST)
			return err_sys("create %s", paths[i]);
	}
	return 0;
}

int export_open_dir(struct export_target *t, const struct store *s, const char *path, bool layout)
{
	*t = (struct export_target){.fd = -EBADF, .s = s};
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return err_sys("create %s", path);
	t->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (t->fd < 0)
		return err_sys("open %s", path);
	return layout ? make_blob_dirs(t) : 0;
}

int export_open_tar(struct export_target *t, const struct store *s, const char *path)
{
	*t = (struct export_target){.tar = true, .s = s};
	t->fd = streq(path, "-") ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)
				 : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	return t->fd < 0 ? err_sys("create %s", path) : 0;
}

int export_close_tar(struct export_target *t, const char *path, int r)
{
	static const char end[2 * TAR_BLOCK_SIZE];
	struct stat st;

	if (r >= 0)
		r = write_out(t->fd, end, sizeof(end));
	bool file = !streq(path, "-") && fstat(t->fd, &st) == 0 && S_ISREG(st.st_mode);
	if (close(take_fd(&t->fd)) < 0 && r >= 0)
		r = err_sys("write %s", path);
	if (r < 0 && file)
		unlink(path);
	return r;
}

void export_release(struct export_target *t)
{
	fd_close(&t->fd);
	free(t->written);
	t->written = NULL;
	arena_release(&t->arena);
}
