/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declares the types and functions that the FUSE server's files share. fs_handle() is the only
 * entrance: it serves one request, whose bytes the guest may still change meanwhile, and writes the
 * reply. Everything runs in one thread.
 *
 * A function that serves an operation returns the answer to the guest: the length of the reply in
 * s->reply, or a -errno for the guest's program. Such a -errno is no error of the server, so it has
 * no message.
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
/*
 * how many bytes of a request are copied out of guest memory; the longest request sets an xattr of
 * 64 KiB
 */
#define FS_ARGS_MAX (80U << 10)
#define FS_REPLY_MAX (128U << 10) /* longest reply in bytes; replies to READ may be longer */
#define FS_STATX_WANT (STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID)
/* how many buffers a request can have: the kernel's IOV_MAX, because queues are not longer */
#define FS_MAX_IOV 1024

/* --- slots.c: objects that the guest knows by number; a number is never used again --- */
struct fs_slot {
	void *object;
	uint32_t generation;
	uint32_t next_free;
};

struct fs_slots {
	struct fs_slot *slot;
	/* number of slots that were ever in use; slot 0 is never used, because FUSE has no id 0 */
	uint32_t used;
	uint32_t capacity;
	uint32_t max;
	uint32_t free; /* index of the first free slot; 0: none is free */
};

/*
 * Adds an object and sets *ret_id to its number. Returns -ENFILE if the guest holds as many objects
 * as the host allows it.
 */
int fs_slots_add(struct fs_slots *t, void *object, uint64_t *ret_id) must_check;
/* Returns the object with the number `id`, or NULL if there is no such object any more. */
void *fs_slots_get(const struct fs_slots *t, uint64_t id);
void fs_slots_remove(struct fs_slots *t, uint64_t id);
/*
 * These three functions fill an empty table from a snapshot. fs_slots_reach() makes as many slots
 * as the table had. fs_slots_put() adds an object with the number `id` that it had, and returns
 * -EEXIST if the number is in use. Both return -ENFILE if the table would be larger than the host
 * allows. fs_slots_settle() makes the slots without an object free, with numbers that the guest has
 * not seen, because `generation` was the newest generation that the snapshot's table had used.
 */
int fs_slots_reach(struct fs_slots *t, uint32_t used) must_check;
int fs_slots_put(struct fs_slots *t, uint64_t id, void *object) must_check;
void fs_slots_settle(struct fs_slots *t, uint32_t generation);
void fs_slots_release(struct fs_slots *t);

/*
 * The POSIX locks that one process of the guest (the owner) holds on a file. Each owner has an open
 * file description of its own, because the server takes these locks on the host as open file
 * description locks.
 */
struct fs_lock_owner {
	struct fs_lock_owner *next;
	uint64_t owner;
	uint32_t pid; /* process that locked last, by its pid in the guest's first pid namespace */
	int fd;
};

/*
 * A node: an inode that the guest knows. Its O_PATH descriptor keeps the inode in use, so the key
 * stays unique. A parked node (descriptor_cache.c) has no descriptor; its birth time distinguishes
 * the inode from a later one with the same number.
 */
struct fs_node {
	struct fs_node *next; /* the next node in the hash bucket of this node */
	uint64_t id;
	uint64_t dev, ino, mnt;
	struct statx_timestamp birth; /* birth time of the inode; 0 if the file system has none */
	/*
	 * How many lookups have returned the node, less those that the guest has forgotten
	 * (FORGET).
	 */
	uint64_t lookups;
	mode_t type;
	/*
	 * Number of open files of the node and of requests that use it. The node is not released
	 * before this is 0.
	 */
	uint32_t files;
	/* O_PATH descriptor of the inode; -EBADF if the cache has closed it (a parked node) */
	int fd;
	/*
	 * neighbours in the list of nodes whose descriptor may be closed, in the order of their
	 * last use
	 */
	struct fs_node *newer, *older;
	bool listed; /* whether the node is in the list of nodes whose descriptor may be closed */
	/*
	 * The node comes from a snapshot (state.c) and was not opened since. `dev` and `mnt` are
	 * not known yet; `device` is the index of its device in the session's list.
	 */
	bool loaded;
	uint32_t device;
	uint64_t parent; /* id of the directory in which the node was last found, under `name` */
	char *name;      /* name in `parent`; NULL: not known */
	/* whether `size` and `mtime` are set, to those of the file when it was last opened */
	bool opened;
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
	 * for an open directory: the block of entries that was read last, as getdents64(2) returns
	 * it, and the cookie before its first entry; the position of fd is behind its last entry
	 */
	char *list;
	size_t list_len;
	uint64_t list_start;
};

