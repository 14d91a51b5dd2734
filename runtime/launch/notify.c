/* SPDX-License-Identifier: Apache-2.0 */
#include "launch/notify.h"

#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/fd.h"
#include "base/log.h"

#define DIRECTORY "notify"
#define SOCKET DIRECTORY "/notify.sock"
#define MESSAGE_MAX 4096
#define SEND_TIMEOUT 10 /* how long, in seconds, sending READY=1 to the service manager may wait */
/*
 * How long, in ms, the runtime waits until the service manager has answered BARRIER=1. A service
 * manager that does not know BARRIER=1 never answers. runc waits as long.
 */
#define BARRIER_MS 30000

void notify_close(struct notify *n)
{
	fd_close(&n->sock);
	fd_close(&n->host);
}

bool notify_is_wanted(void)
{
	const char *path = getenv("NOTIFY_SOCKET");

	return path && (path[0] == '/' || path[0] == '@') && path[1];
}

/*
 * Makes the directory of the container's socket for service reports. Its mode is set by chmod(2),
 * because the caller's umask must not take permissions away: programs of any user in the container
 * may send reports.
 */
int notify_make(struct container *c)
{
	if (mkdirat(c->dir, DIRECTORY, 0755) < 0 || fchmodat(c->dir, DIRECTORY, 0755, 0) < 0)
		return err_sys("make " DIRECTORY " in the state directory");
	return 0;
}

static int bind_notify_socket(struct container *c)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	_cleanup_fd_ int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (sock < 0)
		return err_sys("make a socket");
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/" SOCKET, c->dir);
	if (bind(sock, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
		fchmodat(c->dir, SOCKET, 0777, 0) < 0)
		return err_sys("bind " SOCKET " in the state directory");
	return take_fd(&sock);
}

/*
 * Connects to the socket that the caller's NOTIFY_SOCKET names, and returns the connected socket. A
 * path "@name" is an abstract socket.
 */
static int connect_to_host(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t len = strlen(path);

	if (len >= sizeof(addr.sun_path))
		return err_set(ENAMETOOLONG,
			"NOTIFY_SOCKET: %s is longer than the %zu bytes that a socket's path may "
			"have",
			path, sizeof(addr.sun_path) - 1);
	memcpy(addr.sun_path, path, len);
	if (path[0] == '@')
		addr.sun_path[0] = '\0';
	_cleanup_fd_ int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return err_sys("make a socket");
	/*
	 * Sending has a time limit, because the service manager may have stopped reading, and
	 * sending READY=1 would then wait forever.
	 */
	const struct timeval limit = {.tv_sec = SEND_TIMEOUT};
	if (setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0)
		return err_sys("NOTIFY_SOCKET: setsockopt");
	if (connect(sock, (struct sockaddr *)&addr,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0)
		return err_sys("NOTIFY_SOCKET: connect to %s", path);
	return take_fd(&sock);
}

int notify_open(struct notify *n, struct container *c)
{
	struct stat st;

	if (!notify_is_wanted())
		return 0;
	if (fstatat(c->dir, DIRECTORY, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_sys("stat " DIRECTORY " in the state directory");
	n->host = connect_to_host(getenv("NOTIFY_SOCKET"));
	if (n->host < 0) {
		log_warn("%s: what the container reports is not relayed", err_msg());
		err_clear();
		return 0;
	}
	n->sock = bind_notify_socket(c);
	return n->sock < 0 ? n->sock : 0;
}

/*
 * Says whether a line of the container's service report is passed on to the service manager.
 * MAINPID and FDSTORE are not passed on, because the service manager accepts them only from the
 * runtime. BARRIER is not passed on, because it asks the receiver to close a descriptor, and the
 * runtime is the receiver.
 */
static bool is_relayed(const char *line)
{
	static const char *const names[] = {
		"READY=", "STATUS=", "ERRNO=", "BUSERROR=", "WATCHDOG=", "WATCHDOG_USEC=",
		"EXTEND_TIMEOUT_USEC=", "RELOADING=", "STOPPING=", "MONOTONIC_USEC="};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (str_starts(line, names[i]))
			return true;
	return false;
}

/*
 * Sends a report to the service manager. If the service manager's socket is full, a report with
 * READY=1 waits for room, because the runtime must not end before this report has arrived. Any
 * other report is dropped.
 */
static void send_to_host(const struct notify *n, const char *text, size_t len, bool ready)
{
	if (send(n->host, text, len, MSG_NOSIGNAL | (ready ? 0 : MSG_DONTWAIT)) < 0)
		log_warn("NOTIFY_SOCKET: send to %s: %s", getenv("NOTIFY_SOCKET"), strerror(errno));
}

int notify_relay(struct notify *n)
{
	_cleanup_strbuf_ struct strbuf out = {0};
	char message[MESSAGE_MAX + 1], *save = NULL;
	bool ready = false;

	ssize_t len = n->sock < 0 ? -1 : recv(n->sock, message, MESSAGE_MAX, MSG_DONTWAIT);
	if (len < 0)
		return 0;
	message[len] = '\0';
	for (char *l = strtok_r(message, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		if (!is_relayed(l))
			continue;
		ready |= streq(l, "READY=1");
		if (strbuf_addf(&out, "%s%s", out.len ? "\n" : "", l) < 0)
			return 1;
	}
	if (ready && strbuf_addf(&out, "\nMAINPID=%d", n->main_pid) < 0)
		return 1;
	if (out.len)
		send_to_host(n, strbuf_str(&out), out.len, ready);
	n->ready |= ready;
	return 1;
}

/*
 * Waits until the service manager has read all reports. A service manager finds out by the sender's
 * pid for which service a report is, so the runtime must not end before the service manager has
 * read the reports. To find that out, this function sends a report BARRIER=1 with a descriptor,
 * which the service manager closes when it reads the report (sd_notify_barrier(3)).
 */
static void await_service_manager(const struct notify *n)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec text = {.iov_base = (char[]){"BARRIER=1"}, .iov_len = strlen("BARRIER=1")};
	struct msghdr msg = {.msg_iov = &text,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf)};
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return;
	_cleanup_fd_ int ours = ends[0], theirs = ends[1];
	struct cmsghdr *h = CMSG_FIRSTHDR(&msg);
	*h = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
		.cmsg_type = SCM_RIGHTS,
		.cmsg_len = CMSG_LEN(sizeof(int))};
	memcpy(CMSG_DATA(h), &theirs, sizeof(theirs));
	if (sendmsg(n->host, &msg, MSG_NOSIGNAL) < 0)
		return;
	fd_close(&theirs);
	struct pollfd p = {.fd = ours};
	while (poll(&p, 1, BARRIER_MS) < 0 && errno == EINTR)
		;
}

int notify_wait(struct notify *n, int pidfd)
{
	bool ended = false;

	while (n->sock >= 0 && !n->ready) {
		struct pollfd p[] = {
			{.fd = n->sock, .events = POLLIN}, {.fd = pidfd, .events = POLLIN}};
		if (notify_relay(n))
			continue;
		/*
		 * If `ended` is set, an earlier poll(2) has found that the process has ended. The
		 * loop ends only now that no message is left to relay, because the process may have
		 * sent some just before it ended.
		 */
		if (ended)
			break;
		if (poll(p, ARRAY_SIZE(p), -1) < 0 && errno != EINTR)
			return err_sys("poll");
		ended = p[1].revents;
	}
	if (n->ready)
		await_service_manager(n);
	return 0;
}
