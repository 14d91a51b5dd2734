/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The child process that the monitor clones for QEMU confines itself before it executes QEMU, so
 * QEMU never has a capability or sees the host's files. Only the system call filter is installed by
 * QEMU itself (-sandbox). The child's root is a tmpfs in which the directories that a dynamically
 * linked program needs, such as /usr, are bound read-only. If QEMU is installed elsewhere, its
 * directory is bound too. The root has no /proc and no /run, of /etc only the linker's files, and
 * of devices only null and urandom.
 *
 * QEMU opens the kernel and the initramfs by name, as a user who owns nothing. On the host only
 * root may be allowed to read these two files, so the child copies them into the tmpfs. QEMU gets
 * its other files as descriptors, except for one socket to which it must connect itself (relay.h).
 *
 * QEMU is the first process of a pid namespace, so it can signal no process of the host. It has the
 * monitor's user, because the monitor must be able to kill it. It is in the container's network
 * namespace, because the machine's taps are there; Landlock keeps it from connecting to anything in
 * that namespace.
 */
#include "engine/qemu_jail.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/path.h"
#include "base/sys.h"
#include "jail/jail.h"

/* how many descriptors QEMU may have, for memory, eventfds of queues and inherited files */
#define FILES_MAX 1024

/*
 * Paths of the host that are bind-mounted into QEMU's root if they exist. If a path is a symbolic
 * link (/bin on merged systems), the link is copied.
 */
static const char *const bound_paths[] = {
	"/usr",
	"/bin",
	"/lib",
	"/lib64",
	"/etc/ld.so.cache",
	"/etc/alternatives",
	"/nix/store",
	"/gnu/store",
	"/dev/null",
	"/dev/urandom",
};

/*
 * If the file of the QEMU program contains this error message, that QEMU was built without support
 * for -sandbox.
 */
#define NO_SANDBOX "sandbox support is not enabled"

int qemu_has_sandbox(const char *program)
{
	_cleanup_fd_ int fd = open(program, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys("open %s", program);
	if (st.st_size <= 0)
		return 1;
	/*
	 * The error message NO_SANDBOX is searched in QEMU's program file, because starting QEMU to
	 * ask whether it knows -sandbox would take a tenth of a second.
	 */
	void *text = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (text == MAP_FAILED)
		return err_sys("read %s", program);
	bool lacks = memmem(text, (size_t)st.st_size, NO_SANDBOX, strlen(NO_SANDBOX)) != NULL;
	munmap(text, (size_t)st.st_size);
	return !lacks;
}

static int make_root(void)
{
	_cleanup_fd_ int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);

	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0755", 0) < 0 ||
		fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return err_sys("make QEMU's root");
	int root = fsmount(
		fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	return root < 0 ? err_sys("mount QEMU's root") : root;
}

static int copy_link(int root, const char *path)
{
	char target[4096];
	const char *name;
	ssize_t n = readlink(path, target, sizeof(target) - 1);

	if (n < 0)
		return err_sys("read the link %s", path);
	target[n] = '\0';
	_cleanup_fd_ int dir = path_parent(root, path, &name);
	if (dir < 0)
		return dir;
	return symlinkat(target, dir, name) < 0 ? err_sys("make the link %s", path) : 0;
}

/*
 * Binds a path of the host to the same path in `root`, QEMU's root directory. Does nothing if the
 * path does not exist.
 */
static int bind_path(int root, const char *path)
{
	struct mount_attr a = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID};
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_sys("%s", path);
	if (S_ISLNK(st.st_mode))
		return copy_link(root, path);
	if (!S_ISCHR(st.st_mode))
		a.attr_set |= MOUNT_ATTR_NODEV;
	_cleanup_fd_ int tree =
		open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	if (tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &a, sizeof(a)) < 0)
		return err_sys("bind %s", path);
	_cleanup_fd_ int at =
		S_ISDIR(st.st_mode) ? path_mkdirs(root, path) : path_mkfile(root, path);
	if (at < 0)
		return err_ctx(at, "%s", path);
	return move_mount(tree, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0
		       ? err_sys("bind %s", path)
		       : 0;
}

/*
 * Binds the directory that contains QEMU's program file into QEMU's root. If that directory is
 * called "bin", binds its parent.
 */
