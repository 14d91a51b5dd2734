/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmfs serves a directory of the host as a virtio-fs device (virtio 1.2, 5.11) to a virtual machine
 * monitor over vhost-user. One process serves one share to one monitor, and ends when the monitor's
 * socket closes.
 *
 *	vmfs_jail()   in the process that will serve: single-threaded, as root
 *	vmfs_serve()  runs until the socket closes
 *
 * The caller owns the descriptors of the configuration and may close them after vmfs_serve().
 */
#pragma once
#include <sys/types.h>

#include "base/err.h"

struct vmfs_config {
	int sock;       /* a Unix socket, SOCK_STREAM, connected to the monitor */
	int root;       /* the shared directory, O_PATH; vmfs_jail() replaces it */
	int proc;       /* /proc/self/fd of this process, O_PATH; vmfs_jail() opens it */
	bool read_only; /* each operation that changes something fails with EROFS */
	/*
	 * Which device nodes mknod may make besides overlayfs' whiteout: all if `devices`;
	 * otherwise those for which may_make returns true (NULL: none); the others fail with EPERM.
	 * type: S_IFCHR or S_IFBLK.
	 */
	bool devices;
	bool (*may_make)(const void *data, mode_t type, dev_t dev);
	const void *data;
	/* locks are held on the host, so that several guests of a share respect them */
	bool locks;
	uint32_t cache_ms; /* the time for which the guest may cache names and attributes */
	/* Inodes that the guest may know. vmfs_jail() sets this and the following two. */
	uint32_t max_nodes;
	/*
	 * Descriptors for those inodes, as a cache, for open files and for owners of locks, all
	 * together; at least 64.
	 */
	uint32_t max_descriptors;
	uint32_t max_handles; /* open files; and owners of locks */
	/*
	 * A user namespace that the server enters, which maps each of its ids to the same id
	 * outside; 0: none. The server then has no rights to files of other users than those, and
	 * acts as `uid` and `gid`, which are two of them.
	 */
	int userns;
	uid_t uid;
	gid_t gid;
	const char *sealed; /* NULL: nothing is sealed; see vmfs_jail() */
	int seal;
};

/*
 * Confines the calling process to the tree. It gets a mount namespace whose root is the share
 * (read-only if that is configured; without devices, set-id programs and followed links) and no
 * network. It keeps only three of the configuration's descriptors, the capabilities that ownership
 * of files needs, and the system calls that the server makes. Needs CAP_SYS_ADMIN. A failure does
 * not undo the steps before it, so the process must end then.
 *
 * With a user namespace the kernel lets the server do only what root of that namespace may do, so a
 * guest that has taken over its kernel cannot do more either: files of other users can be used as
 * anyone may use them, and no file can be given to such a user.
 *
 * If `sealed` is a name in the root, a process of its own makes the mount at that name read-only,
 * by the host's kernel, when a byte comes from the socket `seal`. It answers there with an int: 0,
 * or an errno (EBUSY: the guest has a file open for writing).
 */
int vmfs_jail(struct vmfs_config *c) must_check;

/*
 * Serves until the monitor closes the socket, and returns 0. -EPROTO: the monitor broke the
 * protocol; other errors are the host's. It changes the working directory to c->proc, and the
 * umask, so the process should do nothing else.
 */
int vmfs_serve(const struct vmfs_config *c) must_check;
