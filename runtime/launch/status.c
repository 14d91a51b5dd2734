/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds out which status a container has. Also makes the files in the state directory from which
 * commands read the status.
 */
#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/process.h"
#include "launch/container.h"
#include "launch/watch.h"

static bool is_alive(const struct container *c)
{
	uint64_t start;

	return c->pid > 0 && process_start_time(c->pid, &start) == 0 && start == c->start_time;
}

/*
 * Says whether another process holds a lock on the file `name` in the directory. The test takes a
 * shared lock, so that two processes that test at the same time do not take each other for the
 * holder.
 */
static int is_locked(int dir, const char *name)
{
	_cleanup_fd_ int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return errno == ENOENT ? 0 : err_sys("open %s", name);
	if (flock(fd, LOCK_SH | LOCK_NB) == 0)
		return 0;
	return errno == EWOULDBLOCK ? 1 : err_sys("probe the lock of %s", name);
}

/* Says whether the container's first process still waits for `start`. */
static bool is_waiting(const struct container *c)
{
	const struct init_watch w = {
		.pid = c->pid, .interrupt = -EBADF, .dev = c->init_dev, .ino = c->init_ino};

	return faccessat(c->dir, CONTAINER_STARTED, F_OK, AT_SYMLINK_NOFOLLOW) != 0 &&
	       !init_has_executed(&w);
}

int container_mark_started(struct container *c)
{
	_cleanup_fd_ int fd = openat(
		c->dir, CONTAINER_STARTED, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	return fd < 0 ? err_sys("make " CONTAINER_STARTED " in the state directory") : 0;
}

int container_status_unfrozen(struct container *c, enum container_status *ret)
{
	if (c->pid == 0) {
		/*
		 * If the container has no process yet, another command is making the container now,
		 * or was killed while it made the container.
		 */
		int locked = c->locked ? 0 : is_locked(c->dir, ".");
		*ret = locked > 0 ? CONTAINER_CREATING : CONTAINER_STOPPED;
		return locked < 0 ? locked : 0;
	}
	if (!is_alive(c)) {
		*ret = CONTAINER_STOPPED;
		return 0;
	}
	int waiting = c->vm ? is_locked(c->dir, "start.lock") : is_waiting(c);
	*ret = waiting > 0 ? CONTAINER_CREATED : CONTAINER_RUNNING;
	return waiting < 0 ? waiting : 0;
}

/* Reads the file disk-error into c->disk_error. */
static int read_disk_error(struct container *c)
{
	char text[512];

	c->disk_error = NULL;
	_cleanup_fd_ int fd =
		openat(c->dir, CONTAINER_DISK_ERROR, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? 0 : err_sys("open " CONTAINER_DISK_ERROR);
	ssize_t n = read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return n < 0 ? err_sys("read " CONTAINER_DISK_ERROR) : 0;
	str_clean(text, sizeof(text), text, (size_t)n);
	c->disk_error = arena_strdup(&c->arena, text);
	return c->disk_error ? 1 : -ENOMEM;
}

int container_status(struct container *c, enum container_status *ret)
{
	int frozen = 0, r = container_status_unfrozen(c, ret);

	if (r < 0 || (*ret != CONTAINER_CREATED && *ret != CONTAINER_RUNNING))
		return r;
	if (c->vm)
		frozen = read_disk_error(c);
	if (frozen < 0)
		return frozen;
	if (c->vm)
		frozen |= container_is_frozen(c);
	else if (c->cgroup.path)
		frozen = cg_is_frozen(&c->cgroup);
	if (frozen > 0)
		*ret = CONTAINER_PAUSED;
	return 0;
}

bool container_is_frozen(const struct container *c)
{
	return faccessat(c->dir, CONTAINER_FROZEN, F_OK, 0) == 0;
}

int container_mark_frozen(struct container *c, bool frozen)
{
	if (!frozen)
		return unlinkat(c->dir, CONTAINER_FROZEN, 0) < 0 && errno != ENOENT
			       ? err_sys("remove " CONTAINER_FROZEN " from the state directory")
			       : 0;
	return fd_replace_file(c->dir, CONTAINER_FROZEN, "", 0, 0600);
}

int container_pidfd(const struct container *c)
{
	_cleanup_fd_ int fd = c->pid > 0 ? pidfd_open(c->pid, 0) : -ESRCH;

	/*
	 * The pidfd is opened before the start time of the process is checked: if it were opened
	 * afterwards, the process could end in between and its pid could belong to another process.
	 */
	if (fd < 0 || !is_alive(c))
		return err_set(ESRCH, "container not running");
	return take_fd(&fd);
}
