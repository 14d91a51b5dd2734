/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: the life of a process. A message from the monitor makes the process, with
 * its plan, its pipes and its streams, and the agent starts doing the steps of the plan (walk.c).
 * INIT is the process that becomes the program, and its channel is the socket to the agent. One of
 * these comes from INIT's channel:
 *
 * 	a barrier    the steps go on from there, and the monitor is told
 * 	"console"    the terminal's master side, which the process's stream takes over
 * 	a pid        the INIT of an exec has forked; the child executes the program
 * 	a failure    the monitor is told; the process only has to be reaped
 * 	the end      INIT became the program; or INIT died, and its exit status says why
 *
 * The agent tells the monitor of the exit once the channel has ended, and once all bytes that were
 * in the pipes when the process ended have been sent. Other processes may hold the pipes open
 * forever, such as a daemon that an exec has left behind. Their later output is still sent, but the
 * report of the exit does not wait for it. For a terminal the kernel does not say how many bytes
 * are in it, so the agent waits for half a second.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>

#include "base/clock.h"
#include "base/fd.h"
#include "guest/guest.h"
#include "ns/channel.h"

#define OUTPUT_WAIT 500 /* how long, in ms, the agent waits for the rest of a terminal's output */
#define LAST_WORDS_WAIT 1000
/* how long, in ms, the agent waits between two looks at a stage that was killed */
#define STAGE_WAIT 20

static void stop_listening(struct process *p)
{
	(void)!loop_watch(&p->guest->loop, &p->watch, p->channel, WATCH_NOTHING);
	fd_close(&p->channel);
}

static void fail_process(struct process *p, int code, const char *message)
{
	steps_tell(p);
	if (!p->failed)
		guest_say_failed(p->guest, p->number, code, message);
	p->failed = true;
	stop_listening(p);
	if (p->child.pid > 0 && !p->exited)
		pidfd_send_signal(p->child.pidfd, SIGKILL, NULL, 0);
	for (size_t i = 0; i < ARRAY_SIZE(p->streams); i++)
		stream_end(&p->streams[i]);
}

void process_fail(struct process *p, int r)
{
	fail_process(p, -r, err_msg());
}

/* Reports to the monitor that INIT ended before it became the program, without saying why. */
static void fail_dead_process(struct process *p)
{
	char text[160];

	if (WIFSIGNALED(p->status))
		snprintf(text, sizeof(text),
			"the container's first process was killed by signal %d (%s) while it was "
			"being set up",
			WTERMSIG(p->status), strsignal(WTERMSIG(p->status)));
	else
		snprintf(text, sizeof(text),
			"the container's first process exited with status %d while it was being "
			"set up",
			WEXITSTATUS(p->status));
	fail_process(p, ESRCH, text);
}

/* --- messages from INIT, the container's first process --- */

static void say_running(struct process *p)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	steps_tell(p);
	int r = agent_begin(&w, "running");
	if (r < 0)
		return process_fail(p, r);
	json_out_u64(&w.json, "process", p->number);
	json_out_i64(&w.json, "pid", p->child.pid);
	guest_send(p->guest, &w);
}

static void say_reached(struct process *p, const char *barrier)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	steps_tell(p);
	int r = agent_begin(&w, "reached");
	if (r < 0)
		return process_fail(p, r);
	json_out_u64(&w.json, "process", p->number);
	json_out_str(&w.json, "barrier", barrier);
	guest_send(p->guest, &w);
}

static int take_console(struct process *p, int *master)
{
	struct stream *s = &p->streams[AGENT_TERMINAL];

	/*
	 * The agent holds the slave side of the terminal open. Some programs, such as an init,
	 * close their terminal and open it again after a while, and without an open slave side the
	 * terminal would hang up in between.
	 */
	fd_close(&p->slave);
	p->slave = ioctl(*master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (p->slave < 0)
		return err_sys("open the terminal's slave side");
	if (p->size.ws_col && ioctl(p->slave, TIOCSWINSZ, &p->size) < 0)
		return err_sys("set the terminal's size");
	if (s->sock < 0 || s->local >= 0)
		return s->local >= 0 ? err_set(EPROTO, "INIT sent a second terminal, expected one")
				     : 0;
	return stream_start(s, take_fd(master), true, true, true);
}

/*
 * Notes that the process did the step FORK: from now on `child` is the process that executes the
 * program. The stage, which has forked it, ends now, and the agent reaps the stage with the other
 * children for which no one waits.
 */
static int take_forked(struct process *p, pid_t pid)
{
	if (!p->forks)
		return err_set(EPROTO, "the first process reported a child, expected none");
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0)
		return err_sys("open a pidfd of the process");
	fd_close(&p->child.pidfd);
	p->child = (struct ns_child){.pid = pid, .pidfd = pidfd};
	p->forks = false;
	p->guest->child_ended = true;
	for (int sig = 1; sig <= 64; sig++)
		if (p->signals >> (sig - 1) & 1)
			pidfd_send_signal(pidfd, sig, NULL, 0);
	return 0;
}

