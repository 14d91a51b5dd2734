/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fd.h"
#include "launch/launch.h"

void launch_window_size(uint16_t *ret_height, uint16_t *ret_width)
{
	struct winsize size = {0};

	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0)
		size = (struct winsize){0};
	*ret_height = size.ws_row;
	*ret_width = size.ws_col;
}

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
