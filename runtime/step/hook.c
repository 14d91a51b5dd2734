/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs hooks: programs that get the container's state on standard input.
 *
 * Theory of operation. The parent of the hook's process polls the hook's pidfd, the pipe with the
 * hook's output, and the pipe to the hook until the state is written. The loop ends only when the
 * pidfd says that the hook has ended, because a hook need not read its input, may close its output
 * early, and may leave a daemon behind that holds the output open forever. While the parent writes,
 * it keeps the reading end of the input pipe open too, so that a hook which does not read cannot
 * cause a SIGPIPE.
 *
 * The hook leads a session of its own, so that it has no terminal that could stop it. When the
 * parent kills the hook, it kills the hook's whole process group: everything that the hook started
 * and that did not leave the group on purpose. The kernel kills the hook if the parent ends.
 *
 * Only the last OUTPUT_KEPT bytes of the hook's output are kept, because they are only needed for
 * the error message.
 */
#include <ctype.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/sys.h"
#include "step/step.h"

#define OUTPUT_KEPT 1024
#define EXIT_NOT_EXECUTED 127

struct hook_run {
	pid_t pid;
	int pidfd;
	/*
	 * descriptor from interrupt_open(), which is readable when a signal asks this process to
	 * end
	 */
	int interrupt;
	/*
	 * pipe to the hook's standard input; closed once the container's state is written into it
	 */
	int in_read, in_write;
	int out;     /* pipe from the hook's standard output and error */
	int failure; /* pipe through which the child reports the errno of a failed execve(2) */
	const char *state; /* the part of the container's state that is not yet written */
	size_t len;
	char kept[OUTPUT_KEPT + 1];
	size_t nkept;
};

/* What all hooks of one kind, such as createContainer, have in common. */
struct hook_env {
	const char *state;
	size_t len;
	const int *out;
	/*
	 * The context of INIT, the container's first process, because a startContainer hook may
	 * have to load INIT's seccomp filter. NULL: the runtime runs the hooks.
	 */
	struct step_ctx *ctx;
};

static void hook_run_release(struct hook_run *run)
{
	fd_close(&run->pidfd);
	fd_close(&run->interrupt);
	fd_close(&run->in_read);
	fd_close(&run->in_write);
	fd_close(&run->out);
	fd_close(&run->failure);
}
#define _cleanup_hook_run_ __attribute__((cleanup(hook_run_release), unused))

/*
 * Runs in a child process, and turns it into the hook by execve(2). Does not return: if it fails,
 * the child exits.
 */
static void __attribute__((noreturn)) become_hook(const struct spec_hook *hook,
	const struct hook_env *e, const int stdio[3], int failure, pid_t parent)
{
	char *const only_path[] = {(char *)hook->path, NULL};
	char *const *args = hook->args.n ? (char *const *)hook->args.v : only_path;
	/*
	 * A hook without `env` gets the runtime's environment, as in runc and crun, because many
	 * hooks are short scripts that rely on PATH.
	 */
	char *const *env = hook->has_env ? (char *const *)hook->env.v : environ;
	sigset_t none;
	int code;

	/*
	 * The child resets the signals that were ignored. clone3() has reset only the signals that
	 * had handlers (CLONE_CLEAR_SIGHAND).
	 */
	for (int sig = 1; sig < NSIG; sig++)
		(void)signal(sig, SIG_DFL);
	sigemptyset(&none);
	errno = 0;
	/*
	 * dup2() makes the hook's standard streams. It clears close-on-exec of each, because its
	 * two arguments are never the same: make_pipe() makes no descriptor below 3. The parent may
	 * have ended before the child asked by prctl() to be killed at the parent's end, so the
	 * child checks getppid() afterwards.
	 */
	if (setsid() < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent ||
		dup2(stdio[0], 0) < 0 || dup2(stdio[1], 1) < 0 || dup2(stdio[2], 2) < 0 ||
		close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0 ||
		sigprocmask(SIG_SETMASK, &none, NULL) < 0) {
		code = errno ? errno : ESRCH;
	} else if (e->ctx && (code = -seccomp_load_late(e->ctx)) > 0) {
		/*
		 * Loading the seccomp filter has failed with the error `code`, which the child
		 * sends to the parent below.
		 */
	} else {
		execve(hook->path, args, env);
		code = errno;
	}
	(void)!write(failure, &code, sizeof(code));
	_exit(EXIT_NOT_EXECUTED);
}

