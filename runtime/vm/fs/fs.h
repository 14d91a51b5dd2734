/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The FUSE server's own types. fs_handle() is its only entrance: it serves one request, whose bytes
 * the guest may still change, and writes the reply. Everything runs in one thread.
 *
 * An operation returns the answer to the guest: the length of the reply in s->reply, or a -errno
 * for the guest's program. Such a -errno is no error of this program, so it has no message.
 */
#pragma once
#include <limits.h>
#include <linux/fuse.h>
#include <linux/limits.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "base/fd.h"
#include "vm/fs/vmfs.h"

#define FS_MAX_WRITE (1U << 20)
#define FS_MAX_PAGES (FS_MAX_WRITE / 4096)
/* bytes copied of a request; the longest holds an xattr of 64 KiB */
#define FS_ARGS_MAX (80U << 10)
#define FS_REPLY_MAX (128U << 10) /* bytes of a reply, except the one to READ */
#define FS_STATX_WANT (STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID)
#define FS_MAX_IOV 1024 /* the kernel's IOV_MAX; queues are not longer */

/* --- slots.c: objects that the guest knows by number; no number is used for a second object --- */
struct fs_slot {
	void *object;
	uint32_t generation;
	uint32_t next_free;
};

struct fs_slots {
	struct fs_slot *slot;
	uint32_t used; /* slots that were ever taken; slot 0 never is, because FUSE has no id 0 */
	uint32_t capacity;
	uint32_t max;
	uint32_t free; /* head of the list of free slots, 0: empty */
};

/* -ENFILE: the guest holds as many objects as the host allows it. */
int fs_slots_add(struct fs_slots *t, void *object, uint64_t *ret_id) must_check;
void *fs_slots_get(const struct fs_slots *t, uint64_t id); /* NULL: no such object, or no longer */
void fs_slots_remove(struct fs_slots *t, uint64_t id);
void fs_slots_release(struct fs_slots *t);

/*
 * The POSIX locks of one owner on a file. Open file description locks need one description for each
 * owner.
 */
struct fs_lock_owner {
	struct fs_lock_owner *next;
	uint64_t owner;
	int fd;
};

/*
 * An inode that the guest knows. Its O_PATH descriptor keeps the inode in use, so the key stays
 * unique. A parked node (descriptor_cache.c) has no descriptor; its birth time distinguishes it
 * from a later inode of the same number.
 */
struct fs_node {
	struct fs_node *next; /* the next node in its hash bucket */
	uint64_t id;
	uint64_t dev, ino, mnt;
	struct statx_timestamp birth; /* 0 if the file system has no birth times */
	/* The number of times that the guest was told of it, less those that it forgot. */
	uint64_t lookups;
	mode_t type;
	/* Open files on it and requests that use it; it is not released before this is 0. */
	uint32_t files;
	int fd; /* -EBADF: parked */
	/* neighbours, by last use, in the list of nodes that may be parked */
	struct fs_node *newer, *older;
	bool listed;     /* it is in that list */
	uint64_t parent; /* with `name`: the place where it was found last */
	char *name;      /* NULL: not known */
	bool opened;     /* size and mtime hold the values at its last opening */
	uint64_t size;
	struct statx_timestamp mtime;
	struct fs_lock_owner *owners;
};

struct fs_file {
	struct fs_node *node;
	uint64_t id;
	int fd;
	bool is_dir;
	/*
	 * Of a directory: the entries that were read last, as getdents64(2) gives them, and the
	 * cookie before the first of them. The position of fd is behind the last of them.
	 */
	char *list;
	size_t list_len;
	uint64_t list_start;
};

#define FS_DEVICES_MAX 4096

struct fs_session {
	const struct vmfs_config *config;
	bool started; /* INIT was answered */
	bool setxattr_ext;
	struct fs_slots nodes, files;
	/* The host's file systems in the share, in the order in which they were met. */
	uint64_t *devices;
	uint32_t ndevices;
	struct fs_node **bucket;
	uint32_t nbuckets, nnodes;
	struct fs_node *newest, *oldest;
	uint32_t ndescriptors; /* of nodes */
	uint32_t nfiles;       /* open files and directories */
	/* descriptors of lock owners; at most as many as there may be files */
	uint32_t nowners;
	uid_t uid; /* the server's own ids, between requests */
	gid_t gid;
	mode_t mask; /* the present umask */
	uint8_t *args, *reply;
	struct iovec *iov; /* FS_MAX_IOV + 1 entries, for reads and writes */
};

/* A request: segments of guest memory, which the guest may change at any time. */
struct fs_request {
	const struct iovec *in, *out;
	unsigned int nin, nout;
	bool give_up; /* the answer is -ENOLCK in place of FS_LATER */
	/* fs_handle() sets the following members. */
	struct fuse_in_header head; /* copied once */
	size_t in_len, out_len;
	const void *args;    /* the operation's fixed part, complete, copied once */
	const char *name[2]; /* checked names */
	const uint8_t *tail; /* the rest of the copied part */
	size_t tail_len;
	struct fs_node *node; /* the node of head.nodeid */
	bool direct;          /* the reply to READ is in guest memory already, behind the header */
};

#define FS_LATER (-4095) /* the request has to be served again later for its answer */

int fs_session_init(struct fs_session *s, const struct vmfs_config *c) must_check;
void fs_session_release(struct fs_session *s);

/*
 * Serves one request. Returns the number of bytes written into r->out; 0 if FUSE wants no reply or
 * the guest left no room for one; or FS_LATER if another owner holds the lock, so that the request
 * has to be served again later.
 */
int fs_handle(struct fs_session *s, struct fs_request *r) must_check;

/* --- inode.c: which inode it is --- */

