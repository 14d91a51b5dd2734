/* SPDX-License-Identifier: Apache-2.0 */
#include "base/nonblock.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/*
 * Major number of /dev/tty, /dev/console and /dev/ptmx (Linux, major.h). These are not opened
 * again, because the new descriptor could refer to another terminal.
 */
#define TTYAUX_MAJOR 5

int nonblock_open(int fd, int access)
{
	struct stat st;
	char path[32];

	if (fstat(fd, &st) < 0)
		return -1;
	if (!S_ISFIFO(st.st_mode) &&
		(!S_ISCHR(st.st_mode) || !isatty(fd) || major(st.st_rdev) == TTYAUX_MAJOR))
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, access | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}