/*
 * Makes a pipe whose ends are close-on-exec. Neither end is below 3, even if this process runs with
 * a closed standard stream.
 */
static int make_pipe(int *ret_read, int *ret_write)
{
	_cleanup_fd_ int r = -EBADF;
	_cleanup_fd_ int w = -EBADF;
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return err_sys("make a pipe");
	r = p[0];
	w = p[1];
	*ret_read = fcntl(r, F_DUPFD_CLOEXEC, 3);
	*ret_write = fcntl(w, F_DUPFD_CLOEXEC, 3);
	if (*ret_read < 0 || *ret_write < 0)
		return err_sys("make a pipe");
	return 0;
}

static int set_nonblocking(int fd)
{
	return fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ? err_sys("set a pipe non-blocking") : 0;
}

/*
 * Forks, and opens the child's pidfd. clone3(2) is tried first. Seccomp profiles of engines deny
 * clone3(2) with various error numbers, so clone(2) is tried after any failure of clone3(2); if the
 * kernel itself has refused, clone(2) fails too. pidfd_open(2) after clone(2) cannot open another
 * process, because this process has not reaped the child yet.
 */
static pid_t fork_hook(int *ret_pidfd)
{
	struct clone_args args = {
		.flags = CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
		.pidfd = (uintptr_t)ret_pidfd,
		.exit_signal = SIGCHLD,
	};
	pid_t pid = sys_clone3(&args);

	if (pid >= 0)
		return pid;
	pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (pid <= 0)
		return pid;
	*ret_pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (*ret_pidfd < 0)
		kill(pid, SIGKILL);
	return *ret_pidfd < 0 ? -1 : pid;
}

static int start_hook(struct hook_run *run, const struct spec_hook *hook, const struct hook_env *e)
{
	const int *out = e->out;
	_cleanup_fd_ int out_write = -EBADF;
	_cleanup_fd_ int failure_write = -EBADF;
	pid_t parent = getpid();

	int r = make_pipe(&run->in_read, &run->in_write);
	if (r >= 0)
		r = make_pipe(&run->out, &out_write);
	if (r >= 0)
		r = make_pipe(&run->failure, &failure_write);
	if (r >= 0)
		r = set_nonblocking(run->in_write);
	if (r >= 0)
		r = set_nonblocking(run->out);
	if (r < 0)
		return r;
	run->pid = fork_hook(&run->pidfd);
	if (run->pid < 0)
		return err_sys("fork");
	if (run->pid == 0) {
		const int stdio[3] = {run->in_read, out && out[0] >= 0 ? out[0] : out_write,
			out && out[1] >= 0 ? out[1] : out_write};
		become_hook(hook, e, stdio, failure_write, parent);
	}
	return 0;
}

/*
 * Reads all of the hook's output that is in the pipe now, and stores the last OUTPUT_KEPT bytes of
 * the output. Returns -EPIPE at the end of the output.
 */
static int read_output(struct hook_run *run)
{
	char chunk[4096];
	ssize_t n;

	while ((n = read(run->out, chunk, sizeof(chunk))) > 0) {
		const char *from = chunk;
		size_t add = (size_t)n;
		if (add > OUTPUT_KEPT) {
			from += add - OUTPUT_KEPT;
			add = OUTPUT_KEPT;
		}
		size_t room = OUTPUT_KEPT - add;
		if (run->nkept > room) {
			memmove(run->kept, run->kept + run->nkept - room, room);
			run->nkept = room;
		}
		memcpy(run->kept + run->nkept, from, add);
		run->nkept += add;
	}
	return n == 0 ? -EPIPE : 0;
}

static void write_state(struct hook_run *run)
{
	ssize_t n = run->len ? write(run->in_write, run->state, run->len) : 0;

	if (n > 0) {
		run->state += n;
		run->len -= (size_t)n;
	}
	if (run->len == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		fd_close(&run->in_write);
		fd_close(&run->in_read);
	}
}

