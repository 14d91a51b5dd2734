/* SPDX-License-Identifier: Apache-2.0 */
#include "fd.h"
#include "launch.h"

/* The name that goes with the descriptor is what runc sends: engines show it, none parse it. */
int console_send(const char *socket_path, int master)
{
	_cleanup_fd_ int sock = launch_connect(socket_path, "--console-socket");

	return sock < 0 ? sock : fd_send(sock, "/dev/ptmx", strlen("/dev/ptmx"), master);
}

int pidfd_send(const char *socket_path, int pidfd)
{
	_cleanup_fd_ int sock = launch_connect(socket_path, "--pidfd-socket");

	return sock < 0 ? sock : fd_send(sock, "pidfd", strlen("pidfd"), pidfd);
}