#define FS_DEVICES_MAX 4096

struct fs_session {
	const struct vmfs_config *config;
	bool started; /* whether the guest has sent INIT and got the answer */
	bool setxattr_ext;
	struct fs_slots nodes, files;
	/*
	 * Device numbers of the host's file systems in the share, in the order in which the server
	 * found them.
	 */
	uint64_t *devices;
	uint32_t ndevices;
	struct fs_node **bucket;
	uint32_t nbuckets, nnodes;
	struct fs_node *newest, *oldest;
	uint32_t ndescriptors; /* number of descriptors that nodes have open */
	uint32_t nfiles;       /* number of open files and directories */
	/* number of descriptors that the server has open for lock owners; the limit is files.max */
	uint32_t nowners;
	uid_t uid; /* the user id that the server has when it serves no request */
	gid_t gid;
	mode_t mask; /* umask of the process at the moment */
	uint8_t *args, *reply;
	struct iovec *iov; /* array of FS_MAX_IOV + 1 entries, which reads and writes use */
};

/*
 * A request of the guest. Its buffers lie in guest memory, which the guest may change at any time.
 */
struct fs_request {
	const struct iovec *in, *out;
	unsigned int nin, nout;
	/*
	 * if another owner holds the lock that the request wants, fs_handle() answers -ENOLCK
	 * instead of returning FS_LATER
	 */
	bool give_up;
	/* fs_handle() sets the members below. */
	struct fuse_in_header head; /* header of the request, copied once from guest memory */
	size_t in_len, out_len;
	/* fixed part of the operation's arguments, complete, copied once from guest memory */
	const void *args;
	const char *name[2]; /* names in the request, checked to be single components */
	const uint8_t *tail; /* bytes of the copied request behind the arguments and names */
	size_t tail_len;
	struct fs_node *node; /* the node with the id head.nodeid */
	bool direct; /* whether the reply to READ is already in guest memory, behind the header */
};

/*
 * result of an operation that waits for a lock and has no answer yet: the caller must pass the same
 * request again later, when the lock may have been released
 */
#define FS_LATER (-4095)

int fs_session_init(struct fs_session *s, const struct vmfs_config *c) must_check;
void fs_session_release(struct fs_session *s);

/*
 * Serves one request. Returns the number of bytes written to r->out, which is 0 if FUSE wants no
 * reply or if the guest left no room for a reply. Returns FS_LATER if another owner holds the lock,
 * so that the caller has to pass the request again after a while.
 */
int fs_handle(struct fs_session *s, struct fs_request *r) must_check;

/* --- inode.c: maps nodes to inodes of the host --- */

struct fs_node *fs_node_get(const struct fs_session *s, uint64_t id);
int fs_node_stat(int fd, struct statx *st) must_check;
/* Returns the device number of the file that *st describes. */
uint64_t fs_stat_dev(const struct statx *st);
/*
 * Returns the inode number that the guest sees for the host's inode `ino` on device `dev`. The
 * guest has the share as one file system, in which inode numbers must be unique. So the upper bits
 * hold the index of the host's file system.
 */
uint64_t fs_inode_number(struct fs_session *s, uint64_t dev, uint64_t ino);
/* Returns the index of the device in the session's list of file systems. */
uint32_t fs_device_index(struct fs_session *s, uint64_t dev);
/*
 * Prepares the session's list of devices for the `n` devices of a snapshot, whose numbers on this
 * host are not known yet. fs_device_found() sets the number of the device at `index` when the
 * server has found it.
 */