static void on_message(struct process *p, const struct channel_msg *m, int *fd)
{
	int r;

	switch (m->type) {
	case CHANNEL_FAILED:
		return fail_process(p, -m->code, m->text);
	case CHANNEL_FD:
		if (*fd < 0 || !streq(m->text, "console"))
			r = err_set(EPROTO,
				"the first process sent the descriptor \"%s\", expected "
				"\"console\"",
				m->text);
		else
			r = take_console(p, fd);
		break;
	case CHANNEL_FORKED:
		r = take_forked(p, m->code);
		break;
	case CHANNEL_LOG:
		guest_log(p->guest, "%s", m->text);
		return;
	case CHANNEL_STEP:
		steps_of_init(p, m);
		return;
	default:
		if (!p->awaited || !streq(m->text, p->awaited)) {
			r = err_set(EPROTO,
				"the first process reported the barrier \"%s\" that nothing waits "
				"for",
				m->text);
			break;
		}
		p->awaited = NULL;
		p->at++;
		say_reached(p, m->text);
		r = process_walk(p);
	}
	if (r < 0)
		process_fail(p, r);
}

static void on_channel(struct watch *w, uint32_t events)
{
	struct process *p = (struct process *)((char *)w - offsetof(struct process, watch));
	struct channel_msg m;
	_cleanup_fd_ int fd = -EBADF;

	int r = channel_recv(p->channel, &m, &fd);
	if (r < 0)
		return process_fail(p, r);
	if (r > 0)
		return on_message(p, &m, &fd);
	stop_listening(p);
	/*
	 * The channel to INIT has ended. INIT has become the program only if the agent does not
	 * await it at a barrier and if no step FORK of it is still to come; else INIT has died.
	 * Then SIGCHLD brings INIT's exit status, which says why.
	 */
	if (!p->awaited && !p->forks && p->wanted)
		say_running(p);
}

struct process *process_new(struct guest *g, uint32_t number)
{
	struct process *p = process_alloc(g, number);

	if (p)
		p->watch.ready = on_channel;
	return p;
}

/* --- messages from the monitor --- */

void process_start(struct guest *g, const struct agent_frame *f)
{
	uint32_t number;

	if (agent_process(f, &number) < 0)
		return guest_log(g, "start: expected process");
	struct process *p = process_find(g, number);
	/*
	 * A process whose channel is closed has failed or died, and the agent has told the monitor
	 * of that.
	 */
	if (!p || p->channel < 0)
		return;
	p->wanted = true;
	/* The send fails if INIT has died, which the agent notices by the end of INIT's channel. */
	if (channel_send(p->channel, CHANNEL_REACHED, 0, "start", -EBADF) < 0)
		err_clear();
}

void process_resize(struct guest *g, const struct agent_frame *f)
{
	uint64_t rows, columns;
	uint32_t number;

	if (agent_process(f, &number) < 0 || json_get_u64(f->json, "rows", &rows) < 0 ||
		json_get_u64(f->json, "columns", &columns) < 0 || rows > UINT16_MAX ||
		columns > UINT16_MAX)
		return guest_log(g, "resize: expected process, rows and columns");
	struct process *p = process_find(g, number);
	if (!p)
		return;
	/*
	 * The terminal's size is also stored in p->size, because INIT may not have made the
	 * terminal yet.
	 */
	p->size = (struct winsize){.ws_row = (uint16_t)rows, .ws_col = (uint16_t)columns};
	if (p->slave >= 0)
		ioctl(p->slave, TIOCSWINSZ, &p->size);
}

/* --- the end of a process --- */

static void note_exit(struct process *p, int status)
{
	p->exited = true;
	p->status = status;
	p->deadline = clock_ms() + (p->plan.terminal ? OUTPUT_WAIT : 0);
	if (p->give_up)
		p->give_up = clock_ms() + LAST_WORDS_WAIT;
	fd_close(&p->slave);
	for (size_t i = 0; i < ARRAY_SIZE(p->streams); i++)
		stream_count_owed(&p->streams[i]);
}

static bool may_fork(const struct process *p)
{
	return p->forks && p->channel >= 0;
}

/*
 * Notes that the agent has reaped the child with that pid. If no process and no job has the pid,
 * the child was a stage or an orphan, and nothing waits for its end.
 */
static void note_child(struct guest *g, pid_t pid, int status)
{
	for (struct process *p = g->processes; p; p = p->next)
		if (p->child.pid == pid && !p->exited) {
			note_exit(p, status);
			return;
		}
	jobs_note_end(g, pid);
}

/*
 * Reaps the children that have ended.
 *
 * While a process still has to do the step FORK, it may have a child that the agent does not know
 * yet and that has ended already. Such a child must stay a zombie until the message with its pid
 * has come, so at that time only the children that the agent knows are reaped. At any other time
 * all children are reaped: stages, which have forked the real process and ended, and orphans, whose
 * parent is process 1.
 */
