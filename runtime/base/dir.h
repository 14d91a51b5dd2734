/* SPDX-License-Identifier: Apache-2.0 */
/* Opens directories for readdir(3). */
#pragma once
#include <dirent.h>

#include "base/fd.h"

/*
 * Makes a directory stream of the descriptor fd, which belongs to the stream from then on. Returns
 * NULL if fd is < 0 or if fdopendir(3) fails. fd is closed then, and errno says what failed.
 */
static inline DIR *dir_take_fd(int fd)
{
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d)
		fd_close(&fd);
	return d;
}
