/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the virtio-fs server alone, for tests with monitors of other projects:
 *
 *	vmfs_main SOCKET DIRECTORY [ro] [locks] [devices]
 *
 * It listens on SOCKET, prints "ready", serves one connection in its jail, and ends with the
 * connection. The exit code is 0, or 1 with the error on standard error.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/fd.h"
#include "vm/fs/vmfs.h"

static int listen_once(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return err_sys("socket");
	if (strlen(path) >= sizeof(a.sun_path))
		return err_set(ENAMETOOLONG, "%s", path);
	strcpy(a.sun_path, path);
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 1) < 0)
		return err_sys("listen on %s", path);
	puts("ready");
	fflush(stdout);
	int conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	return conn < 0 ? err_sys("accept") : conn;
}

int main(int argc, char **argv)
{
	struct vmfs_config c = {.proc = -EBADF, .cache_ms = 1000, .watch_us = vmfs_watch_us()};
	int r;

	if (argc < 3) {
		fputs("usage: vmfs_main SOCKET DIRECTORY [ro] [locks] [devices]\n", stderr);
		return 2;
	}
	for (int i = 3; i < argc; i++) {
		c.read_only |= streq(argv[i], "ro");
		c.locks |= streq(argv[i], "locks");
		c.devices |= streq(argv[i], "devices");
	}
	c.root = open(argv[2], O_PATH | O_DIRECTORY | O_CLOEXEC);
	r = c.root < 0 ? err_sys("%s", argv[2]) : 0;
	if (r == 0)
		r = c.sock = listen_once(argv[1]);
	if (r >= 0)
		r = vmfs_jail(&c);
	if (r == 0)
		r = vmfs_serve(&c);
	if (r == 0)
		return 0;
	fprintf(stderr, "vmfs: %s\n", err_msg());
	return 1;
}
