/* SPDX-License-Identifier: Apache-2.0 */
/* File descriptors: owned ones close themselves; whole reads and writes; descriptors over sockets.
 */
#pragma once
#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/str.h"

/* Closes *fd if it is >= 0 and sets it to -EBADF; errno is kept. */
void fd_close(int *fd);
#define _cleanup_fd_ __attribute__((cleanup(fd_close), unused))

static inline int take_fd(int *fd)
{
	int taken = *fd;
	*fd = -EBADF;
	return taken;
}

/* Reads to the end of fd; more than max bytes is -EFBIG with a message that names `what`. */
int fd_read_all(int fd, struct strbuf *ret, size_t max, const char *what) must_check;

/* Reads the file at path beneath dirfd (AT_FDCWD for host paths), symbolic links followed. */
int fd_read_file(int dirfd, const char *path, struct strbuf *ret, size_t max) must_check;

/* Writes all of it, whatever the kernel accepts at a time. The caller adds the message. */
int fd_write_all(int fd, const void *data, size_t len) must_check;

/* Opens an existing file and writes the text in one write(2), as control files ask for. */
int fd_write_file(int dirfd, const char *path, const char *text) must_check;

/* Writes a file whole or not at all: temporary file beside it, then rename. No fsync: for /run. */
int fd_replace_file(int dirfd, const char *path, const void *data, size_t len, mode_t mode)
	must_check;

/* One message and at most one descriptor over a Unix socket. fd < 0 sends none. */
int fd_send(int sock, const void *data, size_t len, int fd) must_check;

/*
 * Receives one message of at most len bytes into data. Returns its length, 0 at the end of the
 * stream; *ret_fd is the descriptor that came with it (close-on-exec) or -EBADF. ret_fd may be
 * NULL.
 */
ssize_t fd_recv(int sock, void *data, size_t len, int *ret_fd) must_check;