int fs_expect_devices(struct fs_session *s, uint32_t n) must_check;
void fs_device_found(struct fs_session *s, uint32_t index, uint64_t dev);
/* Returns whether *st describes the node's inode. */
bool fs_node_is(const struct fs_node *n, const struct statx *st);

/* --- node.c: makes, finds and releases nodes --- */

/* Makes the node of the share's root, with the id FUSE_ROOT_ID. */
int fs_node_init(struct fs_session *s) must_check;
void fs_node_release_all(struct fs_session *s);
/*
 * Makes a node of a snapshot, without a descriptor: with the number, the inode, the lookups and the
 * parent of *key. Returns -EEXIST if there is a node with this number.
 */
int fs_node_restore(struct fs_session *s, const struct fs_node *key, struct fs_node **ret)
	must_check;
/* Sets device and mount of a node that was loaded from a snapshot, once its inode is found. */
void fs_node_found(struct fs_session *s, struct fs_node *n, const struct statx *st);
int fs_node_lookup(struct fs_session *s, const struct fs_node *dir, const char *name,
	struct fuse_entry_out *out) must_check;
/*
 * Makes a node of the O_PATH descriptor fd, which the function takes over. `name` is the file's
 * name in `dir`, or NULL if the file has none.
 */
int fs_node_adopt(struct fs_session *s, const struct fs_node *dir, const char *name, int fd,
	struct fuse_entry_out *out) must_check;
/* Returns the node that the guest knows under `name` in `dir`, or NULL. */
struct fs_node *fs_node_find(
	const struct fs_session *s, const struct fs_node *dir, const char *name);
void fs_node_forget(struct fs_session *s, uint64_t id, uint64_t count);
int fs_node_attr(struct fs_session *s, int fd, struct fuse_attr_out *out) must_check;
/*
 * Opens the node's inode itself and not its name. Refuses everything but regular files and
 * directories.
 */
int fs_node_open(const struct fs_node *n, int flags) must_check;
/*
 * Path of a node for system calls that take no descriptor: a name relative to the working
 * directory, which is /proc/self/fd.
 */
struct fs_path {
	char s[12];
};
struct fs_path fs_node_path(const struct fs_node *n);
/*
 * Opens the node's descriptor if the cache has closed it, and keeps it open until fs_node_unpin().
 */
int fs_node_pin(struct fs_session *s, struct fs_node *n) must_check;
void fs_node_unpin(struct fs_session *s, struct fs_node *n);

/* --- descriptor_cache.c: decides which nodes have an open descriptor --- */

/*
 * Opens the node's descriptor n->fd again if the cache has closed it. The cache may close it at the
 * next call that opens a descriptor.
 */
int fs_node_hold(struct fs_session *s, struct fs_node *n) must_check;
/*
 * Marks the node as the one that was used last. Callers have to call this after each use of a node
 * and after each change of n->files.
 */
void fs_node_used(struct fs_session *s, struct fs_node *n);
int fs_node_set_fd(struct fs_session *s, struct fs_node *n, int fd) must_check;
/*
 * Closes descriptors of nodes ("parks" the nodes) until `n` more descriptors may be opened. Nodes,
 * open files and lock owners share one limit, config->max_descriptors, and only the descriptors of
 * nodes can be closed. Returns -ENFILE if there is none to close.
 */
int fs_make_room(struct fs_session *s, uint32_t n) must_check;
void fs_node_close(struct fs_session *s, struct fs_node *n);
/*
 * Records the directory and the name by which the node can be opened again after the cache has
 * closed its descriptor. If name is NULL, the node has no name, and its descriptor stays open.
 */
void fs_node_set_name(
	struct fs_session *s, struct fs_node *n, const struct fs_node *dir, const char *name);

/* --- file.c: keeps open files and directories --- */

/* Makes an open file or directory of the node. The function takes fd over. */
int fs_file_add(struct fs_session *s, struct fs_node *n, int fd, bool is_dir, uint64_t *ret_fh)
	must_check;
struct fs_file *fs_file_get(
	const struct fs_session *s, const struct fs_request *r, uint64_t fh, bool is_dir);