struct fs_node *fs_node_get(const struct fs_session *s, uint64_t id);
int fs_node_stat(int fd, struct statx *st) must_check;
/* The device number of *st as one value. */
uint64_t fs_stat_dev(const struct statx *st);
/*
 * The guest has the share as one file system, in which inode numbers have to be unique. So the
 * number of the file system is in the upper bits. Returns the guest's number for the host's.
 */
uint64_t fs_inode_number(struct fs_session *s, uint64_t dev, uint64_t ino);
/* Whether the node and *st are the same inode. */
bool fs_node_is(const struct fs_node *n, const struct statx *st);

/* --- node.c: the nodes --- */

/* Makes the root FUSE_ROOT_ID. */
int fs_node_init(struct fs_session *s) must_check;
void fs_node_release_all(struct fs_session *s);
int fs_node_lookup(struct fs_session *s, const struct fs_node *dir, const char *name,
	struct fuse_entry_out *out) must_check;
/* Makes a node of fd, O_PATH, which it takes over. name: NULL if it has none. */
int fs_node_adopt(struct fs_session *s, const struct fs_node *dir, const char *name, int fd,
	struct fuse_entry_out *out) must_check;
/* Returns the node that the guest knows under that name, or NULL. */
struct fs_node *fs_node_find(
	const struct fs_session *s, const struct fs_node *dir, const char *name);
void fs_node_forget(struct fs_session *s, uint64_t id, uint64_t count);
int fs_node_attr(struct fs_session *s, int fd, struct fuse_attr_out *out) must_check;
/* Opens the inode itself: never by name, and only if it is a regular file or a directory. */
int fs_node_open(const struct fs_node *n, int flags) must_check;
/* The node's name in /proc/self/fd, the working directory, for calls that take no descriptor. */
struct fs_path {
	char s[12];
};
struct fs_path fs_node_path(const struct fs_node *n);
/* Opens the node's descriptor, and keeps it open until fs_node_unpin(). */
int fs_node_pin(struct fs_session *s, struct fs_node *n) must_check;
void fs_node_unpin(struct fs_session *s, struct fs_node *n);

/* --- descriptor_cache.c: which nodes have a descriptor --- */

/* Opens the node's descriptor, n->fd, if it is parked. */
int fs_node_hold(struct fs_session *s, struct fs_node *n) must_check;
/* Has to be called when the node was used, and when n->files has changed. */
void fs_node_used(struct fs_session *s, struct fs_node *n);
int fs_node_set_fd(struct fs_session *s, struct fs_node *n, int fd) must_check;
/*
 * Parks nodes until `n` more descriptors may be opened. -ENFILE if no node can be parked. Nodes,
 * open files and lock owners have one budget, config->max_descriptors, and nodes give way.
 */
int fs_make_room(struct fs_session *s, uint32_t n) must_check;
void fs_node_close(struct fs_session *s, struct fs_node *n);
/* Sets the place where the node can be found again. name NULL: nowhere. */
void fs_node_set_name(
	struct fs_session *s, struct fs_node *n, const struct fs_node *dir, const char *name);

/* --- file.c: open files and directories --- */

/* Takes over fd. */
int fs_file_add(struct fs_session *s, struct fs_node *n, int fd, bool is_dir, uint64_t *ret_fh)
	must_check;
struct fs_file *fs_file_get(
	const struct fs_session *s, const struct fs_request *r, uint64_t fh, bool is_dir);
void fs_file_release(struct fs_session *s, uint64_t fh);
void fs_file_release_all(struct fs_session *s);

/* --- lock_owner.c: the owners of a node's POSIX locks --- */

/* Returns the owner's descriptor, or -ENOENT. */
int fs_lock_owner_get(const struct fs_node *n, uint64_t owner) must_check;
/* Takes over fd. */
int fs_lock_owner_add(struct fs_session *s, struct fs_node *n, uint64_t owner, int fd) must_check;
/* Releases the owner's locks on the node, or those of all owners. */
void fs_lock_release(struct fs_session *s, struct fs_node *n, uint64_t owner);
void fs_lock_release_all(struct fs_session *s, struct fs_node *n);

/* --- creds.c: the ids that a request acts with --- */

int fs_creds_enter(struct fs_session *s, const struct fs_request *r, uint32_t mask) must_check;
void fs_creds_leave(const struct fs_session *s, const struct fs_request *r);
int fs_creds_drop_fsetid(bool drop) must_check;

/* --- rights.c: gives up what a process need not be able to do --- */

/* Enters c->userns if there is one. The process has all capabilities there and none outside. */
int fs_enter_userns(const struct vmfs_config *c) must_check;
int fs_drop_caps(uint64_t caps) must_check;
/* memory: the process may map memory, but none that is executable. */
int fs_filter_calls(const int *calls, size_t n, bool memory) must_check;

/* --- seal.c: the process that makes c->sealed read-only, in the caller's mount namespace --- */

int fs_seal_start(const struct vmfs_config *c) must_check;

/* --- the operations, which session.c lists --- */

typedef int fs_op(struct fs_session *s, struct fs_request *r);
fs_op fs_lookup, fs_getattr, fs_setattr, fs_readlink, fs_statfs;
fs_op fs_symlink, fs_mknod, fs_mkdir, fs_unlink, fs_rmdir, fs_rename, fs_rename2, fs_link;
fs_op fs_create, fs_tmpfile, fs_open, fs_read, fs_write, fs_release, fs_flush, fs_fsync;
fs_op fs_fallocate, fs_lseek, fs_copy_file_range;
fs_op fs_opendir, fs_readdir, fs_readdirplus, fs_releasedir, fs_fsyncdir, fs_syncfs;
fs_op fs_setxattr, fs_getxattr, fs_listxattr, fs_removexattr;
fs_op fs_getlk, fs_setlk, fs_setlkw;
