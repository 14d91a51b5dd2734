/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The server jails itself. The steps that may fail because of the host (namespaces, mounts, limits)
 * come first, then those that give up rights, and the system call filter comes last. The share is
 * cloned as a detached mount tree with its flags, mounted over the root of a new mount namespace
 * and made the root by pivot_root(2). So no part of the host's tree is left above or beside it.
 * System calls that take only a path need /proc/self/fd. The server has that directory alone as a
 * detached mount, so ".." does not lead out of it.
 *
 * If c->userns is set, the process enters that user namespace after it has made its mounts. Its
 * capabilities are then valid only in this namespace.
 *
 * The process keeps the capabilities that a file server needs for POSIX ownership, because it acts
 * for any user of the guest. It keeps neither CAP_SYS_ADMIN (trusted.* attributes) nor any that
 * concerns more than files.
 */
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/path.h"
#include "base/sys.h"
#include "jail/jail.h"
#include "vm/fs/fs.h"

#define CAP(c) (UINT64_C(1) << (c))
#define CAPS \
	(CAP(CAP_CHOWN) | CAP(CAP_DAC_OVERRIDE) | CAP(CAP_DAC_READ_SEARCH) | CAP(CAP_FOWNER) | \
		CAP(CAP_FSETID) | CAP(CAP_SETUID) | CAP(CAP_SETGID) | CAP(CAP_MKNOD) | \
		CAP(CAP_SETFCAP))
_Static_assert(CAPS <= UINT32_MAX, "capabilities of the upper half");

/*
 * how many of the server's descriptors are not for nodes and open files, but for the monitor's
 * socket, the virtqueues' eventfds, guest memory, and files that a request opens for a moment
 */
#define RESERVED_FILES 128
/*
 * most inodes that the guest may know: a limit of memory, because the server needs some 150 bytes
 * and the name for each
 */
#define MAX_NODES (1U << 20)
/*
 * most descriptors that the server may open, so that one guest cannot use up all files of the host
 * (fs.file-max)
 */
#define MAX_DESCRIPTORS (1U << 17)

int vmfs_raise_limits(struct vmfs_config *c)
{
	_cleanup_strbuf_ struct strbuf b = {0};
	struct rlimit l;
	uint64_t most = 0;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0)
		return err_sys("virtio-fs: read the limit of open files");
	if (fd_read_file(AT_FDCWD, "/proc/sys/fs/nr_open", &b, 64) == 0)
		most = strtoull(strbuf_str(&b), NULL, 10);
	if (most > l.rlim_max) {
		struct rlimit more = {most, most};

		if (setrlimit(RLIMIT_NOFILE, &more) == 0)
			l = more;
	}
	l.rlim_cur = l.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &l) < 0)
		return err_sys("virtio-fs: raise the limit of open files to %llu",
			(unsigned long long)l.rlim_max);
	most = l.rlim_cur < (1U << 30) ? l.rlim_cur : 1U << 30;
	if (most < 2 * RESERVED_FILES)
		return err_set(EMFILE,
			"virtio-fs: the limit of open files is %llu, expected at least %u",
			(unsigned long long)most, 2 * RESERVED_FILES);
	most -= RESERVED_FILES;
	c->max_nodes = MAX_NODES;
	c->max_descriptors = c->max_handles =
		most < MAX_DESCRIPTORS ? (uint32_t)most : MAX_DESCRIPTORS;
	return 0;
}

