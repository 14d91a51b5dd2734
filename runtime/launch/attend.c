/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The foreground: `run` and `exec` without --detach stay beside the container's process. They
 * forward the signals that they get, relay the terminal's data, and end with the process's exit
 * code.
 *
 * The caller blocks all signals before the process exists (base/interrupt.h), and this file reads
 * the signals from a signalfd, so that no signal is lost. The terminal's data goes through two
 * small buffers, one for each direction. If the receiver of a direction does not read, so that the
 * buffer stays full, this file stops reading from the sender until the buffer has room.
 *
 * No write may block, because then signals would no longer be forwarded. So the terminal's master
 * is non-blocking. The flags of standard output belong to the caller and stay as they are. If
 * standard output is a terminal or a pipe, this file opens it a second time, with flags of its own,
 * because a terminal that poll(2) reports as writable may not take all that is written. If standard
 * output cannot be opened a second time, each write has at most PIPE_BUF bytes, because a pipe that
 * poll(2) reports as writable has room for that many.
 *
 * When the process has ended, its last output may still wait for a reader of standard output, for
 * example while less(1) shows an earlier page. SIGTERM, SIGINT, SIGHUP and SIGQUIT end that wait.
 *
 * While the process lives, this file holds the terminal's slave side open too. A program such as an
 * init closes its terminal and opens it again later. If no process had the slave side open in
 * between, the master would report the end of the terminal.
 */
#include "launch/attend.h"

#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>

#include "base/fd.h"
#include "base/interrupt.h"
#include "launch/notify.h"

#define LAST_WORDS_MS 1000
/*
 * how many service reports (sd_notify(3)) of a program that has ended are still relayed to the
 * service manager
 */
#define LAST_REPORTS 64

struct pipe {
	int from, to;
	size_t start, len;
	bool ended;
	char buf[8192];
};

struct attend {
	struct ns_child *child;
	int signals;
	/*
	 * Pointer to the descriptor of the container's terminal (the master), or to -EBADF. The
	 * descriptor is closed if caisson's own terminal is closed.
	 */
	int *console;
	/*
	 * the terminal's slave side, which caisson holds open while the process lives; else -EBADF
	 */
	int slave;
	struct notify *notify;
	/*
	 * caisson's standard output, opened a second time as non-blocking; -EBADF: not opened a
	 * second time
	 */
	int output;
	bool told; /* caisson got a signal that asks a process to end (such as SIGTERM) */
	/*
	 * caisson got a signal that asks a process to end after the container's process had ended,
	 * so caisson no longer waits until its last output is read
	 */
	bool give_up;
	bool exited;
	int status;
	struct pipe in, out;
	struct termios saved;
	bool raw;
};

void launch_window_size(uint16_t *ret_height, uint16_t *ret_width)
{
	struct winsize size = {0};

	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0)
		size = (struct winsize){0};
	*ret_height = size.ws_row;
	*ret_width = size.ws_col;
}

static void set_window_size(const struct attend *a)
{
	struct winsize size;

	if (*a->console >= 0 && ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0)
		ioctl(*a->console, TIOCSWINSZ, &size);
}

/*
 * Sets caisson's own terminal to raw mode. If caisson runs in the background of a shell with job
 * control, the attempt must stop caisson until the shell brings it to the foreground. The kernel
 * stops caisson by SIGTTOU, unless that signal is blocked, so this function unblocks the signal.
 */
static int set_raw(const struct termios *saved)
{
	struct termios raw = *saved;
	sigset_t ttou;

	cfmakeraw(&raw);
	sigemptyset(&ttou);
	sigaddset(&ttou, SIGTTOU);
	if (sigprocmask(SIG_UNBLOCK, &ttou, NULL) < 0)
		return err_sys("unblock SIGTTOU");
	int r = tcsetattr(STDIN_FILENO, TCSANOW, &raw) < 0
			? err_sys("put the terminal into raw mode")
			: 0;
	return sigprocmask(SIG_BLOCK, &ttou, NULL) < 0 ? err_sys("block SIGTTOU") : r;
}

/*
 * Opens standard output a second time, as non-blocking, and returns the descriptor, or -EBADF if
 * standard output is neither a terminal nor a pipe. A regular file is not opened again, because the
 * new descriptor would write from the start of the file.
 */
