/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads directories for the guest.
 *
 * Theory of operation. The guest names a position in a directory by a cookie of the host's file
 * system. Not every file system finds the same entry again by its cookie. In ramfs, and in tmpfs
 * before Linux 6.6, the cookie counts entries, so it names another entry as soon as one before it
 * is removed. On such a file system only a reader that never seeks sees each entry exactly once. So
 * the server reads entries in blocks and keeps the last block. It looks the guest's cookie up in
 * the block, and seeks on the host only if the guest's program itself does (seekdir, rewinddir).
 * The guest's kernel often asks for some entries again, because it drops those that do not fit into
 * the program's buffer. So a reply holds entries of one block only, and the server keeps the block
 * until the guest asks for entries behind it.
 */
#include <dirent.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "vm/fs/fs.h"

#define LIST_BUFFER 16384

struct linux_dirent64 { /* an entry as getdents64(2) returns it */
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

/*
 * Writes one entry at s->reply + at. Returns the entry's length, or 0 if the entry would reach
 * beyond `room`.
 */
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
	 * Node 0 tells the guest that the reply has no attributes of this entry. The server sends 0
	 * for "." and "..", for a file that was removed since the directory was read, and if the
	 * server already holds as many inodes as it may.
	 */
	uint64_t ino = fs_inode_number(s, dir->dev, d->d_ino);
	if (plus && !is_dot(d->d_name)) {
		struct fuse_entry_out *entry = (struct fuse_entry_out *)(s->reply + at);

		if (fs_node_lookup(s, dir, d->d_name, entry) < 0)
			*entry = (struct fuse_entry_out){0};
		/*
		 * Uses the inode number from the file's own attributes instead of the one in the
		 * directory entry, because a file of an overlay may be on another device than its
		 * directory.
		 */
		else if (entry->attr.ino)
			ino = entry->attr.ino;
	}
	*out = (struct fuse_dirent){
		.ino = ino,
		.off = (uint64_t)d->d_off,
		.namelen = (uint32_t)name_len,
		.type = d->d_type,
	};
	memcpy(out->name, d->d_name, name_len);
	return len;
}

/*
 * Looks in the block of entries that `f` holds for the entry that follows the cookie. Returns its
 * offset in the block, the length of the block if the entry was not read yet, or -1 if the cookie
 * is not in the block.
 */
static long find_entry(const struct fs_file *f, uint64_t cookie)
{
	long found = cookie == f->list_start ? 0 : -1;

	for (size_t at = 0; at < f->list_len;) {
		const struct linux_dirent64 *d = (void *)(f->list + at);

		at += d->d_reclen;
		/*
		 * If several entries have the same cookie, the search takes the last one, because
		 * with the first one the reader would get the same entries forever.
		 */
		if ((uint64_t)d->d_off == cookie)
			found = (long)at;
	}
	return found;
}

/*
 * Reads the block of entries behind `cookie` from the host's directory. The position of the
 * descriptor f->fd is already at the cookie.
 */
static int read_block(struct fs_file *f, uint64_t cookie)
{
	_Alignas(struct linux_dirent64) char buffer[LIST_BUFFER];

	long n = syscall(SYS_getdents64, f->fd, buffer, sizeof(buffer));
	if (n < 0)
		return -errno;
	free(f->list);
	f->list = NULL;
	f->list_len = 0;
	f->list_start = cookie;
	if (n == 0)
		return 0;
	f->list = malloc((size_t)n);
	if (!f->list) {
		/*
		 * If there is no memory for the entries, moves the position of the descriptor back
		 * to the cookie, so that the next call of this function reads the same entries.
		 */
		return lseek(f->fd, (off_t)cookie, SEEK_SET) < 0 ? -errno : -ENOMEM;
	}
	memcpy(f->list, buffer, (size_t)n);
	f->list_len = (size_t)n;
	return 0;
}

/*
 * Makes sure that the block of entries that `f` keeps has the entry that follows the cookie, and
 * reads another block if necessary. Returns the entry's offset in the block, or -errno.
 */
static long go_to(struct fs_file *f, uint64_t cookie)
{
	/*
	 * Cookie 0 is the beginning of the directory. For this cookie the server always reads the
	 * directory from the host, and does not use the block of entries that it has kept from an
	 * earlier read, because after rewinddir(3) the guest wants the entries that the directory
	 * has now.
	 */
	long at = cookie ? find_entry(f, cookie) : -1;

	if (at >= 0 && (size_t)at < f->list_len)
		return at;
	if (at < 0 && lseek(f->fd, (off_t)cookie, SEEK_SET) < 0)
		return -errno;
	int e = read_block(f, cookie);
	return e < 0 ? e : 0;
}

static int list_entries(struct fs_session *s, struct fs_request *r, bool plus)
{
	const struct fuse_read_in *in = r->args;
	struct fs_file *f = fs_file_get(s, r, in->fh, true);
	size_t room = in->size < FS_REPLY_MAX ? in->size : FS_REPLY_MAX, used = 0;
	size_t most = r->out_len - sizeof(struct fuse_out_header);

	if (!f)
		return -EBADF;
	if (room > most)
		room = most;
	long start = go_to(f, in->offset);
	if (start < 0)
		return (int)start;
	for (size_t at = (size_t)start; at < f->list_len;) {
		const struct linux_dirent64 *d = (void *)(f->list + at);
		size_t len = write_entry(s, r->node, d, used, room, plus);

		if (len == 0)
			return used ? (int)used : -EINVAL;
		used += len;
		at += d->d_reclen;
	}
	return (int)used;
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

/*
 * Syncs the host file system that the node is on, unless this file system is marked in `done`,
 * which has a flag for each entry of s->devices. Then sets the mark, so that each file system is
 * synced once.
 */
static int sync_device(struct fs_session *s, struct fs_node *n, bool *done)
{
	uint32_t i = 0;

	while (i < s->ndevices && s->devices[i] != n->dev)
		i++;
	if ((i < s->ndevices && done[i]) || (!S_ISREG(n->type) && !S_ISDIR(n->type)))
		return 0;
	/* If this node cannot be opened, the caller tries another node of the same file system. */
	if (fs_node_pin(s, n) < 0)
		return 0;
	_cleanup_fd_ int fd = fs_node_open(n, O_RDONLY);
	int e = fd >= 0 && syncfs(fd) < 0 ? -errno : 0;
	if (fd >= 0 && i < s->ndevices)
		done[i] = true;
	fs_node_unpin(s, n);
	return e;
}

/*
 * Serves the guest's sync(2) and syncfs(2). The guest sees the whole share as one file system, so
 * the server syncs every host file system that has a file which the guest knows.
 */
int fs_syncfs(struct fs_session *s, struct fs_request *r)
{
	_cleanup_free_ bool *done = calloc(FS_DEVICES_MAX, sizeof(*done));
	int first = 0;

	if (!done)
		return -ENOMEM;
	for (uint32_t i = 1; i < s->nodes.used; i++) {
		struct fs_node *n = s->nodes.slot[i].object;
		int e = n ? sync_device(s, n, done) : 0;
		first = first ? first : e;
	}
	return first;
}
