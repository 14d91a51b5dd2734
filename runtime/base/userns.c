/* SPDX-License-Identifier: Apache-2.0 */
#include "base/userns.h"

#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/sys.h"

/* largest size in bytes of an id map's text; the kernel takes up to 340 lines */
#define MAP_MAX (64 * 1024)

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
		 * A process without CAP_SETGID may map groups in a user namespace only after it has
		 * given up setgroups(2) there.
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

/* Waits until the other end of the pipe `end` is closed, and then ends the calling process. */
_Noreturn static void wait_and_end(int end)
{
	char byte;

	while (read(end, &byte, 1) < 0 && errno == EINTR)
		;
	_exit(0);
}

int userns_open(const char *uid_map, const char *gid_map)
{
	struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
	int ends[2];

	/*
	 * The new user namespace lives in a child process, which ends when this process closes the
	 * pipe or dies.
	 */
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys("make a pipe");
	pid_t pid = sys_clone3(&args);
	if (pid == 0) {
		close(ends[1]);
		wait_and_end(ends[0]);
	}
	int fd = pid < 0 ? err_sys("make a user namespace for the id maps")
			 : map_and_open(pid, uid_map, gid_map);
	close(ends[0]);
	close(ends[1]);
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return fd;
}

/*
 * Runs in a child process: enters the user namespace `fd`, reports that on the pipe `said`, and
 * waits until the caller has read the maps.
 */
_Noreturn static void show_maps(int fd, int said, int wait)
{
	if (setns(fd, CLONE_NEWUSER) < 0 || write(said, "", 1) < 0)
		_exit(1);
	wait_and_end(wait);
}

static int read_map(pid_t pid, const char *file, struct strbuf *ret)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	return fd_read_file(AT_FDCWD, path, ret, MAP_MAX);
}

int userns_read_maps(int fd, struct strbuf *uid_map, struct strbuf *gid_map)
{
	struct clone_args args = {.exit_signal = SIGCHLD};
	int said[2], wait[2];
	char byte;

	if (pipe2(said, O_CLOEXEC) < 0)
		return err_sys("make a pipe");
	_cleanup_fd_ int said_in = said[0], said_out = said[1];
	if (pipe2(wait, O_CLOEXEC) < 0)
		return err_sys("make a pipe");
	_cleanup_fd_ int wait_in = wait[0], wait_out = wait[1];
	pid_t pid = sys_clone3(&args);
	if (pid < 0)
		return err_sys("make a process for the user namespace");
	if (pid == 0) {
		close(wait_out);
		show_maps(fd, said_out, wait_in);
	}
	fd_close(&said_out);
	ssize_t n = read(said_in, &byte, 1);
	int r = n == 1 ? read_map(pid, "uid_map", uid_map)
		       : err_set(EPERM,
				 "enter the user namespace to see its id maps: not permitted");
	if (r >= 0)
		r = read_map(pid, "gid_map", gid_map);
	fd_close(&wait_out);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return r < 0 ? r : 0;
}

int userns_raise_ambient(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[2];

	if (syscall(SYS_capget, &head, caps) < 0)
		return -1;
	for (int i = 0; i < 2; i++)
		caps[i].inheritable = caps[i].permitted;
	if (syscall(SYS_capset, &head, caps) < 0)
		return -1;
	for (unsigned cap = 0; cap < 64; cap++)
		if (caps[cap / 32].permitted & 1u << cap % 32 &&
			prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
			return -1;
	return 0;
}
