/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree_namespace LOG PROGRAM ARG...: executes PROGRAM on a kernel that seems to have the flag
 * OPEN_TREE_NAMESPACE of open_tree(2), which Linux has since 7.0. It appends a line to LOG for each
 * mount namespace that PROGRAM makes by this flag.
 *
 * A seccomp filter passes every call with the flag that PROGRAM or a child of it makes on to a
 * helper process. The helper does with older system calls what the kernel would do: it makes a
 * mount namespace that holds a copy of the mount tree and nothing else, and puts the namespace's
 * descriptor into the calling process. The helper ends when PROGRAM does.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAMESPACE 2u
#define FLAGS_ARG 2
/*
 * Number of the seccomp listener's descriptor in PROGRAM. It is high, so that the descriptors which
 * PROGRAM opens get the same numbers as without tree_namespace.
 */
#define FD_HIGH 700

static void die(const char *what)
{
	fprintf(stderr, "tree_namespace: %s: %s\n", what, strerror(errno));
	_exit(125);
}

static int install_filter(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_open_tree, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[FLAGS_ARG])),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, NAMESPACE, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof(code) / sizeof(*code), .filter = code};

	return (int)syscall(
		SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

/*
 * Makes an empty tmpfs the root of the calling process's mount namespace, and unmounts everything
 * else in this namespace.
 */
static int empty_namespace(void)
{
	int fs = fsopen("tmpfs", 0);

	if (fs < 0 || fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -1;
	int root = fsmount(fs, 0, 0);
	if (root < 0 || mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) < 0 ||
		move_mount(root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0 ||
		fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
		return -1;
	return umount2(".", MNT_DETACH);
}

/*
 * Makes the new mount namespace, in a child process, and sends the number of the namespace's
 * descriptor to `to`. The function copies the mount tree first, because the kernel copies only
 * mounts of the caller's own namespace. As OPEN_TREE_NAMESPACE does, it mounts the copy over the
 * namespace's root.
 */
static void make_namespace(int dir, unsigned recursive, int to)
{
	int tree = open_tree(dir, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | recursive);

	if (tree < 0 || unshare(CLONE_NEWNS) < 0)
		_exit(errno);
	int ns = open("/proc/self/ns/mnt", O_RDONLY);
	if (ns < 0 || empty_namespace() < 0 ||
		move_mount(tree, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		_exit(errno);
	if (send(to, &ns, sizeof(ns), 0) != sizeof(ns))
		_exit(errno);
	/*
	 * The parent process copies the descriptor with pidfd_getfd(2), and then kills this
	 * process.
	 */
	pause();
	_exit(0);
}

/*
 * Makes a mount namespace that holds a copy of the tree at `dir`. Returns the namespace's
 * descriptor, or -errno.
 */
static int namespace_of(int dir, unsigned recursive)
{
	int ends[2], theirs, ns = -1, status = 0;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	pid_t pid = fork();
	if (pid == 0) {
		close(ends[0]);
		make_namespace(dir, recursive, ends[1]);
	}
	close(ends[1]);
	if (pid > 0 && recv(ends[0], &theirs, sizeof(theirs), 0) == sizeof(theirs)) {
		int pidfd = pidfd_open(pid, 0);
		ns = pidfd < 0 ? -1 : pidfd_getfd(pidfd, theirs, 0);
		close(pidfd);
		kill(pid, SIGKILL);
	}
	close(ends[0]);
	if (pid > 0)
		waitpid(pid, &status, 0);
	return ns >= 0 ? ns
		       : -(WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : EIO);
}

static int refuse(int listener, const struct seccomp_notif *call, int error)
{
	struct seccomp_notif_resp r = {.id = call->id, .error = error};

	return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &r);
}

static void serve(int listener, int log)
{
	struct seccomp_notif call = {0};

	if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) < 0)
		return;
	int pidfd = pidfd_open((pid_t)call.pid, 0);
	int dir = pidfd < 0 ? -1 : pidfd_getfd(pidfd, (int)call.data.args[0], 0);
	int code = errno;
	close(pidfd);
	if (dir < 0) {
		refuse(listener, &call, -code);
		return;
	}
	int ns = namespace_of(dir, (unsigned)call.data.args[FLAGS_ARG] & AT_RECURSIVE);
	close(dir);
	if (ns < 0) {
		refuse(listener, &call, ns);
		return;
	}
	struct seccomp_notif_addfd add = {.id = call.id,
		.flags = SECCOMP_ADDFD_FLAG_SEND,
		.srcfd = (uint32_t)ns,
		.newfd_flags = O_CLOEXEC};
	if (ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add) < 0)
		refuse(listener, &call, -errno);
	else if (write(log, "made\n", 5) < 0)
		die("write the log");
	close(ns);
}

/*
 * Runs in the helper process, which answers the calls of PROGRAM. It copies the seccomp listener
 * from PROGRAM's process, where the listener has the number FD_HIGH.
 */
static void stand_by(pid_t program, int log, int ready)
{
	char byte;

	if (read(ready, &byte, 1) != 1)
		_exit(0);
	int pidfd = pidfd_open(program, 0);
	int listener = pidfd < 0 ? -1 : pidfd_getfd(pidfd, FD_HIGH, 0);
	if (listener < 0)
		die("take the listener");
	if (write(ready, "", 1) != 1)
		_exit(0);
	close(ready);
	struct pollfd p[2] = {{.fd = listener, .events = POLLIN}, {.fd = pidfd, .events = POLLIN}};
	while (poll(p, 2, -1) > 0 && !p[1].revents && !(p[0].revents & POLLHUP))
		if (p[0].revents)
			serve(listener, log);
	_exit(0);
}

int main(int argc, char **argv)
{
	int ready[2];
	pid_t self = getpid();

	char byte;

	if (argc < 3 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ready) < 0)
		die("usage: tree_namespace LOG PROGRAM ARG...");
	int log = open(argv[1], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (log < 0)
		die(argv[1]);
	/*
	 * Two forks keep the helper process from being a child of PROGRAM, because PROGRAM may wait
	 * for all of its children.
	 */
	pid_t between = fork();
	if (between == 0) {
		close(ready[1]);
		if (fork() == 0)
			stand_by(self, log, ready[0]);
		_exit(0);
	}
	waitpid(between, NULL, 0);
	int listener = install_filter();
	if (listener < 0 || dup3(listener, FD_HIGH, O_CLOEXEC) < 0)
		die("load the filter");
	close(listener);
	close(ready[0]);
	if (write(ready[1], "", 1) != 1 || read(ready[1], &byte, 1) != 1)
		die("start");
	close(ready[1]);
	close(log);
	execv(argv[2], argv + 2);
	die(argv[2]);
}
