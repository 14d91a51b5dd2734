/* SPDX-License-Identifier: Apache-2.0 */
#include "base/interrupt.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/str.h"

bool interrupt_is_ignored(int sig)
{
	struct sigaction now;

	return sigaction(sig, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
}

/*
 * Returns the signals that end a command. Those that this process ignores, because nohup(1) or a
 * shell has said so, are not among them: the kernel keeps a blocked signal even if it is ignored,
 * and a signalfd would report it.
 */
static void get_ends(sigset_t *ret)
{
	static const int ends[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};

	sigemptyset(ret);
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		if (!interrupt_is_ignored(ends[i]))
			sigaddset(ret, ends[i]);
}

static int open_ends(void)
{
	sigset_t set;

	get_ends(&set);
	int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? err_sys("make a signalfd") : fd;
}

int interrupt_block(void)
{
	sigset_t all;

	sigfillset(&all);
	if (sigprocmask(SIG_SETMASK, &all, NULL) < 0)
		return err_sys("block signals");
	return open_ends();
}

int interrupt_block_ends(void)
{
	sigset_t set;

	get_ends(&set);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return err_sys("block signals");
	return open_ends();
}

void interrupt_unblock(void)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

int interrupt_open(void)
{
	sigset_t now;

	if (sigprocmask(SIG_SETMASK, NULL, &now) < 0 || !sigismember(&now, SIGTERM))
		return -EBADF;
	return open_ends();
}

int interrupt_read(int interrupt)
{
	struct signalfd_siginfo s;

	if (interrupt < 0 || read(interrupt, &s, sizeof(s)) != sizeof(s))
		return 0;
	return err_set(EINTR, "ended by signal %u (%s)", s.ssi_signo, strsignal((int)s.ssi_signo));
}

int interrupt_wait(int interrupt, int fd)
{
	struct pollfd p[] = {{.fd = fd, .events = POLLIN}, {.fd = interrupt, .events = POLLIN}};
	int r = 0;

	if (interrupt < 0)
		return 0;
	while (r >= 0 && !p[0].revents) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return err_sys("poll");
		/*
		 * fd is checked before the signalfd, because fd is the channel of the container's
		 * first process: when this channel is at its end, the container's program runs, and
		 * a signal that came at the same time is for the program and not for caisson.
		 */
		if (!p[0].revents && p[1].revents)
			r = interrupt_read(interrupt);
	}
	return r;
}
