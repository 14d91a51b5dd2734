/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * QEMU is confined from outside, before it is executed: it never has a capability or the host's
 * tree, and the only thing left to itself is its list of system calls (-sandbox). Its root is a
 * tmpfs that holds what a dynamically linked program needs, the host's /usr and the like, bound
 * read-only; where QEMU is installed elsewhere, that directory too. There is no /proc, no /run, no
 * /etc but the linker's, and no device but null and urandom.
 *
 * Kernel and initramfs are read by name, before the guest runs, by a user who owns nothing; on the
 * host they may be for root's eyes only. So they are copied into that tmpfs. The other files that
 * it has are descriptors, but for the one socket that it must connect itself (relay.h).
 *
 * It is the first process of a pid namespace: it can signal nobody, not even the monitor, whose
 * user it has so that the monitor can kill it. In the container's network namespace it is for its
 * taps' sake: Landlock keeps it from connecting there.
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

#define FILES_MAX 1024 /* memory, eventfds of queues, what it inherits */

/* Those that are there. Symbolic links, as on merged systems, are made anew. */
static const char *const trees[] = {
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

/* What only a QEMU that was built without it says, when it is asked. */
#define NO_SANDBOX "sandbox support is not enabled"

int jail_qemu_has_sandbox(const char *program)
{
	_cleanup_fd_ int fd = open(program, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys("open %s", program);
	if (st.st_size <= 0)
		return 1;
	/* Quicker than to start it, as its -version takes a tenth of a second. */
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

/* path of the host's tree, at the same place in root; not an error if there is none. */
static int bind_tree(int root, const char *path)
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

/* Where the program is installed: what is beside it, or above if that is called bin. */
static int bind_program(int root, const char *program)
{
	_cleanup_free_ char *dir = strdup(program);
	char *slash = dir ? strrchr(dir, '/') : NULL;

	for (size_t i = 0; i < ARRAY_SIZE(trees); i++)
		if (str_starts(program, trees[i]) && program[strlen(trees[i])] == '/')
			return 0;
	if (!slash)
		return err_set(ENOMEM, "out of memory");
	*slash = '\0';
	slash = strrchr(dir, '/');
	if (slash && slash > dir && streq(slash, "/bin"))
		*slash = '\0';
	if (!*dir)
		return err_set(EINVAL,
			"vm.hypervisor.path: %s: expected in a directory of its own, not in /, of "
			"which it may see nothing",
			program);
	return bind_tree(root, dir);
}

static int copy(int root, const char *name, int from)
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

/* For QEMU, whose user is not the root's. Who opened the socket accepts. */
static int bind_listener(int root, int listener)
{
	const struct sockaddr_un at = {.sun_family = AF_UNIX, .sun_path = "." JAIL_SOCKET};

	if (fchdir(root) < 0 || bind(listener, (const struct sockaddr *)&at, sizeof(at)) < 0 ||
		chmod(at.sun_path, 0666) < 0 || listen(listener, 1) < 0)
		return err_sys("make the socket that QEMU connects to");
	return 0;
}

static int enter_root(const struct jail_qemu *q)
{
	struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY};
	_cleanup_fd_ int root = make_root();
	if (root < 0)
		return root;
	umask(022);
	int r = jail_attach_root(root);
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(trees); i++)
		r = bind_tree(root, trees[i]);
	if (r >= 0)
		r = bind_program(root, q->program);
	if (r >= 0)
		r = copy(root, JAIL_KERNEL, q->kernel);
	if (r >= 0)
		r = copy(root, JAIL_INITRAMFS, q->initramfs);
	if (r >= 0 && q->listener >= 0)
		r = bind_listener(root, q->listener);
	if (r < 0)
		return r;
	if (mount_setattr(root, "", AT_EMPTY_PATH, &ro, sizeof(ro)) < 0)
		return err_sys("make QEMU's root read-only");
	return path_pivot(root);
}

static int set_descriptors(const struct jail_qemu *q)
{
	for (size_t i = 0; i < q->nfds; i++)
		if (fcntl(q->fds[i], F_SETFD, 0) < 0)
			return err_sys("hand a descriptor to QEMU");
	return fd_close_all_but(q->fds, q->nfds);
}

/* Not before the user has changed, which takes this away. In its namespace it has no parent. */
static int die_with_monitor(const struct jail_qemu *q)
{
	struct pollfd p = {.fd = q->monitor_pidfd, .events = POLLIN};

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return err_sys("set the signal of the parent's death");
	return poll(&p, 1, 0) == 0 ? 0 : err_set(ESRCH, "the monitor has gone");
}

int jail_qemu_exec(const struct jail_qemu *q)
{
	const struct rlimit threads = {q->threads, q->threads};
	sigset_t none;

	int r = enter_root(q);
	if (r >= 0)
		r = jail_limit(FILES_MAX);
	if (r >= 0)
		r = jail_drop_rights(jail_id(q->monitor));
	/* Its files are in its root, its peers descriptors that it has. */
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
