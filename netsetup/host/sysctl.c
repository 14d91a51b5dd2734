/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "netsetup/host/host_internal.h"

#define SYSCTL_PATH 160

/*
 * Reads a small file without its line end. Returns -ENOENT without a message if the file does not
 * exist.
 */
static int read_value(const char *path, char *ret, size_t size)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return errno == ENOENT ? -ENOENT : err_sys("open %s", path);
	n = read(fd, ret, size - 1);
	if (n < 0)
		return err_sys("read %s", path);
	ret[n] = '\0';
	ret[strcspn(ret, "\n")] = '\0';
	return 0;
}

int sysctl_set(struct host *h, const char *value, const char *fmt, ...)
{
	char path[SYSCTL_PATH], now[32];
	va_list ap;
	int r, n = snprintf(path, sizeof(path), "/proc/sys/");

	va_start(ap, fmt);
	vsnprintf(path + n, sizeof(path) - (size_t)n, fmt, ap);
	va_end(ap);
	r = read_value(path, now, sizeof(now));
	if (r == -ENOENT)
		return 0;
	if (r < 0 || streq(now, value) ||
		host_skips(h, "sysctl %s: %s, was %s", path + n, value, now))
		return r;
	_cleanup_fd_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		return err_sys("write %s to %s", value, path);
	return 0;
}

/*
 * Sets accept_ra to 2 where it is 1. With 1, a host that forwards IPv6 ignores router
 * advertisements, and would some time later lose the address and default route that it got from
 * such advertisements.
 */
static int keep_advertisements(struct host *h)
{
	DIR *d = opendir("/proc/sys/net/ipv6/conf");
	struct dirent *e;
	int r = 0;

	if (!d)
		return errno == ENOENT ? 0 : err_sys("open /proc/sys/net/ipv6/conf");
	while (r >= 0 && (e = readdir(d))) {
		char path[SYSCTL_PATH + sizeof(e->d_name)], now[32];

		if (e->d_name[0] == '.' || streq(e->d_name, "all") || streq(e->d_name, "default") ||
			streq(e->d_name, "lo"))
			continue;
		snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/accept_ra", e->d_name);
		if (read_value(path, now, sizeof(now)) >= 0 && streq(now, "1"))
			r = sysctl_set(h, "2", "net/ipv6/conf/%s/accept_ra", e->d_name);
	}
	closedir(d);
	return r;
}

int sysctl_forwarding(struct host *h)
{
	char now[32];
	int r = sysctl_set(h, "1", "net/ipv4/ip_forward");

	if (r < 0)
		return r;
	r = read_value("/proc/sys/net/ipv6/conf/all/forwarding", now, sizeof(now));
	if (r == -ENOENT || (r >= 0 && !streq(now, "0")))
		return 0;
	if (r >= 0)
		r = keep_advertisements(h);
	return r < 0 ? r : sysctl_set(h, "1", "net/ipv6/conf/all/forwarding");
}
