/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements `create --image` and `run --image --detach`: a child makes the container, and another
 * one deletes the container when it ends, if --rm is given (run_image.c).
 */
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/pidfd.h>

#include "cmd/run_image.h"

#define LOG_TAIL 4096

/* Opens the file in the bundle that gets the output of a container in the background. */
static int open_log(const struct run_bundle *b)
{
	_cleanup_fd_ int dir = open(b->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int log = dir < 0 ? -1 : openat(dir, "log", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	return log < 0 ? err_sys("open %s/log", b->dir) : log;
}

/*
 * Prints the log of a container that could not be started. The child of
 * run_image_detached() has written its error to the log, and the log itself is deleted with the
 * container's directory.
 */
static void report_log(int log)
{
	char text[LOG_TAIL];
	ssize_t n = pread(log, text, sizeof(text), 0);

	if (n > 0)
		(void)!fd_write_all(STDERR_FILENO, text, (size_t)n);
}

/*
 * Opens a pidfd of the container's first process, whose pid the launch has written to the file
 * "pid" in the bundle.
 */
static int open_container(const struct run_bundle *b)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	_cleanup_fd_ int dir = open(b->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	uint64_t pid;
	int r = dir < 0 ? -errno : fd_read_file(dir, "pid", &text, 64);

	if (r < 0 || str_to_u64(strbuf_str(&text), &pid) < 0 || pid == 0 || pid > INT_MAX)
		return -EINVAL;
	return pidfd_open((pid_t)pid, 0);
}

/* Waits, in a session of its own, until the container ends, and then deletes the container. */
static _Noreturn void delete_later(struct image_run *r)
{
	_cleanup_container_ struct container c = CONTAINER_INIT;
	int pidfd = open_container(&r->bundle);
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	setsid();
	(void)!chdir("/");
	/*
	 * This process closes the standard streams of its caller. Otherwise a program that reads
	 * the caller's output until its end would wait until the container ends.
	 */
	if (fd_set_streams(-EBADF, -EBADF, -EBADF) < 0)
		err_clear();
	while (pidfd >= 0 && poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	int result = cmd_open_any(&r->globals, r->name, false, &c);
	if (result >= 0 || c.dir >= 0)
		result = container_seize(&c);
	if (result >= 0 || c.locked)
		result = launch_delete(&c, true);
	_exit(result < 0 ? 1 : 0);
}

/*
 * Launches the container in the child of run_image_detached(), whose standard streams become the
 * container's.
 */
static int launch_in_background(struct image_run *r, int log)
{
	struct launch_options l;
	int status, result = fd_set_streams(-EBADF, log, log);

	if (result >= 0)
		result = run_image_options(r, &l);
	if (result < 0)
		return result;
	l.pid_file = arena_printf(&r->arena, "%s/pid", r->bundle.dir);
	if (!l.pid_file)
		return -ENOMEM;
	if (r->create)
		return launch_create(&l);
	result = launch_run(&l, &status);
	return result < 0 ? result : status;
}

int run_image_detached(struct image_run *r)
{
	_cleanup_fd_ int log = open_log(&r->bundle);

	if (log < 0)
		return log;
	pid_t pid = fork();
	if (pid == 0)
		run_image_end_child(launch_in_background(r, log));
	int result = pid < 0 ? err_sys("make a process") : run_image_wait(pid, "the container");
	if (result > 0)
		report_log(log);
	if (result != 0)
		return result;
	if (r->options.rm) {
		pid = fork();
		if (pid == 0)
			delete_later(r);
		if (pid < 0)
			return err_sys("make a process that deletes the container");
	}
	printf("%s\n", r->name);
	return fflush(stdout) == 0 ? 0 : err_sys("write to standard output");
}