static int open_proc_fd(void)
{
	_cleanup_fd_ int proc = path_open_proc();
	if (proc < 0)
		return proc;
	_cleanup_fd_ int dir = sys_openat2(proc, "self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC, 0,
		RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV);
	if (dir < 0)
		return err_sys("virtio-fs: open /proc/self/fd");
	int fd = open_tree(dir, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	return fd < 0 ? err_sys("virtio-fs: clone /proc/self/fd") : fd;
}

static int clone_share(const struct vmfs_config *c)
{
	struct mount_attr a = {
		.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC |
			    MOUNT_ATTR_NOSYMFOLLOW | (c->read_only ? MOUNT_ATTR_RDONLY : 0),
		.propagation = MS_PRIVATE,
	};
	_cleanup_fd_ int fd = open_tree(
		c->root, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);

	if (fd < 0)
		return err_sys("virtio-fs: clone the shared tree");
	if (mount_setattr(fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &a, sizeof(a)) < 0)
		return err_sys("virtio-fs: set the shared tree's mount flags");
	return take_fd(&fd);
}

static int enter_share(struct vmfs_config *c)
{
	_cleanup_fd_ int tree = clone_share(c);
	if (tree < 0)
		return tree;
	if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP) < 0)
		return err_sys("virtio-fs: make namespaces");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_sys("virtio-fs: make the mounts private");
	if (move_mount(tree, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_sys("virtio-fs: mount the shared tree");
	int r = path_pivot(tree);
	if (r < 0)
		return err_ctx(r, "virtio-fs");
	int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys("virtio-fs: open the shared tree");
	close(c->root);
	c->root = fd;
	return 0;
}

/*
 * The system calls that the server may make, grouped by the source file that makes them. None of
 * them makes sockets, processes or mounts, executes a file, or is ioctl, ptrace or io_uring. Memory
 * is never executable.
 */
static const int allowed[] = {
	/*
	 * system calls of serve.c and virtio/: they talk to the monitor's socket, receive the
	 * guest's notifications, send interrupts, and set the timer by which the server retries
	 * requests that wait for a file lock
	 */
	SCMP_SYS(timerfd_create),
	SCMP_SYS(timerfd_settime),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(recvmsg),
	SCMP_SYS(sendmsg),
	SCMP_SYS(sendto),
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(writev),
	SCMP_SYS(close),
	SCMP_SYS(fcntl),
	SCMP_SYS(munmap),
	SCMP_SYS(restart_syscall),
	/* system calls of node.c, attr.c and name.c */
	SCMP_SYS(openat),
	SCMP_SYS(openat2),
	SCMP_SYS(open),
	SCMP_SYS(statx),
	SCMP_SYS(fstat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(fstatfs),
	SCMP_SYS(readlinkat),
	SCMP_SYS(chmod),
	SCMP_SYS(fchmodat),
	SCMP_SYS(fchownat),
	SCMP_SYS(truncate),
	SCMP_SYS(ftruncate),
	SCMP_SYS(utimensat),
	SCMP_SYS(getxattr),
	SCMP_SYS(setxattr),
	SCMP_SYS(listxattr),
	SCMP_SYS(removexattr),
	SCMP_SYS(symlinkat),
	SCMP_SYS(mknodat),
	SCMP_SYS(mkdirat),
	SCMP_SYS(unlinkat),
	SCMP_SYS(renameat),
	SCMP_SYS(renameat2),
	SCMP_SYS(linkat),
	SCMP_SYS(fchdir),
	/* system calls of file.c, dir.c and lock.c */
	SCMP_SYS(preadv),
	SCMP_SYS(pwritev2),
	SCMP_SYS(pwritev), /* musl 1.2.5 makes this call for a pwritev2() without flags */
	SCMP_SYS(fsync),
	SCMP_SYS(fdatasync),
	SCMP_SYS(syncfs),
	SCMP_SYS(fallocate),
	SCMP_SYS(lseek),
	SCMP_SYS(copy_file_range),
	SCMP_SYS(getdents64),
	SCMP_SYS(flock),
	/* system calls of creds.c */
	SCMP_SYS(umask),
	SCMP_SYS(setfsuid),
	SCMP_SYS(setfsgid),
	SCMP_SYS(capget),
	SCMP_SYS(capset),
	SCMP_SYS(geteuid),
	SCMP_SYS(getegid),
	/* system calls of the C library: memory, abort() and exit */
	SCMP_SYS(brk),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(futex),
	SCMP_SYS(getrandom),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(gettid),
	SCMP_SYS(getpid),
	SCMP_SYS(tgkill),
	SCMP_SYS(tkill),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
};

int vmfs_jail(struct vmfs_config *c)
{
	int r = vmfs_raise_limits(c);
	if (r < 0)
		return r;
	c->proc = open_proc_fd();
	if (c->proc < 0)
		return c->proc;
	r = enter_share(c);
	if (r == 0)
		r = fs_seal_start(c);
	if (r == 0)
		r = fs_enter_userns(c);
	const int keep[] = {c->sock, c->root, c->proc, c->carrier > 0 ? c->carrier : c->sock};
	if (r == 0)
		r = fd_close_all_but(keep, ARRAY_SIZE(keep));
	if (r == 0)
		r = fs_drop_caps(CAPS);
	return r < 0 ? r : jail_filter_calls(allowed, ARRAY_SIZE(allowed), JAIL_MEMORY);
}
