/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer tcp ADDRESS | vsock | unix PATH: the host's end of guest_io's streams, on port 5001.
 *
 * It prints "ready", then serves connections one at a time. The first byte of a connection says
 * what peer does with it: S: peer reads everything and answers the end with one byte; R: peer sends
 * until the connection is closed; P: peer sends every byte back.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/vm_sockets.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PORT 5001

static char buffer[1 << 16];

static int listen_at(const char *kind, const char *where)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	struct sockaddr_vm vm = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = PORT};
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	const struct sockaddr *a = (struct sockaddr *)&un;
	socklen_t len = sizeof(un);

	if (!strcmp(kind, "tcp")) {
		inet_pton(AF_INET, where, &in.sin_addr);
		a = (struct sockaddr *)&in;
		len = sizeof(in);
	} else if (!strcmp(kind, "vsock")) {
		a = (struct sockaddr *)&vm;
		len = sizeof(vm);
	} else {
		snprintf(un.sun_path, sizeof(un.sun_path), "%s", where);
	}
	int fd = socket(a->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, a, len) < 0 || listen(fd, 8) < 0)
		return -1;
	return fd;
}

static void serve(int fd)
{
	char what;
	ssize_t n;

	if (read(fd, &what, 1) != 1)
		return;
	if (what == 'S') {
		while (read(fd, buffer, sizeof(buffer)) > 0)
			;
		(void)!write(fd, "E", 1);
	}
	while (what == 'R' && write(fd, buffer, sizeof(buffer)) > 0)
		;
	while (what == 'P' && (n = read(fd, buffer, sizeof(buffer))) > 0)
		if (write(fd, buffer, (size_t)n) != n)
			return;
}

int main(int argc, char **argv)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	int fd = argc > 1 ? listen_at(argv[1], argc > 2 ? argv[2] : "") : -1;
	if (fd < 0) {
		perror("peer");
		return 1;
	}
	puts("ready");
	fflush(stdout);
	for (;;) {
		int conn = accept(fd, NULL, NULL);
		if (conn < 0)
			return 1;
		serve(conn);
		close(conn);
	}
}
