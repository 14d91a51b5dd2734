/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The FUSE server's own types. fs_handle() is its only entrance: it serves one request whose bytes
 * are still the guest's, and writes the reply. Everything runs in one thread.
 *
 * What the operations return is the answer to the guest: the length of the reply in s->reply, or a
 * -errno for the guest's program. These are no errors of this program, so they leave no message.
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
#define FS_ARGS_MAX (80U << 10)   /* copied of a request: the longest is an xattr of 64 KiB */
#define FS_REPLY_MAX (128U << 10) /* of a reply other than that to READ */
#define FS_MAX_IOV 1024           /* the kernel's IOV_MAX; queues are not longer */

/* Objects known to the guest by number. A number is never used for a second object. */
struct fs_slot {
	void *object;
	uint32_t generation;
	uint32_t next_free;
};

struct fs_slots {
	struct fs_slot *slot;
	uint32_t used; /* slots ever taken; slot 0 never is, since FUSE has no id 0 */
	uint32_t capacity;
	uint32_t max;
	uint32_t free; /* head of the list of free slots, 0: empty */
};

/* The answer -ENFILE: the guest holds as many as the host gives it. */
int fs_slots_add(struct fs_slots *t, void *object, uint64_t *ret_id) must_check;
void *fs_slots_get(const struct fs_slots *t, uint64_t id); /* NULL: no such, or no longer */
void fs_slots_remove(struct fs_slots *t, uint64_t id);
void fs_slots_release(struct fs_slots *t);

/* A file as POSIX locks of one owner: open file description locks need one description an owner. */
struct fs_lock_owner {
	struct fs_lock_owner *next;
	uint64_t owner;
	int fd;
};

/*
 * An inode that the guest knows. Its O_PATH descriptor keeps the inode, so the key stays unique; a
 * parked one (descriptor_cache.c) has none, and its birth tells it from a later inode of the same number.
 */
struct fs_node {
	struct fs_node *next; /* in its hash bucket */
	uint64_t id;
	uint64_t dev, ino, mnt;
	struct statx_timestamp birth; /* 0 where the file system has none */
	uint64_t lookups;             /* how often the guest was told of it, less what it forgot */
	mode_t type;
	uint32_t files;                /* open on it, and requests under way: it stays as long */
	int fd;                        /* -EBADF: parked */
	struct fs_node *newer, *older; /* among those that may be parked, by last use */
	bool listed;                   /* there */
	uint64_t parent;               /* with name: where it was last */
	char *name;                    /* NULL: not known */
	bool opened; /* size and mtime are what they were when it was last opened */
	uint64_t size;
	struct statx_timestamp mtime;
	struct fs_lock_owner *owners;
};

struct fs_file {
	struct fs_node *node;
	uint64_t id;
	int fd;
	bool is_dir;
	uint64_t dir_offset; /* where fd stands, of a directory */
};

struct fs_session {
	const struct vmfs_config *config;
	bool started; /* INIT was answered */
	bool setxattr_ext;
	struct fs_slots nodes, files;
	struct fs_node **bucket;
	uint32_t nbuckets, nnodes;
	struct fs_node *newest, *oldest;
	uint32_t ndescriptors; /* of nodes */
	uint32_t nowners;      /* descriptors held by lock owners: at most as many as files */
	uid_t uid;             /* the server's own, between requests */
	gid_t gid;
	mode_t mask; /* the umask it has now */
	uint8_t *args, *reply;
	struct iovec *iov; /* FS_MAX_IOV + 1, for reads and writes */
};

/* One request: segments of guest memory, which the guest may change while we look. */
struct fs_request {
	const struct iovec *in, *out;
	unsigned int nin, nout;
	bool give_up; /* answer -ENOLCK rather than FS_LATER */
	/* The rest is fs_handle()'s. */
	struct fuse_in_header head; /* copied once */
	size_t in_len, out_len;
	const void *args;    /* copied once: the operation's fixed part, whole */
	const char *name[2]; /* checked */
	const uint8_t *tail; /* what follows, of the copied part */
	size_t tail_len;
	struct fs_node *node; /* of head.nodeid */
	bool direct;          /* reply is in guest memory already, behind the header (READ) */
};

#define FS_LATER (-4095) /* an answer follows when the request is served again */

int fs_session_init(struct fs_session *s, const struct vmfs_config *c) must_check;
void fs_session_release(struct fs_session *s);

/*
 * Serves one request. Returns the bytes written into r->out, 0 where FUSE wants no reply (or the
 * guest left no room for one), or FS_LATER: a lock is held by another; serve it again later.
 */