static int bind_program(int root, const char *program)
{
	_cleanup_free_ char *dir = strdup(program);
	char *slash = dir ? strrchr(dir, '/') : NULL;

	for (size_t i = 0; i < ARRAY_SIZE(bound_paths); i++)
		if (str_starts(program, bound_paths[i]) && program[strlen(bound_paths[i])] == '/')
			return 0;
	if (!slash)
		return err_set(ENOMEM, "out of memory");
	*slash = '\0';
	slash = strrchr(dir, '/');
	if (slash && slash > dir && streq(slash, "/bin"))
		*slash = '\0';
	if (!*dir)
		return err_set(EINVAL,
			"vm.hypervisor.path: %s: the program is in /, which QEMU may not see: "
			"expected it "
			"in a directory of its own",
			program);
	return bind_path(root, dir);
}

static int copy_file(int root, const char *name, int from)
{
	_cleanup_fd_ int to = openat(root, name + 1, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	struct stat st;
	off_t at = 0;

	if (to < 0 || fstat(from, &st) < 0)
		return err_sys("copy the guest's %s", name + 1);
	while (at < st.st_size) {
		ssize_t n = sendfile(to, from, &at, (size_t)(st.st_size - at));
		if (n < 0)
			return err_sys("copy the guest's %s", name + 1);
		if (n == 0)
			return err_set(EIO, "copy the guest's %s: it has become shorter", name + 1);
	}
	return 0;
}

/*
 * Makes the monitor's socket listen at a path in QEMU's root, so that QEMU can connect to the
 * monitor. The mode of the socket lets every user connect, because QEMU's user owns neither the
 * socket nor the directory.
 */
static int bind_listener(int root, int listener)
{
	const struct sockaddr_un at = {.sun_family = AF_UNIX, .sun_path = "." QEMU_JAIL_SOCKET};

	if (fchdir(root) < 0 || bind(listener, (const struct sockaddr *)&at, sizeof(at)) < 0 ||
		chmod(at.sun_path, 0666) < 0 || listen(listener, 1) < 0)
		return err_sys("make the socket that QEMU connects to");
	return 0;
}

static int enter_root(const struct qemu_jail *q)
{
	struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY};
	_cleanup_fd_ int root = make_root();
	if (root < 0)
		return root;
	umask(022);
	int r = jail_attach_root(root);
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(bound_paths); i++)
		r = bind_path(root, bound_paths[i]);
	if (r >= 0)
		r = bind_program(root, q->program);
	if (r >= 0 && q->kernel >= 0)
		r = copy_file(root, QEMU_JAIL_KERNEL, q->kernel);
	if (r >= 0 && q->initramfs >= 0)
		r = copy_file(root, QEMU_JAIL_INITRAMFS, q->initramfs);
	if (r >= 0 && q->listener >= 0)
		r = bind_listener(root, q->listener);
	if (r < 0)
		return r;
	if (mount_setattr(root, "", AT_EMPTY_PATH, &ro, sizeof(ro)) < 0)
		return err_sys("make QEMU's root read-only");
	return path_pivot(root);
}

static int set_descriptors(const struct qemu_jail *q)
{
	for (size_t i = 0; i < q->nfds; i++)
		if (fcntl(q->fds[i], F_SETFD, 0) < 0)
			return err_sys("hand a descriptor to QEMU");
	return fd_close_all_but(q->fds, q->nfds);
}

/*
 * Makes the kernel kill QEMU when the monitor ends. PR_SET_PDEATHSIG is set after the change of
 * user, because a change of user clears it. If the monitor has ended before PR_SET_PDEATHSIG is
 * set, the kernel does not send the signal, so the function also checks whether the monitor still
 * runs. It checks the monitor's pidfd, because getppid() returns 0 for a parent outside of the pid
 * namespace.
 */
static int die_with_monitor(const struct qemu_jail *q)
{
	struct pollfd p = {.fd = q->monitor_pidfd, .events = POLLIN};

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return err_sys("set the signal of the parent's death");
	return poll(&p, 1, 0) == 0 ? 0 : err_set(ESRCH, "the monitor has ended");
}

int qemu_jail_exec(const struct qemu_jail *q)
{
	const struct rlimit threads = {q->threads, q->threads};
	sigset_t none;

	int r = enter_root(q);
	if (r >= 0)
		r = jail_limit(FILES_MAX);
	if (r >= 0)
		r = jail_drop_rights(q->user);
	/*
	 * This Landlock ruleset forbids QEMU to connect to anything. The ruleset does not restrict
	 * opening files, because QEMU's root contains only files that QEMU may use.
	 */
	if (r >= 0)
		r = jail_landlock(true);
	if (r >= 0 && setrlimit(RLIMIT_NPROC, &threads) < 0)
		r = err_sys("limit QEMU's threads");
	if (r >= 0)
		r = die_with_monitor(q);
	if (r >= 0)
		r = set_descriptors(q);
	if (r < 0)
		return r;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv(q->program, q->argv);
	return err_sys("%s", q->program);
}
