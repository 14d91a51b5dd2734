/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handles file descriptors: closes them when their scope ends, reads and writes whole files, and
 * sends descriptors over Unix sockets.
 */
#pragma once
#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/str.h"

/* Closes *fd if it is >= 0 and sets it to -EBADF. Does not change errno. */
void fd_close(int *fd);
#define _cleanup_fd_ __attribute__((cleanup(fd_close), unused))

static inline int take_fd(int *fd)
{
	int taken = *fd;
	*fd = -EBADF;
	return taken;
}

/*
 * Reads to the end of fd and appends the bytes to *ret. If there are more than max bytes, returns
 * -EFBIG with a message that names `what`.
 */
int fd_read_all(int fd, struct strbuf *ret, size_t max, const char *what) must_check;

/*
 * Reads the file at path and appends its contents to *ret. path is relative to dirfd (AT_FDCWD for
 * the host's paths), and symbolic links in path are followed. Returns -EFBIG if the file has more
 * than max bytes.
 */
int fd_read_file(int dirfd, const char *path, struct strbuf *ret, size_t max) must_check;

/*
 * Reads a file as fd_read_file() does, but from a directory that an untrusted user may have filled.
 * Refuses anything but a regular file, because reading a FIFO could wait for ever.
 */
int fd_read_regular(int dirfd, const char *path, struct strbuf *ret, size_t max) must_check;

/*
 * Writes all len bytes at `data` to fd, with as many write(2) calls as the kernel needs. Sets no
 * error message, because only the caller knows what fd is.
 */
int fd_write_all(int fd, const void *data, size_t len) must_check;

/*
 * Writes the line "WHO: TEXT" to the descriptor fd, for a process that has no log. str_clean()
 * replaces the control characters of the text.
 */
void fd_say(int fd, const char *who, const char *text);

/*
 * Opens an existing file and writes the text in one write(2), because a control file takes a value
 * only as a whole.
 */
int fd_write_file(int dirfd, const char *path, const char *text) must_check;

/*
 * fd_open_temporary() creates a file with a random name in the directory of `path`. The caller
 * writes the file and then renames it to `path`. O_EXCL guarantees that the file is new, even if
 * others can write to the directory. FD_TMP_MAX is the size of the buffer for the file's name, in
 * bytes.
 */
#define FD_TMP_MAX 4096
int fd_open_temporary(int dirfd, const char *path, mode_t mode, char ret_name[static FD_TMP_MAX])
	must_check;
/*
 * Returns whether `name` has the form of the random names that fd_open_temporary() makes. A process
 * that was killed can leave a file with such a name behind.
 */
bool fd_is_temporary_name(const char *name);

/*
 * Writes a file so that a reader sees either all of the new contents or all of the old: writes a
 * temporary file beside the old file and renames it to the old file's name. If `path` is no regular
 * file, but a device, a FIFO or a symbolic link, it stays in place and the data is written to it.
 * No fsync(2) is called, because the files are in /run, which is empty after a crash of the machine
 * anyway.
 */
int fd_replace_file(int dirfd, const char *path, const void *data, size_t len, mode_t mode)
	must_check;

/*
 * Makes and writes a file that must not exist yet. Another process that reads the file meanwhile
 * may see only a part of it.
 */
int fd_write_new_file(int dirfd, const char *path, const void *data, size_t len, mode_t mode)
	must_check;

/*
 * Closes every descriptor of this process except the standard streams and the n descriptors in
 * keep. Negative numbers in keep are skipped, so that the caller may list descriptors that are not
 * open.
 */
int fd_close_all_but(const int *keep, size_t n) must_check;

/*
 * Makes a write beyond RLIMIT_FSIZE fail with EFBIG in this process, where SIGXFSZ would otherwise
 * end the process. A signal handler does this, because a program that this process executes gets
 * the default action back then, which it would not if the signal were ignored. A caller's choice to
 * ignore SIGXFSZ stays, also for such programs.
 */
void fd_survive_size_limit(void);

/*
 * Makes in, out and err the standard streams of this process. A negative number stands for
 * /dev/null. The numbers may themselves be those of standard streams that are to stay:
 * fd_set_streams(-EBADF, STDOUT_FILENO, STDERR_FILENO) only drops the standard input.
 */
int fd_set_streams(int in, int out, int err) must_check;

/* Returns whether fd refers to /dev/null. A closed descriptor counts as /dev/null too. */
bool fd_is_null(int fd);

/* Sends one message over a Unix socket, together with the descriptor fd if fd is not negative. */
int fd_send(int sock, const void *data, size_t len, int fd) must_check;

/*
 * Receives one message of at most len bytes from a Unix socket into data. Returns the message's
 * length, or 0 at the end of the stream. *ret_fd is the descriptor that came with the message
 * (close-on-exec), or -EBADF. ret_fd may be NULL.
 */
ssize_t fd_recv(int sock, void *data, size_t len, int *ret_fd) must_check;
