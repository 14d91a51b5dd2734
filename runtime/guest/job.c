/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers each request that may take long in a job, a child process of the agent. The agent kills a
 * job that takes too long. A process of the container can delay forever what it shows of itself in
 * /proc, because its arguments may lie on a FUSE file system of its own. The cgroup freezer waits
 * for processes that are in a system call. Neither delay may stop the agent, because it must be
 * able to serve the request that kills all processes.
 */
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "guest/guest.h"

struct job {
	struct job *next;
	struct guest *guest;
	struct watch watch;
	pid_t pid; /* pid of the child process; 0: the child was reaped */
	/* pipe from which the agent reads the job's reply; -EBADF: the reply is complete */
	int out;
	uint64_t id;
	int64_t deadline;
	bool changes; /* the job changes something, and the next such job waits for its end */
	struct strbuf reply;
};

struct job_kind {
	int ms; /* how long the job may take */
	job_fn *fn;
	bool changes;
};

static void close_job(struct job *j)
{
	(void)!loop_watch(&j->guest->loop, &j->watch, j->out, WATCH_NOTHING);
	fd_close(&j->out);
	strbuf_release(&j->reply);
}

static void on_reply(struct watch *w, uint32_t events)
{
	struct job *j = (struct job *)((char *)w - offsetof(struct job, watch));
	char chunk[16384];
	ssize_t n = read(j->out, chunk, sizeof(chunk));

	if (n > 0 && strbuf_add(&j->reply, chunk, (size_t)n) >= 0)
		return;
	if (n < 0 && errno == EINTR)
		return;
	/*
	 * The job's reply is either complete or empty, because the child writes the whole reply by
	 * one call, unless it was killed before that call.
	 */
	if (n == 0 && j->reply.len > sizeof(struct agent_header))
		guest_send_bytes(j->guest, j->reply.s, j->reply.len);
	else
		guest_say_reply(
			j->guest, j->id, EIO, "the agent of the guest could not make the answer");
	close_job(j);
}

/* Waits for the end of the process to which pidfd refers, unless pidfd is -EBADF. */
static void await_end(int pidfd)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	while (pidfd >= 0 && poll(&p, 1, -1) < 0 && errno == EINTR)
		;
}

/* What a job has: the pipe for its reply, and the pidfd of the change before it, or -EBADF. */
struct job_fds {
	int out, before;
};

_Noreturn static void run_job(struct guest *g, const struct agent_frame *f, uint64_t id, job_fn *fn,
	const struct job_fds *fds)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	const int keep[] = {fds->out, fds->before};

	/*
	 * The child closes all descriptors that it inherited, before it waits for anything. Among
	 * them are writing ends of pipes, and the readers of these pipes wait until every writing
	 * end is closed.
	 */
	if (fd_close_all_but(keep, ARRAY_SIZE(keep)) < 0)
		_exit(1);
	await_end(fds->before);
	int r = agent_begin(&w, "reply");
	if (r < 0)
		_exit(1);
	json_out_u64(&w.json, "id", id);
	r = fn(g, f, &w.json);
	json_out_i64(&w.json, "errno", r < 0 ? -r : 0);
	json_out_str(&w.json, "message", r < 0 ? err_msg() : "");
	_exit(agent_send(&w, fds->out, NULL, 0) < 0);
}

/* Opens a pidfd for the newest job that changes something, or returns -EBADF if there is none. */
static int open_last_change(const struct guest *g)
{
	for (const struct job *j = g->jobs; j; j = j->next)
		if (j->changes && j->pid > 0) {
			int fd = pidfd_open(j->pid, 0);
			return fd < 0 ? err_sys("watch a job of the agent") : fd;
		}
	return -EBADF;
}

static int start_job(
	struct guest *g, const struct agent_frame *f, uint64_t id, const struct job_kind *kind)
{
	int ends[2];

	_cleanup_fd_ int before = kind->changes ? open_last_change(g) : -EBADF;
	if (before < 0 && before != -EBADF)
		return before;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys("make a pipe");
	_cleanup_fd_ int ours = ends[0], theirs = ends[1];
	_cleanup_free_ struct job *j = calloc(1, sizeof(*j));
	if (!j)
		return err_set(ENOMEM, "out of memory");
	*j = (struct job){.guest = g,
		.out = -EBADF,
		.id = id,
		.deadline = clock_ms() + kind->ms,
		.changes = kind->changes};
	j->watch.ready = on_reply;
	j->pid = fork();
	if (j->pid < 0)
		return err_sys("fork");
	if (j->pid == 0)
		run_job(g, f, id, kind->fn, &(struct job_fds){theirs, before});
	j->out = take_fd(&ours);
	j->next = g->jobs;
	g->jobs = j;
	int r = loop_watch(&g->loop, &j->watch, j->out, EPOLLIN);
	if (r < 0)
		close_job(j);
	(void)!take_ptr(j);
	return r;
}

static void answer(struct guest *g, const struct agent_frame *f, const struct job_kind *kind)
{
	uint64_t id;

	if (json_get_u64(f->json, "id", &id) < 0)
		return guest_log(g, "%s: expected an id", f->type);
	int r = start_job(g, f, id, kind);
	if (r < 0)
		guest_say_reply(g, id, -r, err_msg());
}

void guest_job(struct guest *g, const struct agent_frame *f, int ms, job_fn *fn)
{
	answer(g, f, &(struct job_kind){.ms = ms, .fn = fn});
}

void guest_change(struct guest *g, const struct agent_frame *f, int ms, job_fn *fn)
{
	answer(g, f, &(struct job_kind){.ms = ms, .fn = fn, .changes = true});
}

void jobs_note_end(struct guest *g, pid_t pid)
{
	for (struct job *j = g->jobs; j; j = j->next)
		if (j->pid == pid)
			j->pid = 0;
}

void jobs_reap(struct guest *g)
{
	for (struct job *j = g->jobs; j; j = j->next)
		if (j->pid > 0 && waitpid(j->pid, NULL, WNOHANG) == j->pid)
			j->pid = 0;
}

int jobs_settle(struct guest *g)
{
	int64_t now = clock_ms();
	int timeout = -1;

	for (struct job **at = &g->jobs; *at;) {
		struct job *j = *at;
		if (j->out >= 0 && now >= j->deadline) {
			guest_say_reply(g, j->id, ETIMEDOUT,
				"the agent of the guest could not make the answer in time, because "
				"the container's processes delayed it");
			close_job(j);
			if (j->pid > 0)
				kill(j->pid, SIGKILL);
		}
		if (j->out < 0 && j->pid == 0) {
			*at = j->next;
			free(j);
			continue;
		}
		if (j->out >= 0 && (timeout < 0 || j->deadline - now < timeout))
			timeout = (int)(j->deadline - now);
		at = &j->next;
	}
	return timeout;
}

void jobs_release(struct guest *g)
{
	for (struct job *j; (j = g->jobs);) {
		g->jobs = j->next;
		close_job(j);
		free(j);
	}
}