/*
 * Waits until the hook has ended. Returns 0, -ETIMEDOUT after the deadline, or -EINTR if a signal
 * asked this process to end. If deadline_ms is negative, there is no deadline.
 */
static int watch_hook(struct hook_run *run, int64_t deadline_ms)
{
	for (;;) {
		struct pollfd fds[] = {
			{.fd = run->pidfd, .events = POLLIN},
			{.fd = run->out, .events = POLLIN},
			{.fd = run->in_write, .events = POLLOUT},
			{.fd = run->interrupt, .events = POLLIN},
		};
		int wait = -1;

		if (deadline_ms >= 0) {
			int64_t left = deadline_ms - clock_ms();
			if (left <= 0)
				return -ETIMEDOUT;
			wait = left > INT32_MAX ? INT32_MAX : (int)left;
		}
		if (poll(fds, ARRAY_SIZE(fds), wait) < 0 && errno != EINTR)
			return err_sys("poll");
		if (fds[1].revents && read_output(run) < 0)
			fd_close(&run->out);
		if (fds[0].revents)
			return 0;
		if (fds[2].revents)
			write_state(run);
		if (fds[3].revents && interrupt_read(run->interrupt) < 0)
			return -EINTR;
	}
}

static int reap_hook(const struct hook_run *run, siginfo_t *ret)
{
	int r;

	memset(ret, 0, sizeof(*ret));
	do
		r = waitid(P_PIDFD, (id_t)run->pidfd, ret, WEXITED);
	while (r < 0 && errno == EINTR);
	return r < 0 ? err_sys("wait for it") : 0;
}

/*
 * Returns the hook's output as one line without the blanks at its end, or "" if the hook has
 * written nothing.
 */
static const char *output_text(struct hook_run *run)
{
	while (run->nkept && (unsigned char)run->kept[run->nkept - 1] <= ' ')
		run->nkept--;
	for (size_t i = 0; i < run->nkept; i++)
		if (isspace((unsigned char)run->kept[i]))
			run->kept[i] = ' ';
	run->kept[run->nkept] = '\0';
	return run->kept;
}

static int hook_outcome(struct hook_run *run, const siginfo_t *si)
{
	int code;

	if (read(run->failure, &code, sizeof(code)) == sizeof(code))
		/*
		 * The error ENOENT of a hook gets a text of caisson's own, because engines take the
		 * kernel's text to mean that the container's program was not found.
		 */
		return err_set(code, "cannot be executed: %s",
			code == ENOENT ? "the file, or its interpreter, was not found"
				       : strerror(code));
	const char *text = output_text(run);
	const char *colon = *text ? ": " : "";
	if (si->si_code == CLD_EXITED && si->si_status == 0) {
		if (*text)
			log_debug("a hook printed: %s", text);
		return 0;
	}
	if (si->si_code == CLD_EXITED)
		return err_set(ECANCELED, "exited with status %d%s%s", si->si_status, colon, text);
	return err_set(ECANCELED, "was killed by signal %d (SIG%s)%s%s", si->si_status,
		sigabbrev_np(si->si_status) ? sigabbrev_np(si->si_status) : "?", colon, text);
}

static int run_hook(const struct spec_hook *hook, const struct hook_env *e)
{
	_cleanup_hook_run_ struct hook_run run = {
		.pidfd = -EBADF,
		.interrupt = -EBADF,
		.in_read = -EBADF,
		.in_write = -EBADF,
		.out = -EBADF,
		.failure = -EBADF,
		.state = e->state,
		.len = e->len,
	};
	siginfo_t si;

	int64_t timeout = hook->timeout.set ? hook->timeout.v : 0;
	if (timeout > INT64_MAX / 2000)
		timeout = INT64_MAX / 2000;
	int64_t deadline = timeout > 0 ? clock_ms() + timeout * 1000 : -1;
	/*
	 * If this process has to undo its work when a signal asks it to end, it has blocked such
	 * signals, and interrupt_open() reports them. Otherwise such a signal ends this process,
	 * and the kernel then kills the hook.
	 */
	run.interrupt = interrupt_open();
	int r = start_hook(&run, hook, e);
	if (r < 0)
		return r;
	r = watch_hook(&run, deadline);
	if (r < 0) {
		/*
		 * The hook's process group is killed, and the hook is also killed by its pidfd,
		 * because the hook may not have called setsid() yet, which makes the group.
		 */
		kill(-run.pid, SIGKILL);
		(void)!syscall(SYS_pidfd_send_signal, run.pidfd, SIGKILL, NULL, 0);
	}
	int reaped = reap_hook(&run, &si);
	if (run.out >= 0)
		(void)!read_output(&run);
	if (r == -ETIMEDOUT) {
		const char *text = output_text(&run);
		return err_set(ETIMEDOUT,
			"did not end within its timeout of %lld s and was killed%s%s",
			(long long)timeout, *text ? ": " : "", text);
	}
	if (r < 0 || reaped < 0)
		return r < 0 ? r : reaped;
	return hook_outcome(&run, &si);
}

