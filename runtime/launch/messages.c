/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads and sends the messages of the channel (ns/channel.h) between the runtime and INIT, the
 * container's first process.
 */
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/interrupt.h"
#include "launch/handover.h"
#include "launch/host.h"
#include "launch/seccomp_notify.h"
#include "launch/timeline.h"
#include "launch/watch.h"
#include "ns/channel.h"

/*
 * Reports how INIT, the container's first process, ended (exit code or signal), because INIT sent
 * no message that says why.
 */
static int init_ended_error(struct launch *l, const char *when)
{
	int status;

	if (waitpid(l->child.pid, &status, 0) != l->child.pid)
		return err_set(ESRCH, "the container's first process ended %s", when);
	l->child.pid = 0;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && l->c->cgroup.path &&
		cg_ran_out_of_memory(&l->c->cgroup))
		return err_set(ENOMEM,
			"linux.resources.memory.limit: the kernel killed the container's first "
			"process %s, because its cgroup has no more memory: expected a higher "
			"limit",
			when);
	if (WIFSIGNALED(status))
		return err_set(ESRCH,
			"the container's first process was killed by signal %d (%s) %s",
			WTERMSIG(status), strsignal(WTERMSIG(status)), when);
	return err_set(ESRCH, "the container's first process exited with status %d %s",
		WEXITSTATUS(status), when);
}

static int send_seccomp_listener(struct launch *l, int listener)
{
	const struct spec_seccomp *s = l->spec->seccomp;

	struct seccomp_agent to = {
		.seccomp = s,
		.pid = l->child.pid > 0 ? l->child.pid : l->c->pid,
		.status = l->exec.container >= 0 ? "running" : "creating",
	};

	int r = seccomp_notify_send(l->c, &to, listener);
	/*
	 * Tells INIT, the container's first process, that the seccomp agent has the listener. INIT
	 * runs the program only after this message, because otherwise the filter could stop the
	 * program when no agent answers yet.
	 */
	return r < 0 ? r : channel_send(l->channel, CHANNEL_REACHED, 0, "seccomp", -EBADF);
}

/*
 * Takes a descriptor that INIT, the container's first process, sent: the terminal's master, or the
 * seccomp listener.
 */
static int take_descriptor(struct launch *l, const struct channel_msg *m, int *fd)
{
	if (*fd < 0)
		return err_set(EPROTO,
			"the container's first process sent no descriptor for \"%s\"", m->text);
	if (streq(m->text, "seccomp"))
		return send_seccomp_listener(l, *fd);
	if (!streq(m->text, "console"))
		return err_set(EPROTO,
			"unknown descriptor \"%s\" from the container's first process", m->text);
	if (l->console_socket)
		return handover_console(l->console_socket, *fd);
	fd_close(&l->console);
	l->console = take_fd(fd);
	return 0;
}

/*
 * Says whether the child is the first process of an exec, which ends after the step FORK has made
 * its child, the process that becomes the program.
 */
static bool is_stage(const struct launch *l)
{
	return l->plan.exec && l->plan.isolation == PLAN_NS && !l->forked;
}

/*
 * Receives the next message of INIT, the container's first process, as channel_recv() does. Returns
 * 0, as at the end of the channel, if INIT has ended. If barrier is NULL, also returns 0 once INIT
 * has executed the program, even if another process holds the channel open (launch/watch.c).
 */
static int receive(const struct launch *l, const char *barrier, struct channel_msg *m, int *fd)
{
	const bool executes = !barrier && !is_stage(l);
	const struct init_watch w = {.pid = l->child.pid,
		.pidfd = l->child.pidfd,
		.interrupt = l->interrupt,
		.dev = executes ? l->init_dev : 0,
		.ino = executes ? l->init_ino : 0};

	int r = l->init_ino ? init_watch_wait(&w, l->channel)
			    : interrupt_wait(l->interrupt, l->channel);
	if (r < 0 || (r == 0 && l->init_ino))
		return r;
	return channel_recv(l->channel, m, fd);
}

int launch_await(struct launch *l, const char *barrier)
{
	for (;;) {
		struct channel_msg m;
		_cleanup_fd_ int fd = -EBADF;
		int r = receive(l, barrier, &m, &fd);
		if (r < 0)
			return r;
		if (r == 0)
			return barrier || is_stage(l)
				       ? init_ended_error(l, "while it was being set up")
				       : 0;
		switch (m.type) {
		case CHANNEL_FAILED:
			return err_set(-m.code, "%s", m.text);
		case CHANNEL_LOG:
			channel_log(&m);
			break;
		case CHANNEL_STEP:
			timeline_init_step(l, &m);
			break;
		case CHANNEL_SPAN:
			r = timeline_span(l, &m);
			if (r < 0)
				return r;
			break;
		case CHANNEL_FORKED:
			r = is_stage(l) ? ns_take_forked(m.code, &l->child)
					: err_set(EPROTO, "a second process was forked");
			if (r < 0)
				return r;
			l->forked = true;
			break;
		case CHANNEL_FD:
			r = take_descriptor(l, &m, &fd);
			if (r < 0)
				return r;
			break;
		default:
			if (!barrier || !streq(m.text, barrier))
				return err_set(EPROTO,
					"unexpected message \"%s\" from the container's first "
					"process",
					m.text);
			return 0;
		}
	}
}

int launch_await_exec(struct launch *l)
{
	return launch_await(l, NULL);
}

int launch_send(struct launch *l, enum channel_type type, const char *text, int fd)
{
	int r = channel_send(l->channel, type, 0, text, fd);

	/*
	 * Sending to INIT, the container's first process, fails with EPIPE or ECONNRESET if INIT
	 * has ended. The channel may still hold INIT's last message, which says why INIT ended.
	 */
	return r == -EPIPE || r == -ECONNRESET ? launch_await(l, "") : r;
}
