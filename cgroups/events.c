/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reports out-of-memory kills and empty cgroups, by inotify(7) on memory.events and cgroup.events.
 */
#include <stdio.h>
#include <sys/inotify.h>

#include "cgroups/cg_internal.h"

struct counts {
	uint64_t oom, oom_kill;
	bool populated;
};

/*
 * Reads the counters of memory.events and cgroup.events. A cgroup that has been removed counts as
 * an empty cgroup.
 */
static int read_counts(const struct cgroup *cg, struct counts *ret)
{
	char text[512];
	uint64_t v;

	*ret = (struct counts){0};
	_cleanup_fd_ int dir = cg_open(cg);
	if (dir == -ENOENT || dir == -ENODEV) {
		err_clear();
		return 0;
	}
	if (dir < 0)
		return dir;
	int r = cg_read(dir, "memory.events", text, sizeof(text));
	if (r == 0) {
		if (cg_find_key(text, "oom", &v) == 0)
			ret->oom = v;
		if (cg_find_key(text, "oom_kill", &v) == 0)
			ret->oom_kill = v;
		/*
		 * ENOENT is no error, because without the memory controller there is no file
		 * memory.events.
		 */
	} else if (r != -ENOENT && r != -ENODEV) {
		return r;
	}
	r = cg_read(dir, "cgroup.events", text, sizeof(text));
	if (r == 0)
		ret->populated = cg_find_key(text, "populated", &v) == 0 && v;
	return r == -ENOENT || r == -ENODEV ? 0 : r;
}

static int watch_file(int fd, int dir, const char *file, bool optional)
{
	char path[64];

	/*
	 * inotify accepts only paths, so the path of the control file leads through the descriptor
	 * of the cgroup's directory.
	 */
	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dir, file);
	if (inotify_add_watch(fd, path, IN_MODIFY) < 0 && !(optional && errno == ENOENT))
		return err_set(errno, "watch %s: %s", file, cg_strerror(errno));
	return 0;
}

int cg_events_open(const struct cgroup *cg, struct cg_events *ev)
{
	struct counts now;

	*ev = (struct cg_events){.fd = -EBADF};
	_cleanup_fd_ int dir = cg_open(cg);
	if (dir < 0)
		return dir;
	_cleanup_fd_ int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (fd < 0)
		return err_sys("inotify_init1");
	int r = watch_file(fd, dir, "cgroup.events", false);
	if (r == 0)
		r = watch_file(fd, dir, "memory.events", true);
	/*
	 * Reads the counters after the watches are set, so that a change in between is not missed.
	 */
	if (r == 0)
		r = read_counts(cg, &now);
	if (r < 0)
		return r;
	ev->oom = now.oom;
	ev->oom_kill = now.oom_kill;
	ev->populated = now.populated;
	ev->fd = take_fd(&fd);
	return 0;
}

int cg_events_read(const struct cgroup *cg, struct cg_events *ev)
{
	char queue[4096];
	struct counts now;
	int bits = 0;

	while (read(ev->fd, queue, sizeof(queue)) > 0)
		;
	int r = read_counts(cg, &now);
	if (r < 0)
		return r;
	/*
	 * If the kernel killed all processes, the cgroup may have been removed by now, so that its
	 * counters read as 0. The counters that *ev has from an earlier call then stay.
	 */
	if (now.oom_kill > ev->oom_kill)
		bits |= CG_EVENT_OOM;
	if (ev->populated && !now.populated)
		bits |= CG_EVENT_EMPTY;
	if (now.oom > ev->oom)
		ev->oom = now.oom;
	if (now.oom_kill > ev->oom_kill)
		ev->oom_kill = now.oom_kill;
	ev->populated = now.populated;
	return bits;
}

void cg_events_close(struct cg_events *ev)
{
	fd_close(&ev->fd);
}

bool cg_ran_out_of_memory(const struct cgroup *cg)
{
	struct counts c;

	if (read_counts(cg, &c) < 0) {
		err_clear();
		return false;
	}
	return c.oom_kill > 0;
}
