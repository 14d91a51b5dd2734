/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmfs serves a directory of the host as a virtio-fs device (virtio 1.2, 5.11) to a virtual machine
 * monitor over vhost-user. One process serves one share to one monitor, and ends when the monitor's
 * socket closes.
 *
 *	vmfs_jail()   confines the process that will serve; call it as root, with one thread
 *	vmfs_serve()  serves until the socket closes
 *
 * The caller owns the descriptors of the configuration and may close them after vmfs_serve().
 */
#pragma once
#include <sys/types.h>

#include "base/err.h"

struct vmfs_config {
	int sock; /* Unix socket of type SOCK_STREAM, connected to the monitor */
	/*
	 * such a socket over which another process than the monitor saves and loads the server's
	 * state; 0 or below: there is none
	 */
	int carrier;
	int root; /* O_PATH descriptor of the shared directory; vmfs_jail() replaces it */
	/* O_PATH descriptor of this process's /proc/self/fd; vmfs_jail() opens it */
	int proc;
	/* each operation of the guest that would change something fails with EROFS */
	bool read_only;
	/*
	 * `devices` and may_make() decide which device nodes the guest may make, besides the
	 * whiteout of overlayfs. If `devices` is set, the guest may make all. Otherwise it may make
	 * those for which may_make() returns true, or none if may_make is NULL. For all others
	 * mknod fails with EPERM. The argument `type` is S_IFCHR or S_IFBLK.
	 */
	bool devices;
	bool (*may_make)(const void *data, mode_t type, dev_t dev);
	const void *data;
	/*
	 * the server takes the guest's file locks on the host too, so that several guests that use
	 * the share respect each other's locks
	 */
	bool locks;
	uint32_t cache_ms; /* how long the guest may cache names and attributes, in milliseconds */
	/*
	 * how long, in microseconds, the server may watch for the guest's next request before it
	 * waits for a kick; 0: not at all. vmfs_watch_us() returns a sensible value.
	 */
	uint32_t watch_us;
	/*
	 * The most inodes that the guest may know at once. vmfs_jail() sets this limit,
	 * max_descriptors and max_handles.
	 */
	uint32_t max_nodes;
	/* The most descriptors for inodes, open files and lock owners together; at least 64. */
	uint32_t max_descriptors;
	/* the most open files, and also the most lock owners, that the guest may have */
	uint32_t max_handles;
	/*
	 * Descriptor of a user namespace that the server enters; 0: none. The namespace must map
	 * each id to the same id outside. In the namespace the server has no rights over files of
	 * users that the namespace does not map, and acts as `uid` and `gid`, which must be mapped.
	 */
	int userns;
	uid_t uid;
	gid_t gid;
	/*
	 * name in the shared root of a mount that becomes read-only when the monitor asks for it on
	 * `seal`; NULL: none
	 */
	const char *sealed;
	int seal;
};

/*
 * Confines the calling process to the shared directory. The process gets a mount namespace whose
 * root is the share (read-only if that is configured), in which device files, set-user-ID bits and
 * symbolic links have no effect for this process. It has no network. The process keeps only the
 * descriptors `sock`, `root` and `proc` of the configuration, the capabilities that it needs to
 * handle the ownership of files, and the system calls that the server makes. The caller needs
 * CAP_SYS_ADMIN. After an error the process must end, because the steps before it are not undone.
 *
 * With a user namespace the server has only the rights of root in that namespace. So even a guest
 * that controls its own kernel can use files of users outside the namespace only as any other user
 * can, and cannot give a file to such a user.
 *
 * If `sealed` is a name in the root, vmfs_jail() also starts a child process, which waits for a
 * byte from the socket `seal` and then makes the mount at that name read-only in the host's kernel.
 * The child answers on the socket with an int: 0, or an errno (EBUSY: the guest has a file open for
 * writing).
 */
int vmfs_jail(struct vmfs_config *c) must_check;

/*
 * Serves the share until the monitor closes the socket, and then returns 0. Returns -EPROTO if the
 * monitor broke the protocol; other errors come from the host. The function changes the umask, and
 * the working directory to c->proc, so the process should do nothing else.
 */
int vmfs_serve(const struct vmfs_config *c) must_check;

/*
 * Returns the value for watch_us: 0 if this process may use only one CPU, because then the guest
 * cannot run while the server watches.
 */
uint32_t vmfs_watch_us(void);

/*
 * Raises the process's limit of open files, and sets the three limits of the configuration.
 * vmfs_jail() calls it.
 */
int vmfs_raise_limits(struct vmfs_config *c) must_check;

/*
 * Serves the share to the kernel of another machine, which mounts it by FUSE: the requests come
 * from `in`, and the replies go to `out`. The process is not confined. Serves until the end of
 * `in`, and then returns 0. The function changes the umask and the working directory, as
 * vmfs_serve() does.
 */
int vmfs_serve_stream(struct vmfs_config *c, int in, int out) must_check;
