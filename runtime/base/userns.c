/* SPDX-License-Identifier: Apache-2.0 */
#include "base/userns.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/sys.h"

static int write_map(int proc, pid_t pid, const char *file, const char *map)
{
	char path[64];

	snprintf(path, sizeof(path), "%d/%s", pid, file);
	return path_write_proc(proc, path, map);
}

static int map_and_open(pid_t pid, const char *uid_map, const char *gid_map)
{
	char path[64];

	_cleanup_fd_ int proc = path_open_proc();
	if (proc < 0)
		return proc;
	int r = write_map(proc, pid, "uid_map", uid_map);
	if (r < 0)
		return err_ctx(r, "uidMappings");
	r = write_map(proc, pid, "gid_map", gid_map);
	if (r == -EPERM) {
		/*
		 * A process without CAP_SETGID may map groups only after it has given up
		 * setgroups(2).
		 */
		r = write_map(proc, pid, "setgroups", "deny");
		if (r >= 0)
			r = write_map(proc, pid, "gid_map", gid_map);
	}
	if (r < 0)
		return err_ctx(r, "gidMappings");
	snprintf(path, sizeof(path), "%d/ns/user", pid);
	int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? err_sys("open /proc/%s", path) : fd;
}

int userns_open(const char *uid_map, const char *gid_map)
{
	struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
	int ends[2];
	char byte;

	/*
	 * The helper process, which holds the namespace, ends when this process closes the pipe or
	 * dies.
	 */
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys("make a pipe");
	pid_t pid = sys_clone3(&args);
	if (pid == 0) {
		close(ends[1]);
		while (read(ends[0], &byte, 1) < 0 && errno == EINTR)
			;
		_exit(0);
	}
	int fd = pid < 0 ? err_sys("make a user namespace for the id maps")
			 : map_and_open(pid, uid_map, gid_map);
	close(ends[0]);
	close(ends[1]);
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return fd;
}
