/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define TMP_START ".caisson-"
#define TMP_DIGITS 16
#define TMP_FORMAT TMP_START "%016" PRIx64
#define TMP_TRIES 100

void fd_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -EBADF;
	errno = saved;
}

int fd_read_all(int fd, struct strbuf *ret, size_t max, const char *what)
{
	char chunk[8192];

	for (;;) {
		ssize_t n = read(fd, chunk, sizeof(chunk));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys("read %s", what);
		if (n == 0)
			return 0;
		if (ret->len + (size_t)n > max)
			return err_set(EFBIG, "%s is larger than the %zu bytes allowed", what, max);
		int r = strbuf_add(ret, chunk, (size_t)n);
		if (r < 0)
			return r;
	}
}

int fd_read_file(int dirfd, const char *path, struct strbuf *ret, size_t max)
{
	_cleanup_fd_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return err_sys("open %s", path);
	return fd_read_all(fd, ret, max, path);
}

int fd_read_regular(int dirfd, const char *path, struct strbuf *ret, size_t max)
{
	struct stat st;
	_cleanup_fd_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys("open %s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(EINVAL, "%s is not a regular file", path);
	return fd_read_all(fd, ret, max, path);
}

int fd_write_all(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = write(fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		/*
		 * A write(2) that writes nothing is an error, because this loop would otherwise
		 * never end. The kernel itself never returns 0 here, but if this code runs in a
		 * container's first process, the container's system call filter can make write(2)
		 * return 0.
		 */
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

void fd_say(int fd, const char *who, const char *text)
{
	char clean[ERR_MAX], line[ERR_MAX + 64];

	str_clean(clean, sizeof(clean), text, strlen(text));
	const int n = snprintf(line, sizeof(line), "%s: %s\n", who, clean);
	/*
	 * dprintf() of glibc would call ioctl(2) if the descriptor is a character device such as
	 * /dev/null, and the kernel kills a process whose jail forbids that call.
	 */
	if (n > 0)
		(void)!write(fd, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

int fd_write_file(int dirfd, const char *path, const char *text)
{
	_cleanup_fd_ int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return err_sys("open %s", path);
	if (write(fd, text, strlen(text)) < 0)
		return err_sys("write \"%s\" to %s", text, path);
	return 0;
}

int fd_open_temporary(int dirfd, const char *path, mode_t mode, char ret_name[static FD_TMP_MAX])
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	uint64_t random;

	for (int tries = 0; tries < TMP_TRIES; tries++) {
		if (getrandom(&random, sizeof(random), 0) != sizeof(random))
			return err_sys("get random bytes");
		int n = snprintf(
			ret_name, FD_TMP_MAX, "%.*s" TMP_FORMAT, (int)(name - path), path, random);
		if (n >= FD_TMP_MAX)
			return err_set(ENAMETOOLONG, "%s: name too long", path);
		int fd = openat(dirfd, ret_name,
			O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
		if (fd >= 0 || errno != EEXIST)
			return fd >= 0 ? fd : err_sys("write %s: make a file beside it", path);
	}
	return err_set(EEXIST, "create a file beside %s: every random name exists", path);
}

bool fd_is_temporary_name(const char *name)
{
	size_t start = strlen(TMP_START);

	return str_starts(name, TMP_START) && strlen(name) == start + TMP_DIGITS &&
	       strspn(name + start, "0123456789abcdef") == TMP_DIGITS;
}

/*
 * Writes to an existing file that must not be replaced by a new one, such as a device. O_NONBLOCK
 * is set, because opening a FIFO would otherwise wait until another process reads it.
 */
static int write_in_place(int dirfd, const char *path, const void *data, size_t len, mode_t mode)
{
	_cleanup_fd_ int fd = openat(dirfd, path,
		O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, mode);

	if (fd < 0)
		return err_set(errno, "write %s: %s", path,
			errno == ENXIO ? "it is a FIFO that nobody reads, or a socket"
				       : strerror(errno));
	int r = fd_write_all(fd, data, len);
	return r < 0 ? err_set(-r, "write %s: %s", path, err_text(-r)) : 0;
}

int fd_replace_file(int dirfd, const char *path, const void *data, size_t len, mode_t mode)
{
	char tmp[FD_TMP_MAX];
	struct stat st;

	if (fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(st.st_mode))
		return write_in_place(dirfd, path, data, len, mode);
	_cleanup_fd_ int fd = fd_open_temporary(dirfd, path, mode, tmp);
	if (fd < 0)
		return fd;
	int r = fd_write_all(fd, data, len);
	if (r < 0)
		r = err_set(-r, "write %s: %s", path, err_text(-r));
	else if (renameat(dirfd, tmp, dirfd, path) < 0)
		r = err_sys("rename %s to %s", tmp, path);
	if (r < 0)
		unlinkat(dirfd, tmp, 0);
	return r;
}

int fd_write_new_file(int dirfd, const char *path, const void *data, size_t len, mode_t mode)
{
	_cleanup_fd_ int fd =
		openat(dirfd, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);

	if (fd < 0)
		return err_sys("create %s", path);
	int r = fd_write_all(fd, data, len);
	return r < 0 ? err_set(-r, "write %s: %s", path, err_text(-r)) : 0;
}

int fd_close_all_but(const int *keep, size_t n)
{
	unsigned from = 3;

	for (;;) {
		unsigned next = ~0U;

		for (size_t i = 0; i < n; i++)
			if (keep[i] >= 0 && (unsigned)keep[i] >= from && (unsigned)keep[i] < next)
				next = (unsigned)keep[i];
		if (next > from && close_range(from, next == ~0U ? next : next - 1, 0) < 0)
			return err_sys("close inherited descriptors");
		if (next == ~0U)
			return 0;
		from = next + 1;
	}
}

static void on_size_limit(int sig)
{
	(void)sig; /* write(2) returns EFBIG */
}

void fd_survive_size_limit(void)
{
	const struct sigaction survive = {.sa_handler = on_size_limit, .sa_flags = SA_RESTART};
	struct sigaction old;

	/* sigaction() cannot fail for this signal. */
	if (sigaction(SIGXFSZ, NULL, &old) == 0 && old.sa_handler == SIG_DFL)
		(void)sigaction(SIGXFSZ, &survive, NULL);
}

/*
 * Opens /dev/null with a number behind those of the standard streams. If a standard stream is
 * closed, open(2) returns its number, and the stream that gets this number would replace /dev/null.
 */
static int open_null_aside(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (fd >= 0 && fd <= STDERR_FILENO) {
		const int low = fd;

		fd = fcntl(low, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
		close(low);
	}
	return fd < 0 ? err_sys("open /dev/null") : fd;
}

int fd_set_streams(int in, int out, int err)
{
	int streams[] = {in, out, err};
	_cleanup_fd_ int null = -EBADF;

	for (int i = 0; i <= STDERR_FILENO; i++) {
		if (streams[i] >= 0)
			continue;
		if (null < 0)
			null = open_null_aside();
		if (null < 0)
			return null;
		streams[i] = null;
	}
	for (int i = 0; i <= STDERR_FILENO; i++) {
		/* dup2() to the same number would leave the close-on-exec flag set. */
		const int r = streams[i] == i ? fcntl(i, F_SETFD, 0) : dup2(streams[i], i);
		if (r < 0)
			return err_sys("replace the standard stream %d", i);
	}
	return 0;
}

bool fd_is_null(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return errno == EBADF;
	/* /dev/null has the device number 1:3, by the kernel's admin-guide/devices.txt. */
	return S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3);
}

int fd_send(int sock, const void *data, size_t len, int fd)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = (void *)data, .iov_len = len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (fd >= 0) {
		msg.msg_control = control.buf;
		msg.msg_controllen = sizeof(control.buf);
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(int));
	}
	for (;;) {
		ssize_t n = sendmsg(sock, &msg, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys("send %zu bytes", len);
		return 0;
	}
}

ssize_t fd_recv(int sock, void *data, size_t len, int *ret_fd)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = data, .iov_len = len};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	int got = -EBADF;
	ssize_t n;

	do
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_sys("receive a message");
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		/*
		 * The padding at the end of a control message has room for a second descriptor,
		 * which a sender may have added. The loop returns the last descriptor to the caller
		 * and closes all others.
		 */
		for (size_t at = CMSG_LEN(0); at + sizeof(int) <= c->cmsg_len; at += sizeof(int)) {
			fd_close(&got);
			memcpy(&got, (char *)c + at, sizeof(int));
		}
	}
	if (ret_fd)
		*ret_fd = got;
	else
		fd_close(&got);
	if (msg.msg_flags & MSG_TRUNC)
		return err_set(EMSGSIZE, "received message is longer than %zu bytes", len);
	return n;
}
