/* SPDX-License-Identifier: Apache-2.0 */
#include "launch/start.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/fd.h"
#include "base/log.h"
#include "launch/delete.h"
#include "launch/host.h"
#include "launch/launch.h"
#include "launch/notify.h"
#include "launch/watch.h"
#include "ns/channel.h"
#include "step/step.h"

int launch_say_start(int channel)
{
	return channel_send(channel, CHANNEL_REACHED, 0, "start", -EBADF);
}

/* VM mode: connects to the microVM's monitor, which has waited for `start` since `create` ended. */
static int start_monitor(struct launch *l)
{
	struct container *c = l->c;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	_cleanup_fd_ int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return err_sys("make a socket");
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/start.sock", c->dir);
	if (connect(sock, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return err_sys("reach the container's monitor at start.sock");
	l->channel = take_fd(&sock);
	return launch_await_exec(l);
}

/*
 * Reads the messages that INIT (the container's first process) writes into result.fifo, until INIT
 * has executed the program or has ended.
 */
static int read_result(const struct container *c, int pidfd, int fifo)
{
	const struct init_watch w = {.interrupt = -EBADF,
		.pid = c->pid,
		.pidfd = pidfd,
		.dev = c->init_dev,
		.ino = c->init_ino};
	struct channel_msg m = {0};
	size_t len = 0;

	while (len < sizeof(m)) {
		int r = init_watch_wait(&w, fifo);
		if (r < 0)
			return r;
		ssize_t n = r == 0 ? 0 : read(fifo, (char *)&m + len, sizeof(m) - len);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return err_sys("read the result of the start");
		if (n == 0)
			break;
		len += n < 0 ? 0 : (size_t)n;
	}
	if (len == 0)
		return 0;
	if (!channel_is_valid(&m, len) || m.type != CHANNEL_FAILED)
		return err_set(EPROTO, "malformed message from the container's first process");
	return err_set(-m.code, "%s", m.text);
}

static int start_init(const struct container *c, int pidfd)
{
	/*
	 * The state directory's FIFOs are opened without waiting for a process at their other end,
	 * because INIT (the container's first process) has both open unless it has ended.
	 */
	_cleanup_fd_ int result =
		openat(c->dir, "result.fifo", O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
	if (result < 0)
		return err_sys("open result.fifo in the state directory");
	_cleanup_fd_ int start =
		openat(c->dir, "start.fifo", O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
	if (start < 0 && errno == ENXIO)
		return err_set(ESRCH, "the container's first process has ended before its start");
	if (start < 0 || write(start, "s", 1) != 1)
		return err_sys("tell the container's first process to start");
	fd_close(&start);
	return read_result(c, pidfd, result);
}

int launch_poststart(struct container *c, const struct spec *s)
{
	_cleanup_hook_output_ struct hook_output out = HOOK_OUTPUT_INIT;
	_cleanup_strbuf_ struct strbuf state = {0};

	if (!s->hooks.poststart.n)
		return 0;
	int r = container_state_json(c, "running", c->pid, &state);
	if (r >= 0)
		r = hook_output_open(&out, s);
	return r < 0 ? r
		     : hooks_run("poststart", &s->hooks.poststart, strbuf_str(&state), state.len,
			       out.fd);
}

/*
 * Ends a container whose start failed with the error r. The OCI specification demands that the
 * container is stopped then. If a startContainer or poststart hook failed, the specification
 * demands that the container is also destroyed and that its poststop hooks run (runtime.md,
 * lifecycle, steps 7, 9, 12 and 13). The function recognises a hook's failure by the error message,
 * which begins with the name of the hook's field.
 */
static int stop_after_failure(struct container *c, const struct spec *s, int r)
{
	bool destroy = str_starts(err_msg(), "hooks.");
	_cleanup_free_ char *msg = strdup(err_msg());

	if ((destroy ? launch_cleanup(c, s) : launch_kill(c)) < 0)
		log_warn("%s", err_msg());
	return err_set(-r, "%s", msg ? msg : "");
}

/*
 * The error messages begin with the same words as runc's, because people and their scripts look for
 * those words.
 */
static int check_created(const struct container *c, enum container_status status)
{
	switch (status) {
	case CONTAINER_CREATED:
		return 0;
	case CONTAINER_RUNNING:
		return err_set(EINVAL, "cannot start an already running container: \"%s\"", c->id);
	case CONTAINER_STOPPED:
		return err_set(EINVAL,
			"cannot start a container that has stopped: \"%s\": delete it, and create "
			"it anew",
			c->id);
	default:
		return err_set(EINVAL, "cannot start a container in the %s state: \"%s\"",
			container_status_name(status), c->id);
	}
}

int launch_start(struct container *c)
{
	_cleanup_launch_ struct launch l = LAUNCH_INIT;
	_cleanup_notify_ struct notify n = NOTIFY_INIT;
	enum container_status status;
	const struct spec *s = NULL;

	int r = container_status(c, &status);
	if (r >= 0)
		r = check_created(c, status);
	if (r >= 0)
		r = container_spec(c, &s);
	if (r < 0)
		return r;
	if (!s->process)
		return err_set(EINVAL,
			"cannot start container \"%s\": its config.json has no process", c->id);
	l.c = c;
	l.spec = s;
	/*
	 * The pidfd of the container's process is opened before the program is started, because the
	 * program may end at once.
	 */
	l.child.pidfd = container_pidfd(c);
	r = l.child.pidfd < 0 ? l.child.pidfd : notify_open(&n, c);
	if (r < 0)
		return r;
	r = c->vm ? start_monitor(&l) : start_init(c, l.child.pidfd);
	if (r >= 0)
		r = container_mark_started(c);
	if (r >= 0)
		r = launch_poststart(c, s);
	if (r < 0)
		return stop_after_failure(c, s, r);
	n.main_pid = c->pid;
	/*
	 * The lock on the container is released, because other commands may exec in the container,
	 * pause it or kill it from now on.
	 */
	flock(c->dir, LOCK_UN);
	c->locked = false;
	return notify_wait(&n, l.child.pidfd);
}