void processes_reap(struct guest *g)
{
	bool forks = false;
	int status;
	pid_t pid;

	if (!g->child_ended)
		return;
	jobs_reap(g);
	for (struct process *p = g->processes; p; p = p->next) {
		if (may_fork(p))
			forks = true;
		else if (p->child.pid > 0 && !p->exited &&
			 waitpid(p->child.pid, &status, WNOHANG) == p->child.pid)
			note_exit(p, status);
	}
	/* A child that the agent knows may end after waitpid() was called for it above. */
	while (!forks && (pid = waitpid(-1, &status, WNOHANG)) > 0)
		note_child(g, pid, status);
	g->child_ended = forks;
}

void process_signal(struct process *p, int sig)
{
	if (sig == SIGTERM || sig == SIGINT || sig == SIGHUP || sig == SIGQUIT || sig == SIGKILL)
		p->give_up = clock_ms();
	if (p->forks && sig)
		p->signals |= UINT64_C(1) << (sig - 1);
	else if (p->child.pid > 0 && !p->exited)
		pidfd_send_signal(p->child.pidfd, sig, NULL, 0);
}

static bool process_has_output(const struct process *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(p->streams); i++)
		if (stream_has_output(&p->streams[i]))
			return true;
	return false;
}

static bool process_sent_owed(const struct process *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(p->streams); i++)
		if (!stream_sent_owed(&p->streams[i]))
			return false;
	return true;
}

static void say_exited(struct process *p)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	p->told = true;
	/*
	 * All data is written to the disks now. The container's first process has ended, so the
	 * kernel has killed all its other processes, and no process will write to a file any more.
	 */
	if (p->number == 0)
		sync();
	guest_check_oom(p->guest);
	for (size_t i = 0; i < ARRAY_SIZE(p->streams); i++)
		if (p->streams[i].refused)
			guest_log(p->guest, "standard stream %zu was not connected: %s", i,
				strerror(p->streams[i].refused));
	if (agent_begin(&w, "exited") < 0)
		return;
	json_out_u64(&w.json, "process", p->number);
	json_out_i64(&w.json, "status", p->status);
	guest_send(p->guest, &w);
}

/*
 * Ends the stage of a process that was killed before the step FORK. process_signal() keeps the
 * signals for the child that the stage is about to make. But in a frozen cgroup the stage makes no
 * child before the container is resumed, so that the exec would last until then, and would run the
 * program after all. Returns in how many milliseconds this has to be called again, or -1.
 */
static int kill_frozen_stage(struct process *p)
{
	if (!may_fork(p) || p->exited || !(p->signals >> (SIGKILL - 1) & 1))
		return -1;
	if (cg_is_frozen(&p->exec_cgroup) > 0) {
		pidfd_send_signal(p->child.pidfd, SIGKILL, NULL, 0);
		return -1;
	}
	err_clear();
	/* The stage is about to fork, or the kernel is about to freeze it. */
	return STAGE_WAIT;
}

/*
 * Reports the exit of the process to the monitor if the report is due. Returns how many
 * milliseconds later it is due, -1 if it is not due at a certain time, or 0 if the report was sent.
 */
static int settle_process(struct process *p, int64_t now)
{
	if (!p->exited && !p->failed)
		return kill_frozen_stage(p);
	if (p->told || p->failed)
		return -1;
	/*
	 * The exit is not reported yet, because the channel to INIT is open and may still hold a
	 * failure that INIT sent just before it died.
	 */
	if (p->channel >= 0)
		return -1;
	if (p->awaited || p->forks) {
		fail_dead_process(p);
		return 0;
	}
	if (!process_has_output(p) || (now >= p->deadline && process_sent_owed(p)) ||
		(p->give_up && now >= p->give_up)) {
		say_exited(p);
		return 0;
	}
	if (p->give_up)
		return (int)(p->give_up - now);
	/*
	 * The agent checks the pipe again after OUTPUT_WAIT, because another process may read the
	 * last output of this process from the pipe, and no event would tell the agent of that.
	 */
	return now < p->deadline ? (int)(p->deadline - now) : OUTPUT_WAIT;
}

/*
 * Says whether the process is finished: it has been reaped, the monitor knows how it ended, and its
 * streams have ended.
 */
static bool process_is_done(const struct process *p)
{
	if (p->failed)
		return p->exited || p->child.pid <= 0;
	return p->told && !process_has_output(p);
}

int processes_settle(struct guest *g)
{
	int64_t now = clock_ms();
	int timeout = -1;

	for (struct process **at = &g->processes; *at;) {
		struct process *p = *at;
		int due = settle_process(p, now);
		if (due > 0 && (timeout < 0 || due < timeout))
			timeout = due;
		if (!process_is_done(p)) {
			at = &p->next;
			continue;
		}
		*at = p->next;
		process_free(p);
	}
	return timeout;
}
