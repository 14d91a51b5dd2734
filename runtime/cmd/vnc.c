/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements `caisson console --vnc`: listens for VNC viewers, and hands each viewer's connection
 * to the machine's monitor, which passes it on to QEMU. So QEMU, which the guest may have taken
 * over, listens on nothing, and no data pass through this process.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/fd.h"
#include "base/interrupt.h"
#include "cmd/cmd.h"
#include "launch/vm_client.h"

#define BACKLOG 8
#define LOOPBACK "127.0.0.1"

/* Listens on a Unix socket that only the caller may connect to. */
static int listen_unix(const char *path)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	_cleanup_fd_ int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (sock < 0)
		return err_sys("make a socket");
	if (strlen(path) >= sizeof(at.sun_path))
		return err_set(ENAMETOOLONG, "--vnc %s: a socket's path has at most %zu bytes",
			path, sizeof(at.sun_path) - 1);
	strcpy(at.sun_path, path);
	mode_t mask = umask(0177);
	int r = bind(sock, (const struct sockaddr *)&at, sizeof(at));
	umask(mask);
	if (r < 0 || listen(sock, BACKLOG) < 0)
		return err_sys("--vnc %s: listen", path);
	return take_fd(&sock);
}

/*
 * Listens on a port of this machine itself. Other addresses are refused, because the viewers need
 * no password.
 */
static int listen_port(const char *where)
{
	const char *colon = strrchr(where, ':'), *text = colon ? colon + 1 : where;
	struct sockaddr_in at = {.sin_family = AF_INET};
	char host[INET_ADDRSTRLEN] = LOOPBACK;
	const int on = 1;
	uint64_t port;

	if (colon)
		snprintf(host, sizeof(host), "%.*s", (int)(colon - where), where);
	if (str_to_u64(text, &port) < 0 || port > 65535 ||
		inet_pton(AF_INET, host, &at.sin_addr) != 1)
		return err_set(EINVAL,
			"--vnc %s: expected the path of a socket with a slash in it, or a port, "
			"such as 5901",
			where);
	if (ntohl(at.sin_addr.s_addr) >> 24 != 127)
		return err_set(EPERM,
			"--vnc %s: viewers need no password, so only addresses of this machine "
			"itself are allowed: use " LOOPBACK ":%s, and ssh -L from elsewhere",
			where, text);
	at.sin_port = htons((uint16_t)port);
	_cleanup_fd_ int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (sock < 0 || setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		return err_sys("make a socket");
	if (bind(sock, (const struct sockaddr *)&at, sizeof(at)) < 0 || listen(sock, BACKLOG) < 0)
		return err_sys("--vnc %s: listen", where);
	return take_fd(&sock);
}

static int print_address(int sock, const char *where)
{
	struct sockaddr_in at = {0};
	socklen_t len = sizeof(at);
	char host[INET_ADDRSTRLEN] = "";

	if (strchr(where, '/')) {
		printf("%s\n", where);
	} else {
		if (getsockname(sock, (struct sockaddr *)&at, &len) < 0 ||
			!inet_ntop(AF_INET, &at.sin_addr, host, sizeof(host)))
			return err_sys("--vnc %s: read the address", where);
		printf("%s:%u\n", host, ntohs(at.sin_port));
	}
	return fflush(stdout) == 0 ? 0 : err_sys("write to standard output");
}

static int accept_viewer(struct container *c, int sock)
{
	_cleanup_fd_ int viewer = accept4(sock, NULL, NULL, SOCK_CLOEXEC);

	if (viewer < 0)
		return errno == EINTR || errno == ECONNABORTED ? 0 : err_sys("accept a viewer");
	return vm_attach_viewer(c, viewer);
}

/* Accepts viewers until a signal comes or the machine ends. */
static int accept_viewers(struct container *c, int sock, int machine, int interrupt)
{
	for (;;) {
		struct pollfd p[] = {{.fd = sock, .events = POLLIN},
			{.fd = machine, .events = POLLIN}, {.fd = interrupt, .events = POLLIN}};
		if (poll(p, ARRAY_SIZE(p), -1) < 0 && errno != EINTR)
			return err_sys("wait for viewers");
		if (p[1].revents || p[2].revents)
			return 0;
		int r = p[0].revents ? accept_viewer(c, sock) : 0;
		if (r < 0)
			return r;
	}
}

int cmd_serve_viewers(struct container *c, const char *where)
{
	bool is_path = strchr(where, '/') != NULL;
	const char *vnc = json_get_str(c->annotations, "io.caisson.vm.vnc");

	if (!vnc || !streq(vnc, "true"))
		return err_set(ENOTSUP,
			"--vnc: machine \"%s\" has no screen: give `caisson run` the option --vnc",
			c->id);
	_cleanup_fd_ int machine = vm_watch(c);
	_cleanup_fd_ int interrupt = machine < 0 ? machine : interrupt_block();
	if (interrupt < 0)
		return interrupt;
	_cleanup_fd_ int sock = is_path ? listen_unix(where) : listen_port(where);
	if (sock < 0)
		return sock;
	int r = print_address(sock, where);
	if (r >= 0)
		r = accept_viewers(c, sock, machine, interrupt);
	if (is_path)
		unlink(where);
	return r;
}
