/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmfs: a directory of the host as a virtio-fs device (virtio 1.2, 5.11), served to a virtual
 * machine monitor over vhost-user. One process serves one share to one monitor, and ends when the
 * monitor's socket closes.
 *
 *	vmfs_jail()   in the process that will serve, single-threaded, as root
 *	vmfs_serve()  runs until the socket closes
 *
 * The caller owns the descriptors of the configuration and may close them after vmfs_serve().
 */
#pragma once
#include <sys/types.h>

#include "base/err.h"

struct vmfs_config {
	int sock;       /* connected SOCK_STREAM Unix socket to the monitor */
	int root;       /* the shared directory, O_PATH; vmfs_jail() replaces it */
	int proc;       /* /proc/self/fd of this process, O_PATH; vmfs_jail() opens it */
	bool read_only; /* every operation that changes something is EROFS */
	/*
	 * mknod of device nodes other than overlayfs' whiteout: of any; else of those for which
	 * may_make says so (NULL: none); else EPERM. type: S_IFCHR or S_IFBLK.
	 */
	bool devices;
	bool (*may_make)(const void *data, mode_t type, dev_t dev);
	const void *data;
	bool locks;         /* locks are held on the host, so that shares of several guests agree */
	uint32_t cache_ms;  /* how long the guest may believe names and attributes */
	uint32_t max_nodes; /* inodes that the guest may know; vmfs_jail() sets this and what
			       follows */
	uint32_t max_descriptors; /* for those inodes: a cache, at least 64 */
	uint32_t max_handles;     /* descriptors for open files, and as many for owners of locks */
	const char *sealed;       /* NULL: nothing; see vmfs_jail() */
	int seal;
};

/*
 * Leaves the calling process alone with the tree: mount namespace whose root is the share
 * (read-only, and without devices, set-id programs and followed links), no network, no descriptor
 * but the three of the configuration, the capabilities that ownership needs, and the system calls
 * that the server makes. Needs CAP_SYS_ADMIN. What it did is not undone where it fails: the process
 * must end.
 *
 * Where `sealed` is a name in the root, what is mounted there becomes read-only, by the host's
 * kernel, once a byte comes from the socket `seal`; the answer there is an int, 0 or an errno
 * (EBUSY: the guest has something open for writing). A process of its own does that.
 */
int vmfs_jail(struct vmfs_config *c) must_check;

/*
 * Serves until the monitor closes the socket: 0. -EPROTO: the monitor broke the protocol; other
 * errors are the host's. The working directory becomes c->proc and the umask changes: the process
 * belongs to the server.
 */
int vmfs_serve(const struct vmfs_config *c) must_check;
