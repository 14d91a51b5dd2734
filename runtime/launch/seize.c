/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A command that changes a container holds a flock(2) lock on its state
 * directory. A command that makes a container may hold the lock forever, for example if a hook
 * sleeps or if the cgroup is beneath a frozen one. So `delete --force` and `kill KILL` end the
 * command that holds the lock. They find its pid in /proc/locks, so no file has to record it. On
 * SIGTERM, a command that makes a container undoes what it has made (base/interrupt.h).
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "launch/container.h"

#define LOCKS_MAX ((size_t)64 << 20)
/*
 * how long, in ms, `delete --force` waits for a command that holds the container's lock but is not
 * making the container
 */
#define OTHERS_MS 10000
/* how long, in ms, a command that is making a container may take to undo after SIGTERM */
#define UNDO_MS 5000
/* how long, in ms, a command that is making a container may take to end after SIGKILL */
#define DEATH_MS 10000

/*
 * Finds the process that holds the lock on the container's state directory. *ret is 0 if no process
 * holds the lock, or if this process cannot see the holder. A line of /proc/locks is "1: FLOCK
 * ADVISORY WRITE 1234 00:1a:5678 0 EOF", and has "->" after the first number if the process 1234
 * only waits for the lock.
 */
static int find_holder(const struct container *c, pid_t *ret)
{
	_cleanup_strbuf_ struct strbuf locks = {0};
	struct stat st;
	char *save = NULL;

	*ret = 0;
	if (fstat(c->dir, &st) < 0)
		return err_sys("stat the state directory of \"%s\"", c->id);
	int r = fd_read_file(AT_FDCWD, "/proc/locks", &locks, LOCKS_MAX);
	for (char *l = r < 0 ? NULL : strtok_r(locks.s, "\n", &save); l;
		l = strtok_r(NULL, "\n", &save)) {
		unsigned major, minor;
		unsigned long inode;
		int pid;
		if (sscanf(l, "%*d: FLOCK ADVISORY WRITE %d %x:%x:%lu", &pid, &major, &minor,
			    &inode) == 4 &&
			inode == st.st_ino && makedev(major, minor) == st.st_dev)
			*ret = pid;
	}
	return r < 0 ? r : 0;
}

static bool ends_within(int pidfd, int ms)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	return poll(&p, 1, ms) > 0;
}

/*
 * Ends the process that holds the container's lock. Returns 1 if a process was ended, and 0 if no
 * process holds the lock any more.
 */
static int end_holder(struct container *c, const char *what)
{
	pid_t pid, again;
	int r = find_holder(c, &pid);

	if (r < 0 || pid <= 0)
		return r < 0 ? r : 0;
	_cleanup_fd_ int pidfd = pidfd_open(pid, 0);
	/*
	 * The lock's holder is looked up again after its pidfd was opened, because before that the
	 * holder may have ended and another process may have got its pid.
	 */
	if (pidfd < 0 || find_holder(c, &again) < 0 || again != pid)
		return 0;
	log_warn("container \"%s\" %s by process %d, which is now told to end", c->id, what, pid);
	if (pidfd_send_signal(pidfd, SIGTERM, NULL, 0) < 0)
		return errno == ESRCH ? 1 : err_sys("end process %d", pid);
	if (ends_within(pidfd, UNDO_MS))
		return 1;
	pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
	return ends_within(pidfd, DEATH_MS)
		       ? 1
		       : err_set(ETIMEDOUT,
				 "process %d, which holds container \"%s\", does not end", pid,
				 c->id);
}

int container_end_maker(struct container *c)
{
	int r = end_holder(c, "is being created");

	return r < 0 ? r : 0;
}

/*
 * Waits up to ms milliseconds for the container's lock. Returns 1 if this process took the lock, 0
 * if another process still holds it.
 */
static int try_lock(struct container *c, int ms)
{
	const struct timespec moment = {.tv_nsec = 10 * 1000 * 1000};
	int64_t deadline = clock_ms() + ms;

	while (flock(c->dir, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return err_sys("lock the container's state directory");
		if (clock_ms() >= deadline)
			return 0;
		nanosleep(&moment, NULL);
	}
	return 1;
}

int container_seize(struct container *c)
{
	bool making = c->pid == 0;
	int r = try_lock(c, 0);

	if (r == 0 && !making)
		r = try_lock(c, OTHERS_MS);
	if (r == 0)
		r = end_holder(c, making ? "is being created" : "is being changed");
	/*
	 * The command that held the lock has ended, so the lock is free, unless another command
	 * took it, or a process that is not visible in /proc/locks holds it.
	 */
	if (r >= 0)
		r = try_lock(c, OTHERS_MS);
	if (r == 0)
		return err_set(EBUSY,
			"container \"%s\": another command holds its state directory locked",
			c->id);
	/*
	 * This process holds the lock already. container_lock() is called only because it also
	 * checks whether the container still exists.
	 */
	if (r > 0)
		r = container_lock(c);
	return r < 0 ? r : container_read_state(c);
}
