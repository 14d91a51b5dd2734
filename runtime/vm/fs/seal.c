/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. If a container's root is read-only, the guest still has to create mount
 * points in it. So the root's mount stays writable until the container is set up, and is then
 * sealed: made read-only. At that time neither the server nor the monitor may change mounts any
 * more. So a child process of the server, in the server's mount namespace, makes the mount
 * read-only, and may do nothing else. The child reads nothing from the guest, only one byte from
 * the monitor.
 *
 * After the seal the host's kernel refuses every change with EROFS, whatever the guest asks the
 * server, because all descriptors of nodes belong to that mount. A descriptor that is already open
 * for writing could still write, but the kernel does not make a mount read-only while such a
 * descriptor exists. In that case the seal fails, and the container does not start. The guest's
 * kernel reports closed files a moment later, so the child tries several times.
 */
#include <linux/capability.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/sys.h"
#include "jail/jail.h"
#include "vm/fs/fs.h"

#define TRIES 50
#define WAIT_MS 100 /* longest wait between two tries, in milliseconds */

/*
 * The system calls that the sealing child may make after it has set its filter. The heap makes
 * munmap(2) and madvise(2) when the child frees what it compiled the filter from.
 */
static const int allowed[] = {SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(writev),
	SCMP_SYS(mount_setattr), SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep),
	SCMP_SYS(restart_syscall), SCMP_SYS(exit_group), SCMP_SYS(munmap), SCMP_SYS(madvise)};

static int make_read_only(int mount)
{
	struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY};

	for (unsigned i = 0, ms = 1; i < TRIES; i++, ms = 2 * ms < WAIT_MS ? 2 * ms : WAIT_MS) {
		if (mount_setattr(mount, "", AT_EMPTY_PATH, &ro, sizeof(ro)) == 0)
			return 0;
		if (errno != EBUSY)
			return errno;
		nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
	}
	return EBUSY;
}

/*
 * Waits for the byte by which the monitor orders the mount to be made read-only, makes it
 * read-only, and sends the monitor the result as an int: 0, or an errno. If the socket closes
 * without a byte, the monitor or the server has ended, and the function does nothing.
 */
static int wait_and_seal(int sock, int mount)
{
	const int keep[] = {sock, mount};
	char word;

	prctl(PR_SET_NAME, "caisson-seal");
	int r = fd_close_all_but(keep, ARRAY_SIZE(keep));
	if (r >= 0)
		r = fs_drop_caps(UINT64_C(1) << CAP_SYS_ADMIN);
	if (r >= 0)
		r = jail_filter_calls(allowed, ARRAY_SIZE(allowed), 0);
	if (r < 0)
		return r;
	if (read(sock, &word, sizeof(word)) != sizeof(word))
		return 0;
	int answer = make_read_only(mount);
	return write(sock, &answer, sizeof(answer)) < 0
		       ? err_sys("virtio-fs: answer the request to seal")
		       : 0;
}

int fs_seal_start(const struct vmfs_config *c)
{
	if (!c->sealed)
		return 0;
	_cleanup_fd_ int mount = openat(c->root, c->sealed, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (mount < 0)
		return err_sys("virtio-fs: open %s, which has to be sealed", c->sealed);
	/*
	 * The server ignores SIGCHLD, so that the kernel reaps the sealing child when it ends. The
	 * server cannot reap the child itself, because its jail forbids waitpid().
	 */
	signal(SIGCHLD, SIG_IGN);
	pid_t server = getpid();
	pid_t pid = fork();
	if (pid < 0)
		return err_sys("virtio-fs: fork the process that seals");
	if (pid > 0)
		return 0;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != server)
		_exit(1);
	if (wait_and_seal(c->seal, mount) < 0)
		fd_say(STDERR_FILENO, "the file server", err_msg());
	/*
	 * Calls exit_group(2) directly, because in a build with sanitizers _exit() makes further
	 * system calls, which the filter does not allow.
	 */
	for (;;)
		syscall(SYS_exit_group, 0);
}
