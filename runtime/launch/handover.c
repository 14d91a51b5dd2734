/* SPDX-License-Identifier: Apache-2.0 */
#include "launch/handover.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/fd.h"

/* how long, in seconds, to wait until the server of --console-socket or --pidfd-socket accepts */
#define CONNECT_TIMEOUT 10

int handover_connect(const char *path, const char *field)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof(addr.sun_path))
		return err_set(ENAMETOOLONG,
			"%s: %s is longer than the %zu bytes that a socket's path may have", field,
			path, sizeof(addr.sun_path) - 1);
	memcpy(addr.sun_path, path, strlen(path));
	_cleanup_fd_ int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return err_sys("make a socket");
	/*
	 * Without a timeout, connect(2) would wait forever for a server that no longer accepts
	 * connections.
	 */
	const struct timeval limit = {.tv_sec = CONNECT_TIMEOUT}, none = {0};
	if (setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0)
		return err_sys("%s: setsockopt", field);
	if (connect(sock, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return err_set(errno == ENOENT ? ENXIO : errno, "%s: cannot connect to %s: %s",
			field, path,
			errno == ENOENT   ? "there is no such socket"
			: errno == EAGAIN ? "its server does not accept connections"
					  : strerror(errno));
	if (setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof(none)) < 0)
		return err_sys("%s: setsockopt", field);
	return take_fd(&sock);
}

/*
 * Sends the descriptor of the terminal's master. The text that is sent with the descriptor is the
 * same as runc's. Engines show the text, but do not parse it.
 */
int handover_console(const char *socket_path, int master)
{
	_cleanup_fd_ int sock = handover_connect(socket_path, "--console-socket");

	return sock < 0 ? sock : fd_send(sock, "/dev/ptmx", strlen("/dev/ptmx"), master);
}

int handover_pidfd(const char *socket_path, const char *field, int pidfd)
{
	_cleanup_fd_ int sock = handover_connect(socket_path, field);

	return sock < 0 ? sock : fd_send(sock, "pidfd", strlen("pidfd"), pidfd);
}

int handover_pid(const char *pid_file, pid_t pid)
{
	char text[32];

	if (!pid_file)
		return 0;
	int len = snprintf(text, sizeof(text), "%d", pid);
	int r = fd_replace_file(AT_FDCWD, pid_file, text, (size_t)len, 0644);
	return r < 0 ? err_ctx(r, "--pid-file") : 0;
}

void handover_forget_pid(const char *pid_file)
{
	struct stat st;

	if (lstat(pid_file, &st) == 0 && S_ISREG(st.st_mode))
		unlink(pid_file);
}
