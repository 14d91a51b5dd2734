/* SPDX-License-Identifier: Apache-2.0 */
/* Open directories. Their offsets are the cookies of the host's file system. */
#include <dirent.h>
#include <sys/syscall.h>

#include "vm/fs/fs.h"

#define LIST_BUFFER 16384

struct linux_dirent64 { /* getdents64(2) */
	uint64_t d_ino;
	int64_t d_off;
	uint16_t d_reclen;
	uint8_t d_type;
	char d_name[];
};

int fs_opendir(struct fs_session *s, struct fs_request *r)
{
	struct fuse_open_out *out = (struct fuse_open_out *)s->reply;

	int fd = fs_node_open(r->node, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	*out = (struct fuse_open_out){0};
	int e = fs_file_add(s, r->node, fd, true, &out->fh);
	return e < 0 ? e : (int)sizeof(*out);
}

static bool is_dot(const char *name)
{
	return streq(name, ".") || streq(name, "..");
}

/* Writes one entry at s->reply + at. Returns its length, or 0 if it does not fit below `room`. */
static size_t write_entry(struct fs_session *s, const struct fs_node *dir,
	const struct linux_dirent64 *d, size_t at, size_t room, bool plus)
{
	size_t name_len = strlen(d->d_name), head = plus ? sizeof(struct fuse_entry_out) : 0;
	size_t len = head + FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + name_len);
	struct fuse_dirent *out = (struct fuse_dirent *)(s->reply + at + head);

	if (len > room - at)
		return 0;
	memset(s->reply + at, 0, len);
	/*
	 * Node 0 means that nothing is known of the entry: of "." and "..", of a file that was
	 * removed in the meantime, and if the server already holds as many inodes as it may.
	 */
	if (plus && !is_dot(d->d_name)) {
		struct fuse_entry_out *entry = (struct fuse_entry_out *)(s->reply + at);

		if (fs_node_lookup(s, dir, d->d_name, entry) < 0)
			*entry = (struct fuse_entry_out){0};
	}
	*out = (struct fuse_dirent){
		.ino = d->d_ino,
		.off = (uint64_t)d->d_off,
		.namelen = (uint32_t)name_len,
		.type = d->d_type,
	};
	memcpy(out->name, d->d_name, name_len);
	return len;
}

static int list_entries(struct fs_session *s, struct fs_request *r, bool plus)
{
	const struct fuse_read_in *in = r->args;
	struct fs_file *f = fs_file_get(s, r, in->fh, true);
	size_t room = in->size < FS_REPLY_MAX ? in->size : FS_REPLY_MAX, used = 0;
	size_t most = r->out_len - sizeof(struct fuse_out_header);
	_Alignas(struct linux_dirent64) char buffer[LIST_BUFFER];

	if (!f)
		return -EBADF;
	if (room > most)
		room = most;
	if (f->dir_offset != in->offset && lseek(f->fd, (off_t)in->offset, SEEK_SET) < 0)
		return -errno;
	f->dir_offset = in->offset;
	for (;;) {
		long n = syscall(SYS_getdents64, f->fd, buffer, sizeof(buffer));

		if (n < 0)
			return used ? (int)used : -errno;
		if (n == 0)
			return (int)used;
		for (long at = 0; at < n;) {
			const struct linux_dirent64 *d = (void *)(buffer + at);
			size_t len = write_entry(s, r->node, d, used, room, plus);

			if (len == 0) {
				/*
				 * The descriptor is at a later entry than the guest, so it goes
				 * back for the next request.
				 */
				if (lseek(f->fd, (off_t)f->dir_offset, SEEK_SET) < 0)
					return -errno;
				return used ? (int)used : -EINVAL;
			}
			used += len;
			at += d->d_reclen;
			f->dir_offset = (uint64_t)d->d_off;
		}
	}
}

int fs_readdir(struct fs_session *s, struct fs_request *r)
{
	return list_entries(s, r, false);
}

int fs_readdirplus(struct fs_session *s, struct fs_request *r)
{
	return list_entries(s, r, true);
}

int fs_releasedir(struct fs_session *s, struct fs_request *r)
{
	const struct fuse_release_in *in = r->args;

	if (!fs_file_get(s, r, in->fh, true))
		return -EBADF;
	fs_file_release(s, in->fh);
	return 0;
}

int fs_fsyncdir(struct fs_session *s, struct fs_request *r)
{
	const struct fuse_fsync_in *in = r->args;
	const struct fs_file *f = fs_file_get(s, r, in->fh, true);

	if (!f)
		return -EBADF;
	int e = in->fsync_flags & FUSE_FSYNC_FDATASYNC ? fdatasync(f->fd) : fsync(f->fd);
	return e < 0 ? -errno : 0;
}

/* The guest's sync(2), for the file system of that directory. */
int fs_syncfs(struct fs_session *s, struct fs_request *r)
{
	_cleanup_fd_ int fd = fs_node_open(r->node, O_RDONLY | O_DIRECTORY);

	if (fd < 0)
		return fd;
	return syncfs(fd) < 0 ? -errno : 0;
}
