/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: the life of a process. A message makes it, with its plan, its pipes and its
 * streams, and starts the walk (walk.c). INIT's channel then brings
 *
 *	a barrier    the walk goes on from there, and the monitor hears of it
 *	"console"    the terminal, which its stream takes
 *	a failure    the monitor hears it; what is left is to reap the process
 *	the end      INIT became the program; or it died, which its exit status tells
 *
 * Its exit is told once the channel has ended and its output is through. Others may hold its pipes
 * open for ever (a daemon that an exec left behind): then, half a second later, what it wrote
 * itself only is waited for.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <termios.h>

#include "base/clock.h"
#include "base/fd.h"
#include "guest/guest.h"
#include "ns/channel.h"

#define OUTPUT_WAIT 500 /* ms */

struct process *process_find(struct guest *g, uint32_t number)
{
	for (struct process *p = g->processes; p; p = p->next)
		if (p->number == number)
			return p;
	return NULL;
}

static void process_free(struct process *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(p->streams); i++)
		stream_end(&p->streams[i]);
	(void)!loop_watch(&p->guest->loop, &p->watch, p->channel, WATCH_NOTHING);
	fd_close(&p->channel);
	for (int i = 0; p->slots && i < p->plan.nslots; i++)
		fd_close(&p->slots[i]);
	for (int i = 0; i < 3; i++)
		fd_close(&p->stdio[i]);
	fd_close(&p->filter);
	fd_close(&p->proc);
	fd_close(&p->cgroup_dir);
	fd_close(&p->slave);
	fd_close(&p->child.pidfd);
	arena_release(&p->arena);
	free(p);
}

static void stop_listening(struct process *p)
{
	(void)!loop_watch(&p->guest->loop, &p->watch, p->channel, WATCH_NOTHING);
	fd_close(&p->channel);
}

static void fail_with(struct process *p, int code, const char *message)
{
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
	fail_with(p, -r, err_msg());
}

/* It ended without a word, before it was set up. */
static void fail_died(struct process *p)
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
	fail_with(p, ESRCH, text);
}

/* --- what INIT says --- */

static void say_running(struct process *p)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

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

	int r = agent_begin(&w, "reached");
	if (r < 0)
		return process_fail(p, r);
	json_out_u64(&w.json, "process", p->number);
	json_out_str(&w.json, "barrier", barrier);
	guest_send(p->guest, &w);
}

int process_take_console(struct process *p, int *master)
{
	struct stream *s = &p->streams[AGENT_TERMINAL];

	/* A program such as an init closes its terminal and opens it again: it must not end
	 * meanwhile. */
	fd_close(&p->slave);
	p->slave = ioctl(*master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (p->slave < 0)
		return err_sys("open the terminal's slave side");
	if (p->size.ws_col && ioctl(p->slave, TIOCSWINSZ, &p->size) < 0)
		return err_sys("set the terminal's size");
	if (s->sock < 0 || s->local >= 0)
		return s->local >= 0 ? err_set(EPROTO, "a second terminal came from INIT") : 0;
	return stream_start(s, take_fd(master), true, true, true);
}

static void on_message(struct process *p, const struct channel_msg *m, int *fd)
{
	int r;

	switch (m->type) {
	case CHANNEL_FAILED:
		return fail_with(p, -m->code, m->text);
	case CHANNEL_FD:
		if (*fd < 0 || !streq(m->text, "console"))
			r = err_set(EPROTO, "unknown descriptor \"%s\" from the first process",
				m->text);
		else
			r = process_take_console(p, fd);
		break;
	default:
		if (!p->awaited || !streq(m->text, p->awaited)) {
			r = err_set(EPROTO, "unexpected \"%s\" from the first process", m->text);
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
	/* Else it died: its status tells, and comes. */
	if (!p->awaited && p->wanted)
		say_running(p);
}

struct process *process_new(struct guest *g, uint32_t number)
{
	struct process *p = calloc(1, sizeof(*p));

	if (!p) {
		err_set(ENOMEM, "out of memory");
		return NULL;
	}
	*p = (struct process){.guest = g,
		.number = number,
		.filter = -EBADF,
		.proc = -EBADF,
		.cgroup_dir = -EBADF,
		.channel = -EBADF,
		.slave = -EBADF,
		.child.pidfd = -EBADF,
		.stdio = {-EBADF, -EBADF, -EBADF}};
	for (size_t i = 0; i < ARRAY_SIZE(p->streams); i++)
		stream_init(&p->streams[i], &g->loop, -EBADF);
	p->watch.ready = on_channel;
	p->next = g->processes;
	g->processes = p;
	return p;
}

/* --- messages to one --- */

void process_start(struct guest *g, const struct agent_frame *f)
{
	uint32_t number;

	if (agent_process(f, &number) < 0)
		return guest_log(g, "start: expected process");
	struct process *p = process_find(g, number);
	if (!p || p->channel < 0)
		return; /* it has failed or died meanwhile, which is told */
	p->wanted = true;
	/* One that died will show by the channel's end. */
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
	/* Kept: INIT may not have made the terminal yet. */
	p->size = (struct winsize){.ws_row = (uint16_t)rows, .ws_col = (uint16_t)columns};
	if (p->slave >= 0)
		ioctl(p->slave, TIOCSWINSZ, &p->size);
}

/* --- the end --- */

void process_reaped(struct guest *g, pid_t pid, int status)
{
	for (struct process *p = g->processes; p; p = p->next) {
		if (p->child.pid != pid || p->exited)
			continue;
		p->exited = true;
		p->status = status;
		p->deadline = clock_ms() + OUTPUT_WAIT;
		fd_close(&p->slave);
		for (size_t i = 0; i < ARRAY_SIZE(p->streams); i++)
			stream_count_owed(&p->streams[i]);
		return;
	}
}

static bool has_output(const struct process *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(p->streams); i++)
		if (stream_has_output(&p->streams[i]))
			return true;
	return false;
}

static bool is_paid(const struct process *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(p->streams); i++)
		if (!stream_paid(&p->streams[i]))
			return false;
	return true;
}

static void say_exited(struct process *p)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	p->told = true;
	/* The container's namespaces are gone with it: nothing more will be written. */
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

/* Milliseconds until it is due, or -1 where an event will tell; 0: it has been told of. */
static int settle(struct process *p, int64_t now)
{
	if (!p->exited || p->told || p->failed)
		return -1;
	/* It may have sent why it fails just before. */
	if (p->channel >= 0)
		return -1;
	if (p->awaited) {
		fail_died(p);
		return 0;
	}
	if (!has_output(p) || (now >= p->deadline && is_paid(p))) {
		say_exited(p);
		return 0;
	}
	/* Past it, somebody else may have read what is owed: nothing but a look tells. */
	return now < p->deadline ? (int)(p->deadline - now) : OUTPUT_WAIT;
}

/* Nothing more will come of it or has to be reaped. */
static bool is_done(const struct process *p)
{
	if (p->failed)
		return p->exited || p->child.pid <= 0;
	return p->told && !has_output(p);
}

int processes_settle(struct guest *g)
{
	int64_t now = clock_ms();
	int timeout = -1;

	for (struct process **at = &g->processes; *at;) {
		struct process *p = *at;
		int due = settle(p, now);
		if (due > 0 && (timeout < 0 || due < timeout))
			timeout = due;
		if (!is_done(p)) {
			at = &p->next;
			continue;
		}
		*at = p->next;
		process_free(p);
	}
	return timeout;
}

void processes_release(struct guest *g)
{
	for (struct process *p; (p = g->processes);) {
		g->processes = p->next;
		process_free(p);
	}
}
