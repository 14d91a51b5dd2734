/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The terminal is made in the container's own devpts, after the step PIVOT, so
 * that ttyname(3) works in the container. INIT, the container's first process, sends the terminal's
 * master to the runtime, which sends the master to --console-socket or relays the data to caisson's
 * own terminal.
 *
 * Everything in the container may be forged, and the container is already running when an exec asks
 * for a terminal. So the CONSOLE step checks the file system type of the devpts, opens "ptmx" in
 * the devpts without crossing links or mounts, and gets the slave side from the master itself
 * (TIOCGPTPEER), not from a path (CVE-2025-52565).
 */
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <termios.h>

#include "base/path.h"
#include "step/mnt.h"

#define NO_DEVPTS \
	"a terminal needs a devpts file system at /dev/pts, %s: add to mounts {\"destination\": " \
	"\"/dev/pts\", \"type\": \"devpts\", \"source\": \"devpts\", \"options\": " \
	"[\"newinstance\", " \
	"\"ptmxmode=0666\", \"mode=0620\"]}"

static int open_master(int root)
{
	struct statfs fs;
	struct stat st;

	_cleanup_fd_ int pts = path_open(root, "/dev/pts", O_PATH | O_DIRECTORY);
	if (pts == -ENOENT || pts == -ENOTDIR)
		return err_set(ENODEV, NO_DEVPTS, "but there is no such directory");
	if (pts < 0)
		return pts;
	if (fstatfs(pts, &fs) < 0)
		return err_sys("stat /dev/pts");
	/*
	 * A devpts has only one directory, so any directory in a devpts is the root of the devpts.
	 */
	if (fs.f_type != DEVPTS_SUPER_MAGIC)
		return err_set(ENODEV, NO_DEVPTS, "but something else is there");
	int fd = sys_openat2(pts, "ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC, 0,
		RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV);
	if (fd < 0 && errno == EXDEV)
		return err_set(EXDEV, "refused: something is mounted over /dev/pts/ptmx");
	if (fd < 0)
		return err_set(errno, "open /dev/pts/ptmx: %s", err_text(errno));
	_cleanup_fd_ int master = fd;
	if (fstat(master, &st) < 0)
		return err_sys("stat /dev/pts/ptmx");
	if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(5, 2))
		return err_set(EINVAL, "/dev/pts/ptmx is not the character device 5:2");
	return take_fd(&master);
}

static int open_slave(int master, const struct spec_process *p)
{
	struct winsize size = {.ws_row = p->console_height, .ws_col = p->console_width};
	int unlock = 0;

	if (ioctl(master, TIOCSPTLCK, &unlock) < 0)
		return err_sys("unlock the terminal");
	_cleanup_fd_ int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		return err_sys("open the terminal's slave side");
	if ((size.ws_row || size.ws_col) && ioctl(slave, TIOCSWINSZ, &size) < 0)
		return err_sys("process.consoleSize: set the terminal's size");
	/*
	 * Only the owner of the terminal changes. The terminal's group stays as devpts set it,
	 * which is the group tty if the mount option gid= says so.
	 */
	if (p->user.uid && fchown(slave, p->user.uid, (gid_t)-1) < 0)
		return err_sys("process.user.uid: give the terminal to user %u", p->user.uid);
	return take_fd(&slave);
}

int mnt_console_target(int root)
{
	const char *name;
	struct stat st;

	_cleanup_fd_ int dir = path_parent(root, "/dev/console", &name);
	if (dir < 0)
		return mnt_path_error(dir, "", "/dev/console");
	_cleanup_fd_ int target = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (target < 0 && errno == ENOENT) {
		_cleanup_fd_ int made = openat(
			dir, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_RDONLY | O_CLOEXEC, 0600);
		if (made < 0)
			return err_set(errno, "create /dev/console to mount the terminal on: %s",
				err_text(errno));
		target = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	}
	if (target < 0)
		return err_sys("open /dev/console");
	if (fstat(target, &st) < 0)
		return err_sys("stat /dev/console");
	if (S_ISLNK(st.st_mode) || S_ISDIR(st.st_mode))
		return err_set(EEXIST,
			"the root file system's /dev/console is %s: expected a file or nothing, to "
			"mount the terminal on",
			S_ISDIR(st.st_mode) ? "a directory" : "a symbolic link");
	return take_fd(&target);
}

static int mount_on_console(struct step_ctx *c, int slave)
{
	_cleanup_fd_ int target = mnt_console_target(c->root);

	if (target < 0)
		return target;
	_cleanup_fd_ int tree = mnt_clone(slave, false);
	if (tree < 0)
		return err_sys("copy the mount of the terminal");
	return mnt_attach(tree, target) < 0 ? err_sys("mount the terminal on /dev/console") : 0;
}

/*
 * Makes the container's terminal the controlling terminal of the session, and puts the terminal in
 * place of standard input, output and error.
 */
static int take_over_terminal(struct step_ctx *c, int slave)
{
	/*
	 * If a step FORK follows (in an exec), the process that FORK makes leads the session, so
	 * that process and not this one makes the terminal its controlling terminal.
	 */
	if (!c->plan->exec || c->forked) {
		/*
		 * setsid(2) fails with EPERM if this process leads a session already, which is no
		 * error here.
		 */
		if (setsid() < 0 && getsid(0) != getpid())
			return err_sys("start a session");
		if (ioctl(slave, TIOCSCTTY, 0) < 0)
			return err_sys("make the terminal the controlling one");
	}
	for (int fd = 0; fd <= 2; fd++)
		if (dup2(slave, fd) < 0)
			return err_sys("make the terminal descriptor %d", fd);
	return 0;
}

int step_console(struct step_ctx *c, const struct step *s)
{
	_cleanup_fd_ int master = open_master(c->root);

	if (master < 0)
		return master;
	_cleanup_fd_ int slave = open_slave(master, s->process);
	if (slave < 0)
		return slave;
	/*
	 * An exec does not mount its terminal on /dev/console, because the terminal of the
	 * container's first process may be mounted there.
	 */
	if (!c->plan->exec) {
		int r = mount_on_console(c, slave);
		if (r < 0)
			return r;
	}
	int r = c->peer.send_fd(c->peer.data, "console", master);
	if (r < 0)
		return r;
	r = take_over_terminal(c, slave);
	if (r < 0)
		return r;
	c->console = take_fd(&slave);
	return 0;
}
