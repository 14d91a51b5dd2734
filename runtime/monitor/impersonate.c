/* SPDX-License-Identifier: Apache-2.0 */
#include "monitor/impersonate.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>

#include "base/fd.h"
#include "ns/channel.h"

int impersonate_signals(int *ret_fd)
{
	sigset_t all;

	sigfillset(&all);
	if (sigprocmask(SIG_SETMASK, &all, NULL) < 0)
		return err_sys("block signals");
	*ret_fd = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	return *ret_fd < 0 ? err_sys("make a signalfd") : 0;
}

int impersonate_terminal(uint16_t rows, uint16_t columns, int channel, int *ret_slave)
{
	const struct winsize size = {.ws_row = rows, .ws_col = columns};
	struct termios raw;
	int unlock = 0;

	_cleanup_fd_ int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (master < 0)
		return err_sys("open /dev/ptmx");
	if (ioctl(master, TIOCSPTLCK, &unlock) < 0)
		return err_sys("unlock the terminal");
	_cleanup_fd_ int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		return err_sys("open the terminal's slave side");
	if (rows && ioctl(master, TIOCSWINSZ, &size) < 0)
		return err_sys("set the terminal's size");
	if (tcgetattr(slave, &raw) < 0)
		return err_sys("read the terminal's attributes");
	cfmakeraw(&raw);
	if (tcsetattr(slave, TCSANOW, &raw) < 0)
		return err_sys("make the terminal raw");
	if (ioctl(slave, TIOCSCTTY, 0) < 0)
		return err_sys("make the terminal the controlling one");
	*ret_slave = take_fd(&slave);
	return channel_send(channel, CHANNEL_FD, 0, "console", master);
}

_Noreturn void impersonate_exit(int status)
{
	const struct rlimit none = {0, 0};
	int sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	sigset_t set;

	if (!sig)
		_exit(WEXITSTATUS(status));
	/*
	 * No core dump of this process is written, because the process kills itself only to show
	 * how a program in the guest ended.
	 */
	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_DUMPABLE, 0);
	signal(sig, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, sig);
	kill(getpid(), sig);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	_exit(128 + sig);
}