void fs_file_release(struct fs_session *s, uint64_t fh);
void fs_file_release_all(struct fs_session *s);
/* Makes an open file with the number that it had before a snapshot. The function takes fd over. */
int fs_file_restore(struct fs_session *s, struct fs_node *n, int fd, uint64_t id) must_check;

/* --- lock_owner.c: stores the owners of a node's POSIX locks and their descriptors --- */

/*
 * Returns the descriptor that holds the owner's locks, or -ENOENT if the owner has none on this
 * node.
 */
int fs_lock_owner_get(const struct fs_node *n, uint64_t owner) must_check;
/*
 * Makes fd the descriptor that holds the locks of `owner` on the node. The function takes fd over.
 */
int fs_lock_owner_add(struct fs_session *s, struct fs_node *n, uint64_t owner, int fd) must_check;
/* Records the pid of the guest's process that takes locks as `owner`, for fs_lock_owner_pid(). */
void fs_lock_owner_name(struct fs_node *n, uint64_t owner, uint32_t pid);
/*
 * Returns the pid of the guest's process that holds the lock `l`, which belongs to another owner
 * than `owner`. Returns 0 if the host, another guest or several processes hold it.
 */
uint32_t fs_lock_owner_pid(const struct fs_node *n, uint64_t owner, const struct flock *l);
/* Releases the locks of one owner, or of all owners, on the node. */
void fs_lock_release(struct fs_session *s, struct fs_node *n, uint64_t owner);
void fs_lock_release_all(struct fs_session *s, struct fs_node *n);

/*
 * --- state.c: saves the session's nodes and open files to a snapshot, and loads them from there
 * ---
 */

struct snapshot_writer;
struct snapshot_part;

/*
 * Writes the nodes and open files to the section of the snapshot that was begun last. Returns
 * -ENOTSUP with a message if the guest has a file open that cannot be opened again.
 */
int fs_session_save(struct fs_session *s, struct snapshot_writer *w) must_check;
/*
 * Replaces all nodes and open files by those of a snapshot, which may be hostile. Returns -ESTALE
 * with a message if a file that the guest has open is gone.
 */
int fs_session_load(struct fs_session *s, struct snapshot_part *p) must_check;
/*
 * Returns 0 if the name is a single path component: not empty, not "." or "..", without a slash and
 * a NUL, and not too long.
 */
int fs_check_component(const char *name, size_t len) must_check;

/*
 * --- creds.c: takes over the user and group ids of the guest's program while the server serves a
 * request ---
 */

int fs_creds_enter(struct fs_session *s, const struct fs_request *r, uint32_t mask) must_check;
void fs_creds_leave(const struct fs_session *s, const struct fs_request *r);
int fs_creds_drop_fsetid(bool drop) must_check;

/* --- rights.c: gives up capabilities that a process does not need --- */

/*
 * Enters the user namespace c->userns if one is configured. The process then has all capabilities
 * in that namespace and none outside it.
 */
int fs_enter_userns(const struct vmfs_config *c) must_check;
int fs_drop_caps(uint64_t caps) must_check;

/*
 * --- seal.c: starts the process that makes the mount c->sealed read-only when the monitor asks for
 * that ---
 */

int fs_seal_start(const struct vmfs_config *c) must_check;

/*
 * --- the functions that serve one FUSE operation each, and that the table in session.c lists ---
 */

typedef int fs_op(struct fs_session *s, struct fs_request *r);
fs_op fs_lookup, fs_getattr, fs_setattr, fs_readlink, fs_statfs;
fs_op fs_symlink, fs_mknod, fs_mkdir, fs_unlink, fs_rmdir, fs_rename, fs_rename2, fs_link;
fs_op fs_create, fs_tmpfile, fs_open, fs_read, fs_write, fs_release, fs_flush, fs_fsync;
fs_op fs_fallocate, fs_lseek, fs_copy_file_range;
fs_op fs_opendir, fs_readdir, fs_readdirplus, fs_releasedir, fs_fsyncdir, fs_syncfs;
fs_op fs_setxattr, fs_getxattr, fs_listxattr, fs_removexattr;
fs_op fs_getlk, fs_setlk, fs_setlkw;