static int reopen_output(void)
{
	struct stat st;

	if (fstat(STDOUT_FILENO, &st) < 0 || (!S_ISFIFO(st.st_mode) && !isatty(STDOUT_FILENO)))
		return -EBADF;
	return open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

static int open_terminal(struct attend *a)
{
	if (*a->console < 0)
		return 0;
	a->output = reopen_output();
	a->in = (struct pipe){.from = STDIN_FILENO, .to = *a->console};
	a->out =
		(struct pipe){.from = *a->console, .to = a->output < 0 ? STDOUT_FILENO : a->output};
	if (fcntl(*a->console, F_SETFL, O_NONBLOCK) < 0)
		return err_sys("set the terminal non-blocking");
	a->slave = ioctl(*a->console, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (tcgetattr(STDIN_FILENO, &a->saved) < 0)
		return 0;
	set_window_size(a);
	int r = set_raw(&a->saved);
	a->raw = r >= 0;
	/*
	 * In a background job whose shell has ended, tcsetattr(3) fails with EIO. No one can bring
	 * such a job to the foreground any more, so caisson goes on without raw mode.
	 */
	return r == -EIO ? 0 : r;
}

static void close_terminal(struct attend *a)
{
	/*
	 * Resets the mode of caisson's own terminal. TCSADRAIN waits until the terminal's output
	 * has been read. If caisson's buffer still holds output, no one reads the terminal's output
	 * any more, so the mode is set without that wait.
	 */
	if (a->raw)
		tcsetattr(STDIN_FILENO, a->out.len ? TCSANOW : TCSADRAIN, &a->saved);
	fd_close(&a->slave);
	fd_close(&a->output);
}

/*
 * Closes the container's terminal, because no one reads standard output any more. The programs in
 * the container get SIGHUP, as they do when a person's terminal goes away.
 */
static void hang_up_terminal(struct attend *a)
{
	fd_close(&a->slave);
	fd_close(a->console);
	a->in.ended = a->out.ended = true;
	a->in.len = 0;
}

static void reap_child(struct attend *a)
{
	siginfo_t info = {0};

	/*
	 * Only the container's process is reaped. caisson may be a subreaper that adopted other
	 * children, and its caller waits for those.
	 */
	if (waitid(P_PIDFD, (id_t)a->child->pidfd, &info, WEXITED | WNOHANG) < 0 ||
		info.si_pid == 0)
		return;
	a->exited = true;
	a->status = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
	a->child->pid = 0;
}

static bool asks_to_end(int sig)
{
	return sig == SIGTERM || sig == SIGINT || sig == SIGHUP || sig == SIGQUIT;
}

static void handle_signals(struct attend *a)
{
	struct signalfd_siginfo info;

	while (read(a->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		switch ((int)info.ssi_signo) {
		case SIGCHLD:
			reap_child(a);
			break;
		case SIGWINCH:
			if (*a->console >= 0) {
				set_window_size(a);
				break;
			}
			/* fallthrough */
		default:
			a->told |= asks_to_end((int)info.ssi_signo);
			a->give_up |= a->exited && asks_to_end((int)info.ssi_signo);
			if (!a->exited)
				pidfd_send_signal(a->child->pidfd, (int)info.ssi_signo, NULL, 0);
		}
	}
}

static bool pipe_wants_input(const struct pipe *p)
{
	return !p->ended && p->len == 0;
}

static void pipe_fill(struct pipe *p)
{
	ssize_t n = read(p->from, p->buf, sizeof(p->buf));

	if (n > 0) {
		p->start = 0;
		p->len = (size_t)n;
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		/*
		 * A read(2) from the terminal's master fails with EIO after the last slave was
		 * closed.
		 */
		p->ended = true;
	}
}

/*
 * Writes up to `most` bytes of the buffer to p->to. Returns false if the other end of p->to is
 * closed.
 */
static bool pipe_drain(struct pipe *p, size_t most)
{
	ssize_t n = write(p->to, p->buf + p->start, p->len < most ? p->len : most);

	if (n > 0) {
		p->start += (size_t)n;
		p->len -= (size_t)n;
	} else if (n < 0 && errno != EAGAIN && errno != EINTR) {
		p->ended = true;
		p->len = 0;
		return false;
	}
	return true;
}

static void send_end_of_input(struct attend *a)
{
	/*
	 * The end of caisson's standard input is passed to the container's terminal as Ctrl-D (4).
	 * The kernel's line discipline turns this character into an end of file for the program.
	 */
	static const char eot = 4;

	if (a->in.ended && a->in.from >= 0 && *a->console >= 0) {
		(void)!write(*a->console, &eot, 1);
		a->in.from = -1;
	}
}

enum {
	WATCH_SIGNALS,
	WATCH_IN,
	WATCH_OUT_TERM,
	WATCH_MASTER,
	WATCH_MASTER_OUT,
	WATCH_NOTIFY,
	WATCH_COUNT
};

static int relay_once(struct attend *a, int timeout)
{
	struct pollfd p[WATCH_COUNT] = {
		[WATCH_SIGNALS] = {.fd = a->signals, .events = POLLIN},
		[WATCH_IN] = {.fd = -1, .events = POLLIN},
		[WATCH_OUT_TERM] = {.fd = -1, .events = POLLOUT},
		[WATCH_MASTER] = {.fd = -1, .events = POLLIN},
		[WATCH_MASTER_OUT] = {.fd = -1, .events = POLLOUT},
		[WATCH_NOTIFY] = {.fd = a->notify ? a->notify->sock : -1, .events = POLLIN},
	};

	if (*a->console >= 0) {
		if (pipe_wants_input(&a->in) && !a->exited)
			p[WATCH_IN].fd = a->in.from;
		if (a->in.len)
			p[WATCH_MASTER_OUT].fd = *a->console;
		if (pipe_wants_input(&a->out))
			p[WATCH_MASTER].fd = *a->console;
		if (a->out.len)
			p[WATCH_OUT_TERM].fd = a->out.to;
	}
	int n = poll(p, WATCH_COUNT, timeout);
	if (n < 0)
		return errno == EINTR ? 1 : err_sys("poll");
	if (n == 0)
		return 0;
	if (p[WATCH_SIGNALS].revents)
		handle_signals(a);
	if (p[WATCH_NOTIFY].revents)
		notify_relay(a->notify);
	if (p[WATCH_OUT_TERM].revents && !pipe_drain(&a->out, PIPE_BUF)) {
		hang_up_terminal(a);
		return 1;
	}
	if (p[WATCH_MASTER].revents)
		pipe_fill(&a->out);
	if (p[WATCH_MASTER_OUT].revents && a->in.len)
		(void)pipe_drain(&a->in, a->in.len);
	if (p[WATCH_IN].revents)
		pipe_fill(&a->in);
	send_end_of_input(a);
	return 1;
}

/*
 * Relays the last output of a process that has ended, which is still in the terminal's buffer.
 * Other processes may keep the slave side open, so the relay also stops if no output has come for
 * 50 ms. If caisson got a signal that asks to end, the relay waits at most LAST_WORDS_MS until its
 * own output is read.
 */
static int relay_rest(struct attend *a)
{
	int r = 1;

	fd_close(&a->slave);
	while (r > 0 && !a->give_up && *a->console >= 0 && (!a->out.ended || a->out.len))
		r = relay_once(a, !a->out.len ? 50 : a->told ? LAST_WORDS_MS : -1);
	return r;
}

int launch_attend(struct ns_child *child, int *console, struct notify *n, int *ret_status)
{
	struct attend a = {
		.child = child, .console = console, .slave = -EBADF, .output = -EBADF, .notify = n};
	sigset_t all;

	sigfillset(&all);
	/* A container that was started by nohup(1) outlives the caller's terminal. */
	if (interrupt_is_ignored(SIGHUP))
		sigdelset(&all, SIGHUP);
	_cleanup_fd_ int signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals < 0)
		return err_sys("make a signalfd");
	a.signals = signals;
	int r = open_terminal(&a);
	reap_child(&a);
	while (r >= 0 && !a.exited)
		r = relay_once(&a, -1);
	/*
	 * The container's service reports that are still in the socket are passed on. Their number
	 * is limited, because other processes of the container may go on sending reports.
	 */
	for (int i = 0; r >= 0 && n && i < LAST_REPORTS && notify_relay(n); i++)
		;
	if (r >= 0)
		r = relay_rest(&a);
	close_terminal(&a);
	*ret_status = a.status;
	return r < 0 ? r : 0;
}
