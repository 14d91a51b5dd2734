/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replaces QEMU by a program that fails as a missing, an old or a hijacked QEMU may. Its last
 * arguments, which vm.hypervisor.parameters puts there, say how:
 *
 *	-fake says TEXT       writes TEXT to standard error, and ends with exit code 1
 *	-fake hangs           does nothing
 *	-fake closes ID       closes its end of the vhost-user socket ID, and hangs
 *	-fake sends ID WHAT   sends something wrong to the socket, and hangs
 *	-fake floods          floods standard error, and ends with exit code 1
 *	-fake reaches NAME    prints whether it reaches the network and the abstract socket NAME
 *
 * ID is the id of the -chardev: "fs", "vsock" or "console". The program is linked statically,
 * because it runs in QEMU's empty root.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* A message of vhost-user, as in QEMU's docs/interop/vhost-user.rst. */
struct message {
	uint32_t request, flags, size;
	union {
		uint64_t u64;
		struct {
			uint32_t count, padding;
			struct {
				uint64_t guest, size, user, offset;
			} region[8];
		} memory;
		unsigned char bytes[4096];
	} p;
};
#define HEADER 12
#define VERSION 1
#define SET_FEATURES 2
#define SET_OWNER 3
#define SET_MEM_TABLE 5
#define SET_VRING_KICK 12

static int find_socket(char **argv, const char *id)
{
	char start[64];

	snprintf(start, sizeof(start), "socket,id=%s,fd=", id);
	for (; *argv; argv++)
		if (strncmp(*argv, start, strlen(start)) == 0)
			return atoi(*argv + strlen(start));
	fprintf(stderr, "fake_qemu: no -chardev %sN\n", start);
	exit(3);
}

static void send_all(int sock, const void *data, size_t len, const int *fds, size_t nfds)
{
	union {
		char space[CMSG_SPACE(8 * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec v = {(void *)data, len};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};

	if (nfds) {
		m.msg_control = control.space;
		m.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
	}
	if (sendmsg(sock, &m, MSG_NOSIGNAL) < 0)
		perror("fake_qemu: sendmsg");
}

static void send_message(
	int sock, uint32_t request, struct message *m, uint32_t size, const int *fds, size_t nfds)
{
	m->request = request;
	m->flags = VERSION;
	m->size = size;
	send_all(sock, m, HEADER + size, fds, nfds);
}

static void send_what(int sock, const char *what)
{
	struct message m = {0};
	int fds[8];

	for (size_t i = 0; i < 8; i++)
		fds[i] = open("/dev/null", O_RDWR);
	if (strcmp(what, "noise") == 0) {
		unsigned char *noise = malloc(1 << 16);
		for (size_t i = 0; i < 1 << 16; i++)
			noise[i] = (unsigned char)rand();
		send_all(sock, noise, 1 << 16, NULL, 0);
	} else if (strcmp(what, "half") == 0) {
		m.request = SET_OWNER;
		send_all(sock, &m, HEADER / 2, NULL, 0);
	} else if (strcmp(what, "length") == 0) {
		m = (struct message){.request = SET_OWNER, .flags = VERSION, .size = UINT32_MAX};
		send_all(sock, &m, HEADER, NULL, 0);
	} else if (strcmp(what, "request") == 0) {
		send_message(sock, 4711, &m, 0, NULL, 0);
	} else if (strcmp(what, "memory") == 0) {
		/*
		 * Sends memory regions that the receiver must refuse, because their descriptors are
		 * no memory and their addresses wrap around.
		 */
		send_message(sock, SET_OWNER, &m, 0, NULL, 0);
		m.p.memory.count = 8;
		for (size_t i = 0; i < 8; i++) {
			m.p.memory.region[i].guest = UINT64_MAX - 4096;
			m.p.memory.region[i].size = 1ULL << 40;
		}
		send_message(sock, SET_MEM_TABLE, &m, sizeof(m.p.memory), fds, 8);
	} else if (strcmp(what, "kick") == 0) {
		/*
		 * Sends a kick descriptor that always polls readable and never has an event, at
		 * which a careless receiver would spin.
		 */
		send_message(sock, SET_OWNER, &m, 0, NULL, 0);
		m.p.u64 = 0;
		send_message(sock, SET_VRING_KICK, &m, sizeof(m.p.u64), fds, 1);
	} else if (strcmp(what, "descriptors") == 0) {
		send_message(sock, SET_OWNER, &m, 0, fds, 8);
		send_message(sock, SET_FEATURES, &m, 3, fds, 8);
	} else {
		fprintf(stderr, "fake_qemu: unknown %s\n", what);
		exit(3);
	}
}

static void flood(void)
{
	char text[4096];

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)(i % 64 ? rand() : '\n');
	/*
	 * Standard error is a non-blocking pipe, so a write may fail, which does not matter here.
	 */
	for (int i = 0; i < 10000; i++)
		(void)!write(2, text, sizeof(text));
}

static void say(const char *what, int r)
{
	fprintf(stderr, "%s: %s, ", what, r < 0 ? strerror(errno) : "done");
}

static void reach(const char *name)
{
	const struct sockaddr_in in = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	const struct sockaddr *a = (const struct sockaddr *)&in;
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));

	memcpy(un.sun_path + 1, name, strlen(name));
	say("bind", bind(socket(AF_INET, SOCK_STREAM, 0), a, sizeof(in)));
	say("connect", connect(socket(AF_INET, SOCK_STREAM, 0), a, sizeof(in)));
	say("unix", connect(socket(AF_UNIX, SOCK_STREAM, 0), (const struct sockaddr *)&un, len));
}

int main(int argc, char **argv)
{
	char **a = argv;

	while (*a && strcmp(*a, "-fake") != 0)
		a++;
	if (argc < 3 || !*a || !a[1]) {
		fprintf(stderr, "fake_qemu: no -fake\n");
		return 3;
	}
	const char *what = a[1];
	if (strcmp(what, "says") == 0) {
		fprintf(stderr, "%s\n", a[2]);
		return 1;
	}
	if (strcmp(what, "floods") == 0) {
		flood();
		return 1;
	}
	if (strcmp(what, "reaches") == 0) {
		reach(a[2]);
		return 1;
	}
	if (strcmp(what, "closes") == 0)
		close(find_socket(argv, a[2]));
	else if (strcmp(what, "sends") == 0)
		send_what(find_socket(argv, a[2]), a[3]);
	for (;;)
		pause();
}
