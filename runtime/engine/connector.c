/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/connector.h"

#include <linux/capability.h>
#include <linux/securebits.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "jail/jail.h"

#define PAUSE_MS 100 /* pause between two attempts to connect, in ms */

static int connect_once(const struct sockaddr_un *to)
{
	_cleanup_fd_ int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (sock < 0 || connect(sock, (const struct sockaddr *)to, sizeof(*to)) < 0)
		return -1;
	return take_fd(&sock);
}

static int connect_within(const struct sockaddr_un *to, unsigned seconds)
{
	const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};
	const int64_t end = clock_ms() + (int64_t)seconds * 1000;
	int fd;

	while ((fd = connect_once(to)) < 0 && clock_ms() < end)
		nanosleep(&pause, NULL);
	return fd;
}

/*
 * Gives up all capabilities but CAP_DAC_OVERRIDE, which is needed to connect to the vhost-user
 * server's socket. The process stays root, because the server may check which user connects.
 */
static int drop_rights(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	const uint32_t dac = 1U << CAP_DAC_OVERRIDE;
	struct __user_cap_data_struct caps[2] = {{.effective = dac, .permitted = dac}};

	if (prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED) < 0 && errno != EPERM)
		return -errno;
	if (prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return syscall(SYS_capset, &head, caps) < 0 ? -errno : 0;
}

static int filter_calls(void)
{
	static const int allowed[] = {SCMP_SYS(recvfrom), SCMP_SYS(sendmsg), SCMP_SYS(connect),
		SCMP_SYS(close), SCMP_SYS(nanosleep), SCMP_SYS(clock_nanosleep),
		SCMP_SYS(clock_gettime), SCMP_SYS(restart_syscall), SCMP_SYS(exit_group),
		/*
		 * The heap of the C library makes these two calls when it frees the memory from
		 * which the filter was compiled.
		 */
		SCMP_SYS(munmap), SCMP_SYS(madvise)};
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r = ctx ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(allowed); i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0);
	if (r == 0)
		r = seccomp_rule_add(
			ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
	if (r == 0)
		r = seccomp_load(ctx);
	seccomp_release(ctx);
	return r;
}

_Noreturn static void answer_requests(int channel, const struct sockaddr_un *to, unsigned seconds)
{
	char byte;

	if (fd_set_streams(-EBADF, -EBADF, -EBADF) < 0 || fd_close_all_but(&channel, 1) < 0 ||
		drop_rights() < 0 || filter_calls() < 0)
		_exit(1);
	while (recv(channel, &byte, 1, 0) == 1) {
		int fd = connect_within(to, seconds);
		/*
		 * If the connection failed (fd < 0), fd_send() sends a byte without a descriptor,
		 * which tells the monitor so.
		 */
		int r = fd_send(channel, "", 1, fd);
		fd_close(&fd);
		if (r < 0)
			break;
	}
	_exit(0);
}

int connector_start(const char *path, unsigned seconds)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int socks[2];

	/*
	 * The path fits into sun_path, because the runtime has already connected to this path
	 * before.
	 */
	strncpy(to.sun_path, path, sizeof(to.sun_path) - 1);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks) < 0)
		return err_sys("make a socket pair");
	_cleanup_fd_ int ours = socks[0], theirs = socks[1];
	pid_t monitor = getpid();
	pid_t pid = fork();
	if (pid < 0)
		return err_sys("fork a process that connects again");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NAME, "caisson-connect");
		if (getppid() != monitor)
			_exit(1);
		fd_close(&ours);
		answer_requests(theirs, &to, seconds);
	}
	return take_fd(&ours);
}