int fs_handle(struct fs_session *s, struct fs_request *r) must_check;

/* node.c */
int fs_node_init(struct fs_session *s) must_check; /* the root becomes FUSE_ROOT_ID */
void fs_node_release_all(struct fs_session *s);
struct fs_node *fs_node_get(const struct fs_session *s, uint64_t id);
int fs_node_lookup(struct fs_session *s, const struct fs_node *dir, const char *name,
	struct fuse_entry_out *out) must_check;
/* Takes over fd, O_PATH. name: NULL where it has none. */
int fs_node_adopt(struct fs_session *s, const struct fs_node *dir, const char *name, int fd,
	struct fuse_entry_out *out) must_check;
/* What the guest knows under that name, or NULL. */
struct fs_node *fs_node_find(
	const struct fs_session *s, const struct fs_node *dir, const char *name);
int fs_node_stat(int fd, struct statx *st) must_check;
bool fs_node_is(const struct fs_node *n, const struct statx *st); /* the same inode */
void fs_node_put(struct fs_session *s, struct fs_node *n); /* releases it where nothing holds it */
void fs_node_forget(struct fs_session *s, uint64_t id, uint64_t count);
int fs_node_attr(const struct fs_session *s, int fd, struct fuse_attr_out *out) must_check;
/* Opens the inode itself: never by name, and never anything but a regular file or directory. */
int fs_node_open(const struct fs_node *n, int flags) must_check;
/* A node's name in /proc/self/fd, the working directory: for calls that have no descriptor form. */
struct fs_path {
	char s[12];
};
struct fs_path fs_node_path(const struct fs_node *n);

/* descriptor_cache.c: which nodes have a descriptor */
int fs_node_hold(struct fs_session *s, struct fs_node *n) must_check; /* 0: n->fd is open */
int fs_node_pin(struct fs_session *s, struct fs_node *n) must_check;  /* and stays so until */
void fs_node_unpin(struct fs_session *s, struct fs_node *n);
void fs_node_used(struct fs_session *s, struct fs_node *n); /* now; or n->files has changed */
int fs_node_set_fd(struct fs_session *s, struct fs_node *n, int fd) must_check;
void fs_node_close(struct fs_session *s, struct fs_node *n);
/* Where it can be found again; name NULL: nowhere. */
void fs_node_set_name(
	struct fs_session *s, struct fs_node *n, const struct fs_node *dir, const char *name);

/* file.c: open files and directories */
int fs_file_add(struct fs_session *s, struct fs_node *n, int fd, bool is_dir, uint64_t *ret_fh)
	must_check; /* takes over fd */
struct fs_file *fs_file_get(
	const struct fs_session *s, const struct fs_request *r, uint64_t fh, bool is_dir);
void fs_file_release(struct fs_session *s, uint64_t fh);
void fs_file_release_all(struct fs_session *s);

/* creds.c: whose request it is */
int fs_creds_enter(struct fs_session *s, const struct fs_request *r, uint32_t mask) must_check;
void fs_creds_leave(const struct fs_session *s, const struct fs_request *r);
int fs_creds_drop_fsetid(bool drop) must_check;

size_t fs_iov_slice(struct iovec *dst, const struct iovec *src, unsigned int n, size_t skip,
	size_t len, unsigned int *ret_n);

/* jail.c: what a process loses; *keep: descriptors. memory: mappings too, but none executable */
int fs_drop_caps(uint64_t caps) must_check;
int fs_filter_calls(const int *calls, size_t n, bool memory) must_check;

/* seal.c: the process that makes c->sealed read-only, in the mount namespace of the caller */
int fs_seal_start(const struct vmfs_config *c) must_check;

typedef int fs_op(struct fs_session *s, struct fs_request *r);
fs_op fs_lookup, fs_getattr, fs_setattr, fs_readlink, fs_statfs;
fs_op fs_symlink, fs_mknod, fs_mkdir, fs_unlink, fs_rmdir, fs_rename, fs_rename2, fs_link;
fs_op fs_create, fs_tmpfile, fs_open, fs_read, fs_write, fs_release, fs_flush, fs_fsync;
fs_op fs_fallocate, fs_lseek, fs_copy_file_range;
fs_op fs_opendir, fs_readdir, fs_readdirplus, fs_releasedir, fs_fsyncdir, fs_syncfs;
fs_op fs_setxattr, fs_getxattr, fs_listxattr, fs_removexattr;
fs_op fs_getlk, fs_setlk, fs_setlkw;
void fs_lock_release(struct fs_session *s, struct fs_node *n, uint64_t owner);
void fs_lock_release_all(struct fs_session *s, struct fs_node *n);
