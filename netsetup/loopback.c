/* SPDX-License-Identifier: Apache-2.0 */
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "netsetup/net.h"

/*
 * On the path of every container start, so by the cheapest means: an ioctl on a Unix socket.
 * Measured in 60 new namespaces each (kernel 6.18): 26 us at best and 43 in the median, against 42
 * and 53 for RTM_NEWLINK with its acknowledgement; most of it is the kernel's work on 127.0.0.1 and
 * ::1. A new loopback has no flags besides IFF_LOOPBACK, which this ioctl does not touch.
 */
int net_loopback_up(void)
{
	struct ifreq req = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return err_sys("open a socket to set lo up");
	if (ioctl(fd, SIOCSIFFLAGS, &req) < 0)
		return err_sys("set lo up");
	return 0;
}
