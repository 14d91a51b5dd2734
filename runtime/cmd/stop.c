/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements `stop` and `logs` for people who know docker. Container engines do not need these two
 * commands, because they use `kill` and read the container's output themselves.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/fd.h"
#include "cmd/cmd.h"

#define STOP_SECONDS 10
#define KILL_SECONDS 10
#define FOLLOW_MS 100
#define COPY_SIZE 65536

/* Waits up to `seconds` until the process of the pidfd ends. Returns 1 if it has ended, else 0. */
static int await_end(int pidfd, int seconds)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	int64_t end = clock_ms() + (int64_t)seconds * 1000;

	for (;;) {
		int64_t left = end - clock_ms();
		int n = poll(&p, 1, left > 0 ? (int)left : 0);
		if (n > 0)
			return 1;
		if (n < 0 && errno != EINTR)
			return err_sys("wait for the container");
		if (left <= 0)
			return 0;
	}
}

/*
 * Returns the signal that ends the container's program: the one that `run --image` has stored in an
 * annotation, else SIGTERM.
 */
static int stop_signal(const struct container *c)
{
	const char *text = json_get_str(c->annotations, "io.caisson.stop-signal");

	return text ? str_to_signal(text) : SIGTERM;
}

static int stop_one(const struct globals *g, const char *id, int seconds)
{
	_cleanup_container_ struct container c = CONTAINER_INIT;
	enum container_status status;
	int r = cmd_open(g, id, false, &c);

	if (r >= 0)
		r = container_status(&c, &status);
	if (r < 0 || status == CONTAINER_STOPPED)
		return r;
	_cleanup_fd_ int pidfd = container_pidfd(&c);
	if (pidfd < 0)
		return pidfd == -ESRCH ? 0 : pidfd;
	int sig = stop_signal(&c);
	if (sig < 0)
		return sig;
	/*
	 * Only a running container gets its stop signal. A program that is not started yet, or is
	 * frozen, reacts only to SIGKILL.
	 */
	if (status == CONTAINER_RUNNING) {
		r = cmd_signal(&c, sig, false);
		if (r >= 0)
			r = await_end(pidfd, seconds);
		if (r != 0 && r != -ESRCH)
			return r < 0 ? r : 0;
	}
	r = cmd_signal(&c, SIGKILL, c.cgroup.path != NULL);
	if (r >= 0)
		r = await_end(pidfd, KILL_SECONDS);
	if (r == 0)
		return err_set(ETIMEDOUT, "container \"%s\" does not end, even when killed", id);
	return r == -ESRCH || r > 0 ? 0 : r;
}

int cmd_stop(const struct command *self, const struct globals *g, int argc, char **argv)
{
	int seconds = STOP_SECONDS;
	const struct option_def defs[] = {
		{"time", 't', OPTION_COUNT, &seconds, "SECONDS",
			"how long it may take before it is killed (default: 10)"},
		{0},
	};
	struct arguments args = {.min = 1, .max = -1};

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	for (int i = 0; i < args.n && r >= 0; i++)
		r = stop_one(g, args.v[i], seconds);
	return r;
}

/*
 * Copies the rest of the file fd, from its offset on, to standard output. Returns the number of
 * bytes.
 */
static int64_t copy_rest(int fd)
{
	char buf[COPY_SIZE];
	int64_t all = 0;
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys("read the log");
		int r = program_print(buf, (size_t)n);
		if (r < 0)
			return r;
		all += n;
	}
	return all;
}

static int follow(struct container *c, int fd)
{
	const struct timespec moment = {.tv_nsec = FOLLOW_MS * 1000000L};
	enum container_status status;

	for (;;) {
		/*
		 * The status is read before the log, so that the last bytes of a container that has
		 * ended are copied too.
		 */
		int r = container_status(c, &status);
		if (r < 0)
			return r == -ENOENT ? 0 : r;
		int64_t n = copy_rest(fd);
		if (n < 0)
			return (int)n;
		if (status == CONTAINER_STOPPED)
			return 0;
		if (n == 0)
			nanosleep(&moment, NULL);
	}
}

int cmd_logs(const struct command *self, const struct globals *g, int argc, char **argv)
{
	bool following = false;
	const struct option_def defs[] = {
		{"follow", 'f', OPTION_FLAG, &following, NULL, "go on until the container ends"},
		{0},
	};
	struct arguments args = {.min = 1, .max = 1};
	_cleanup_container_ struct container c = CONTAINER_INIT;

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r == 0)
		r = cmd_open(g, args.v[0], false, &c);
	else
		return r < 0 ? r : 0;
	if (r < 0)
		return r;
	_cleanup_fd_ int dir = open(c.bundle, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_fd_ int fd = dir < 0 || !c.remove_bundle
				      ? -EBADF
				      : openat(dir, "log", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_set(ENOENT,
			"container \"%s\" has no log: its output goes where it was started; `run "
			"--image --detach` keeps one",
			c.id);
	if (following)
		return follow(&c, fd);
	int64_t n = copy_rest(fd);
	return n < 0 ? (int)n : 0;
}
