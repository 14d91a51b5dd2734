/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps the nodes (the inodes that the guest knows) and finds them by the guest's number or by
 * mount, device and inode number. The mount is part of the key because one inode may be visible
 * through two mounts, one of which is read-only.
 */
#include "vm/fs/fs.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/sys.h"

static uint32_t hash_key(uint64_t dev, uint64_t ino, uint64_t mnt)
{
	uint64_t h = (ino ^ dev << 20 ^ mnt << 7) * UINT64_C(0x9e3779b97f4a7c15);

	return (uint32_t)(h >> 32);
}

static struct fs_node *find_node(const struct fs_session *s, const struct statx *st)
{
	uint32_t h = hash_key(fs_stat_dev(st), st->stx_ino, st->stx_mnt_id);

	if (!s->nbuckets)
		return NULL;
	for (struct fs_node *n = s->bucket[h & (s->nbuckets - 1)]; n; n = n->next)
		if (fs_node_is(n, st))
			return n;
	return NULL;
}

static void link_node(struct fs_session *s, struct fs_node *n)
{
	struct fs_node **b = &s->bucket[hash_key(n->dev, n->ino, n->mnt) & (s->nbuckets - 1)];

	n->next = *b;
	*b = n;
}

static int grow_buckets(struct fs_session *s)
{
	uint32_t old = s->nbuckets, n = old ? old * 2 : 1024;
	struct fs_node **b = s->bucket, **bigger;

	if (s->nnodes < old)
		return 0;
	bigger = calloc(n, sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	s->bucket = bigger;
	s->nbuckets = n;
	for (uint32_t i = 0; i < old; i++) {
		for (struct fs_node *e = b[i], *next; e; e = next) {
			next = e->next;
			link_node(s, e);
		}
	}
	free(b);
	return 0;
}

/*
 * Makes a node for the inode of fd. If it succeeds, the function takes fd over. With -EBADF for fd
 * it makes a parked node, which needs a name.
 */
static int add_node(struct fs_session *s, const struct statx *st, int fd, struct fs_node **ret)
{
	int e = grow_buckets(s);
	if (e < 0)
		return e;
	struct fs_node *n = calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	n->dev = fs_stat_dev(st);
	n->ino = st->stx_ino;
	n->mnt = st->stx_mnt_id;
	n->birth = st->stx_btime;
	n->type = st->stx_mode & S_IFMT;
	n->fd = -EBADF;
	e = fs_slots_add(&s->nodes, n, &n->id);
	if (e == 0 && fd >= 0) {
		e = fs_node_set_fd(s, n, fd);
		if (e < 0)
			fs_slots_remove(&s->nodes, n->id);
	}
	if (e < 0) {
		free(n);
		return e;
	}
	link_node(s, n);
	s->nnodes++;
	*ret = n;
	return 0;
}

static void unlink_node(struct fs_session *s, struct fs_node *n)
{
	struct fs_node **at = &s->bucket[hash_key(n->dev, n->ino, n->mnt) & (s->nbuckets - 1)];

	while (*at != n)
		at = &(*at)->next;
	*at = n->next;
}

int fs_node_restore(struct fs_session *s, const struct fs_node *key, struct fs_node **ret)
{
	int e = grow_buckets(s);
	if (e < 0)
		return e;
	struct fs_node *n = malloc(sizeof(*n));
	if (!n)
		return -ENOMEM;
	*n = *key;
	n->fd = -EBADF;
	n->loaded = true;
	e = fs_slots_put(&s->nodes, n->id, n);
	if (e < 0) {
		free(n);
		return e;
	}
	link_node(s, n);
	s->nnodes++;
	*ret = n;
	return 0;
}

void fs_node_found(struct fs_session *s, struct fs_node *n, const struct statx *st)
{
	if (!n->loaded)
		return;
	unlink_node(s, n);
	n->dev = fs_stat_dev(st);
	n->mnt = st->stx_mnt_id;
	n->loaded = false;
	fs_device_found(s, n->device, n->dev);
	link_node(s, n);
}

static void release_node(struct fs_session *s, struct fs_node *n)
{
	unlink_node(s, n);
	s->nnodes--;
	fs_lock_release_all(s, n);
	fs_slots_remove(&s->nodes, n->id);
	fs_node_close(s, n);
	free(n->name);
	free(n);
}

int fs_node_init(struct fs_session *s)
{
	_cleanup_fd_ int fd = fcntl(s->config->root, F_DUPFD_CLOEXEC, 3);
	struct fs_node *n;
	struct statx st;

	if (fd < 0 || fs_node_stat(fd, &st) < 0)
		return err_sys("virtio-fs: open the shared directory");
	if (!S_ISDIR(st.stx_mode))
		return err_set(ENOTDIR, "virtio-fs: expected a directory as the shared file");
	/*
	 * Empties the table of nodes, so that numbers start at 1 and the root gets the id
	 * FUSE_ROOT_ID.
	 */
	fs_slots_release(&s->nodes);
	if (add_node(s, &st, fd, &n) < 0)
		return err_set(ENOMEM, "virtio-fs: out of memory");
	take_fd(&fd);
	n->lookups = 1;
	return 0;
}

void fs_node_release_all(struct fs_session *s)
{
	for (uint32_t i = 0; i < s->nbuckets; i++)
		while (s->bucket[i])
			release_node(s, s->bucket[i]);
}

/* Releases the node if the guest has forgotten it and no request or open file uses it. */
static void put_node(struct fs_session *s, struct fs_node *n)
{
	if (n->lookups == 0 && n->files == 0)
		release_node(s, n);
	else
		fs_node_used(s, n);
}

int fs_node_pin(struct fs_session *s, struct fs_node *n)
{
	int e = fs_node_hold(s, n);

	if (e == 0) {
		n->files++;
		fs_node_used(s, n);
	}
	return e;
}

void fs_node_unpin(struct fs_session *s, struct fs_node *n)
{
	n->files--;
	put_node(s, n);
}

void fs_node_forget(struct fs_session *s, uint64_t id, uint64_t count)
{
	struct fs_node *n = fs_node_get(s, id);

	if (!n || id == FUSE_ROOT_ID)
		return;
	n->lookups -= count < n->lookups ? count : n->lookups;
	put_node(s, n);
}

static void set_time(const struct statx_timestamp *t, uint64_t *sec, uint32_t *nsec)
{
	*sec = (uint64_t)t->tv_sec;
	*nsec = t->tv_nsec;
}

static void set_attr(struct fs_session *s, struct fuse_attr *a, const struct statx *st)
{
	*a = (struct fuse_attr){
		.ino = fs_inode_number(s, fs_stat_dev(st), st->stx_ino),
		.size = st->stx_size,
		.blocks = st->stx_blocks,
		.mode = st->stx_mode,
		.nlink = st->stx_nlink,
		.uid = st->stx_uid,
		.gid = st->stx_gid,
		/*
		 * Encodes the device number in the kernel's 32-bit form (include/linux/kdev_t.h,
		 * new_encode_dev), because makedev() arranges the bits differently.
		 */
		.rdev = (st->stx_rdev_minor & 0xff) | st->stx_rdev_major << 8 |
			(st->stx_rdev_minor & ~0xffU) << 12,
		.blksize = st->stx_blksize,
	};
	set_time(&st->stx_atime, &a->atime, &a->atimensec);
	set_time(&st->stx_mtime, &a->mtime, &a->mtimensec);
	set_time(&st->stx_ctime, &a->ctime, &a->ctimensec);
}

static void set_valid(const struct fs_session *s, uint64_t *sec, uint32_t *nsec)
{
	*sec = s->config->cache_ms / 1000;
	*nsec = s->config->cache_ms % 1000 * 1000000;
}

int fs_node_attr(struct fs_session *s, int fd, struct fuse_attr_out *out)
{
	struct statx st;

	int e = fs_node_stat(fd, &st);
	if (e < 0)
		return e;
	*out = (struct fuse_attr_out){0};
	set_valid(s, &out->attr_valid, &out->attr_valid_nsec);
	set_attr(s, &out->attr, &st);
	return sizeof(*out);
}

static int reply_entry(
	struct fs_session *s, struct fs_node *n, const struct statx *st, struct fuse_entry_out *out)
{
	n->lookups++;
	*out = (struct fuse_entry_out){.nodeid = n->id};
	set_valid(s, &out->entry_valid, &out->entry_valid_nsec);
	set_valid(s, &out->attr_valid, &out->attr_valid_nsec);
	set_attr(s, &out->attr, st);
	return sizeof(*out);
}

int fs_node_adopt(struct fs_session *s, const struct fs_node *dir, const char *name, int fd,
	struct fuse_entry_out *out)
{
	_cleanup_fd_ int own = fd;
	struct statx st;

	int e = fs_node_stat(own, &st);
	if (e < 0)
		return e;
	struct fs_node *n = find_node(s, &st);
	if (!n) {
		e = add_node(s, &st, own, &n);
		if (e < 0)
			return e;
		take_fd(&own);
	}
	fs_node_set_name(s, n, dir, name);
	return reply_entry(s, n, &st, out);
}

/*
 * Answers a lookup with a new node that has no descriptor yet (descriptor_cache.c). Most files that
 * the guest looks up are never used beyond their attributes, so this saves opening and closing
 * them.
 */
static int look_up_parked(struct fs_session *s, const struct fs_node *dir, const char *name,
	const struct statx *st, struct fuse_entry_out *out)
{
	struct fs_node *n;

	int e = add_node(s, st, -EBADF, &n);
	if (e < 0)
		return e;
	fs_node_set_name(s, n, dir, name);
	if (!n->name) {
		release_node(s, n);
		return -ENOMEM;
	}
	return reply_entry(s, n, st, out);
}

int fs_node_lookup(struct fs_session *s, const struct fs_node *dir, const char *name,
	struct fuse_entry_out *out)
{
	struct statx st;

	/*
	 * Finds the inode by statx(2) first, because for most lookups this is the only system call.
	 */
	if (statx(dir->fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, FS_STATX_WANT, &st) < 0)
		return -errno;
	struct fs_node *n = find_node(s, &st);
	if (n) {
		fs_node_set_name(s, n, dir, name);
		return reply_entry(s, n, &st, out);
	}
	/*
	 * Without a birth time the server could not tell the inode from a later one with the same
	 * number, so it opens the inode to keep it in use. It opens a directory, because a
	 * directory is mostly looked up for the names in it.
	 */
	if ((st.stx_mask & STATX_BTIME) && !S_ISDIR(st.stx_mode))
		return look_up_parked(s, dir, name, &st, out);
	int fd = sys_openat2(dir->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0,
		RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
	/*
	 * Reports ENFILE instead of EMFILE, because EMFILE would tell the guest's program that it
	 * has reached its own limit, although only the server has reached its limit.
	 */
	if (fd < 0)
		return errno == EMFILE ? -ENFILE : -errno;
	return fs_node_adopt(s, dir, name, fd, out);
}

struct fs_node *fs_node_find(
	const struct fs_session *s, const struct fs_node *dir, const char *name)
{
	struct statx st;

	if (statx(dir->fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, FS_STATX_WANT, &st) < 0)
		return NULL;
	return find_node(s, &st);
}

struct fs_path fs_node_path(const struct fs_node *n)
{
	struct fs_path p;

	snprintf(p.s, sizeof(p.s), "%d", n->fd);
	return p;
}

int fs_node_open(const struct fs_node *n, int flags)
{
	/*
	 * Refuses devices, FIFOs and sockets, because opening one would act on the host. The
	 * guest's kernel opens these files itself and never asks the server to do so.
	 */
	if (!S_ISREG(n->type) && !S_ISDIR(n->type))
		return S_ISLNK(n->type) ? -ELOOP : -EINVAL;
	int fd = open(fs_node_path(n).s, flags | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return errno == EMFILE ? -ENFILE : -errno;
	return fd;
}
