/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File descriptors: closing them when their scope ends, reading and writing all of a file, sending
 * them over Unix sockets.
 */
#pragma once
#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/str.h"

/* Closes *fd if it is >= 0 and sets it to -EBADF. errno is kept. */
void fd_close(int *fd);
#define _cleanup_fd_ __attribute__((cleanup(fd_close), unused))

static inline int take_fd(int *fd)
{
	int taken = *fd;
	*fd = -EBADF;
	return taken;
}

/*
 * Reads to the end of fd and appends to *ret. If there are more than max bytes, returns -EFBIG with
 * a message that names `what`.
 */
int fd_read_all(int fd, struct strbuf *ret, size_t max, const char *what) must_check;

/*
 * Reads the file at path, which is relative to dirfd (AT_FDCWD for the host's paths) and may be or
 * go through symbolic links.
 */
int fd_read_file(int dirfd, const char *path, struct strbuf *ret, size_t max) must_check;

/*
 * Writes all len bytes, with as many write(2) calls as the kernel needs. Sets no message: the
 * caller does.
 */
int fd_write_all(int fd, const void *data, size_t len) must_check;

/*
 * Opens an existing file and writes the text in one write(2), because a control file takes a value
 * only as a whole.
 */
int fd_write_file(int dirfd, const char *path, const char *text) must_check;

/*
 * Creates a file of a random name in the directory of path, which is to be renamed to path. O_EXCL
 * makes sure that the file is new, whoever else can write to the directory.
 */
#define FD_TMP_MAX 4096
int fd_open_temporary(int dirfd, const char *path, mode_t mode, char ret_name[static FD_TMP_MAX])
	must_check;
/* Returns whether fd_open_temporary() may have made this file name. */
bool fd_is_temporary_name(const char *name);

/*
 * Writes a file so that a reader sees all of it or the old one: writes a temporary file beside it
 * and renames that. What is no regular file, such as a device, a FIFO or a symbolic link, stays in
 * place, and the data is written to it. There is no fsync, because the files are in /run, which no
 * crash outlives.
 */
int fd_replace_file(int dirfd, const char *path, const void *data, size_t len, mode_t mode)
	must_check;

/*
 * Closes every descriptor of this process but the standard streams and the n descriptors in keep.
 * Negative numbers in keep stand for descriptors that the caller does not have, and are skipped.
 */
int fd_close_all_but(const int *keep, size_t n) must_check;

/* Returns whether fd is /dev/null. A closed descriptor counts as /dev/null too. */
bool fd_is_null(int fd);

/* Sends one message, with a descriptor unless fd < 0, over a Unix socket. */
int fd_send(int sock, const void *data, size_t len, int fd) must_check;

/*
 * Receives one message of at most len bytes into data. Returns its length, or 0 at the end of the
 * stream. *ret_fd is the descriptor that came with the message (close-on-exec), or -EBADF. ret_fd
 * may be NULL.
 */
ssize_t fd_recv(int sock, void *data, size_t len, int *ret_fd) must_check;
