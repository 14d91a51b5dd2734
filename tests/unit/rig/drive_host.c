/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/str.h"
#include "unit/rig/drive_host.h"
#include "vm/fs/vmfs.h"

static void hear(struct host *h)
{
	char text[512];
	ssize_t n = read(h->console[0], text, sizeof(text));

	for (ssize_t i = 0; i < n; i++) {
		if (text[i] == '?')
			(void)!write(h->keys[1], "!", 1);
		if (text[i] == '#' && h->asked)
			h->asked(h);
		if (h->said_len == sizeof(h->said) - 1)
			memmove(h->said, h->said + 1, --h->said_len);
		/*
		 * The guest's console output may have any bytes, because the guest breaks
		 * descriptor chains on purpose.
		 */
		h->said[h->said_len++] =
			text[i] == '\n' || (text[i] >= ' ' && text[i] < 127) ? text[i] : '~';
	}
}

static void echo(int fd)
{
	char data[4096];
	ssize_t n;

	while ((n = recv(fd, data, sizeof(data), MSG_DONTWAIT)) > 0)
		(void)!send(fd, data, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void echo_all(struct host *h, const struct pollfd *p, size_t n)
{
	pthread_mutex_lock(&h->lock);
	for (size_t i = n; i-- > 0;) {
		if (p[i].revents & POLLIN)
			echo(h->echo[i]);
		if (!(p[i].revents & (POLLHUP | POLLERR)))
			continue;
		fd_close(&h->echo[i]);
		h->echo[i] = h->echo[--h->echo_count];
	}
	pthread_mutex_unlock(&h->lock);
}

void *host_live(void *arg)
{
	static struct pollfd p[3 + ECHOES_MAX];
	struct host *h = arg;
	const int64_t end = clock_ms() + LIMIT_MS;
	bool late = false;

	for (;;) {
		pthread_mutex_lock(&h->lock);
		size_t n = h->echo_count;
		for (size_t i = 0; i < n; i++)
			p[3 + i] = (struct pollfd){h->echo[i], POLLIN, 0};
		pthread_mutex_unlock(&h->lock);
		p[0] = (struct pollfd){h->stop, POLLIN, 0};
		p[1] = (struct pollfd){h->console[0], POLLIN, 0};
		p[2] = (struct pollfd){h->net[0], POLLIN, 0};
		/*
		 * poll() waits only 5 ms, because the thread that runs the machine may meanwhile
		 * add sockets, which this call does not watch.
		 */
		(void)poll(p, 3 + n, 5);
		if (p[1].revents)
			hear(h);
		else if (p[0].revents)
			return NULL;
		if (p[2].revents)
			echo(h->net[0]);
		echo_all(h, p + 3, n);
		if (!late && clock_ms() > end) {
			late = true;
			vcpus_end(&h->m.cpus, VM_END_FAULT, "it hangs");
		}
	}
}

int host_on_connect(void *ctx, uint32_t guest_port, uint32_t port, unsigned *ret_use)
{
	struct host *h = ctx;
	int s[2] = {-EBADF, -EBADF};

	if (port != ECHO_PORT)
		return -ECONNREFUSED;
	pthread_mutex_lock(&h->lock);
	if (h->echo_count < ECHOES_MAX &&
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s) == 0)
		h->echo[h->echo_count++] = s[1];
	pthread_mutex_unlock(&h->lock);
	return s[0];
}

void host_serve_files(struct host *h, int *ret_sock)
{
	char own[] = "/tmp/drive-XXXXXX";
	int s[2];

	if (!h->dir)
		assert_non_null(mkdtemp(own));
	int root = open(h->dir ? h->dir : own, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (!h->dir)
		assert_int_equal(mkdirat(root, "here", 0755), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	fflush(NULL);
	h->server = fork();
	assert_true(h->server >= 0);
	if (h->server == 0) {
		struct vmfs_config c = {.sock = s[1],
			.root = root,
			.proc = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC),
			.max_nodes = 100,
			.max_descriptors = 100,
			.max_handles = 16};

		close(s[0]);
		alarm(2 * LIMIT_MS / 1000);
		(void)!vmfs_serve(&c);
		if (h->dir)
			_exit(0);
		unlinkat(root, "here", AT_REMOVEDIR);
		_exit(rmdir(own) < 0);
	}
	close(s[1]);
	close(root);
	*ret_sock = s[0];
}

void host_open(struct host *h, const char *guest_path)
{
	*h = (struct host){.kernel = open(guest_path, O_RDONLY | O_CLOEXEC),
		.disk = memfd_create("disk", MFD_CLOEXEC),
		.stop = eventfd(0, EFD_CLOEXEC)};
	if (h->kernel < 0)
		fail_msg("%s: %m", guest_path);
	assert_int_equal(ftruncate(h->disk, 64 * 512), 0);
	assert_int_equal(pipe2(h->console, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(pipe2(h->keys, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, h->net), 0);
	pthread_mutex_init(&h->lock, NULL);
}

void host_close(struct host *h)
{
	int *const fds[] = {&h->kernel, &h->disk, &h->stop, &h->console[0], &h->console[1],
		&h->keys[0], &h->keys[1], &h->net[0], &h->net[1]};

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fd_close(fds[i]);
	while (h->echo_count > 0)
		fd_close(&h->echo[--h->echo_count]);
	pthread_mutex_destroy(&h->lock);
}