static int run_hooks(const char *name, const struct spec_hooks *hooks, const struct hook_env *e)
{
	const struct sigaction reset = {.sa_handler = SIG_DFL};
	struct sigaction old;
	int r = 0;

	if (!hooks->n)
		return 0;
	/*
	 * If the caller of caisson has set SIGCHLD to be ignored, the kernel discards the exit
	 * statuses of hooks. So the action for SIGCHLD is set to the default while hooks run.
	 */
	if (sigaction(SIGCHLD, NULL, &old) < 0)
		return err_sys("sigaction");
	bool change = old.sa_handler == SIG_IGN || old.sa_flags & SA_NOCLDWAIT;
	if (change && sigaction(SIGCHLD, &reset, NULL) < 0)
		return err_sys("sigaction");
	for (size_t i = 0; r >= 0 && i < hooks->n; i++) {
		r = run_hook(&hooks->v[i], e);
		if (r < 0)
			err_ctx(r, "hooks.%s[%zu] (%s)", name, i, hooks->v[i].path);
	}
	if (change)
		sigaction(SIGCHLD, &old, NULL);
	return r;
}

int hooks_run(const char *name, const struct spec_hooks *hooks, const char *state, size_t len,
	const int *out)
{
	const struct hook_env e = {.state = state, .len = len, .out = out};

	return run_hooks(name, hooks, &e);
}

/*
 * Gives every hook of the list that has no `env` the container's environment. runc does the same
 * for startContainer hooks, and engines rely on that. Hooks of all other kinds get the runtime's
 * environment.
 */
static int with_process_env(
	struct step_ctx *c, const struct spec_hooks *hooks, struct spec_hooks *ret)
{
	static const char *const none[] = {NULL};
	struct spec_hook *v = arena_array(c->arena, hooks->n, sizeof(*v));
	size_t n = 0;

	if (!v)
		return -ENOMEM;
	while (c->env && c->env[n])
		n++;
	for (size_t i = 0; i < hooks->n; i++) {
		v[i] = hooks->v[i];
		if (v[i].has_env)
			continue;
		v[i].env = (struct spec_strings){c->env ? (const char *const *)c->env : none, n};
		v[i].has_env = true;
	}
	*ret = (struct spec_hooks){v, hooks->n};
	return 0;
}

int step_hooks(struct step_ctx *c, const struct step *s)
{
	_cleanup_strbuf_ struct strbuf state = {0};
	struct spec_hooks hooks = s->hooks.hooks;

	int r = c->state_json(c->state_data, s->hooks.status, &state);
	if (r >= 0 && streq(s->hooks.name, "startContainer"))
		r = with_process_env(c, &hooks, &hooks);
	if (r < 0)
		return r;
	const struct hook_env e = {.state = strbuf_str(&state),
		.len = state.len,
		.out = c->hook_out,
		.ctx = streq(s->hooks.name, "startContainer") ? c : NULL};
	/*
	 * createContainer hooks run with the umask that caisson's caller had. startContainer hooks
	 * do not, because they run under the seccomp filter, which may forbid umask(2).
	 */
	bool own = c->umask_changed && streq(s->hooks.name, "createContainer");
	mode_t mask = own ? umask(c->umask) : 0;
	r = run_hooks(s->hooks.name, &hooks, &e);
	if (own)
		umask(mask);
	return r;
}
