/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The mount points in a read-only root are made by the guest, so its mount is
 * writable until the container is there; then it is sealed. Neither the server nor the monitor may
 * change mounts any more: a child of the server's, which stays in its mount namespace, may do that
 * and nothing else. It hears nothing of the guest's, only that one word of the monitor's.
 *
 * From then on it is the host's kernel that says EROFS, whatever the guest asks of the server: all
 * descriptors of nodes are of that mount. A descriptor that is open for writing would go on, but
 * the kernel makes no mount read-only that has one. Then the seal fails, and with it the container.
 * The guest's kernel tells of files that it has closed a moment later, so that some tries are made.
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
#include "vm/fs/fs.h"

#define TRIES 50
#define WAIT_MS 100 /* at most, between two */

/* All that is done from here on. */
static const int allowed[] = {SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(mount_setattr),
	SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep), SCMP_SYS(restart_syscall),
	SCMP_SYS(exit_group)};

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

/* The answer is an int, 0 or an errno. Without a word the monitor or the server has gone. */
static int wait_and_seal(int sock, int mount)
{
	const int keep[] = {sock, mount};
	char word;

	prctl(PR_SET_NAME, "caisson-seal");
	int r = fd_close_all_but(keep, ARRAY_SIZE(keep));
	if (r >= 0)
		r = fs_drop_caps(UINT64_C(1) << CAP_SYS_ADMIN);
	if (r >= 0)
		r = fs_filter_calls(allowed, ARRAY_SIZE(allowed), false);
	if (r < 0)
		return r;
	if (read(sock, &word, sizeof(word)) != sizeof(word))
		return 0;
	int answer = make_read_only(mount);
	return write(sock, &answer, sizeof(answer)) < 0 ? err_sys("virtio-fs: tell of the seal")
							: 0;
}

int fs_seal_start(const struct vmfs_config *c)
{
	if (!c->sealed)
		return 0;
	_cleanup_fd_ int mount = openat(c->root, c->sealed, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (mount < 0)
		return err_sys("virtio-fs: open what is to be sealed");
	/* Who could wait for it is in the jail: the kernel reaps it. */
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
		dprintf(2, "the file server: %s\n", err_msg());
	/* Not _exit(), in which sanitizers do more than is allowed. */
	for (;;)
		syscall(SYS_exit_group, 0);
}
