/* SPDX-License-Identifier: Apache-2.0 */
#include "monitor/console.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/nonblock.h"

/*
 * How many bytes one write to a viewer has at most. A pipe that poll(2) reports as writable has
 * room for PIPE_BUF bytes at least, so a write of this size does not wait, unless another process
 * writes to the same pipe meanwhile.
 */
#define CHUNK 4096u

/*
 * Replaces *fd by a descriptor that does not block, if the file can be opened again. A terminal
 * that poll(2) reports as writable may have room for one byte only, or none if its user has just
 * pressed Ctrl-S, and a write that blocks would stop the monitor's only loop.
 */
static void unblock(int *fd, int access)
{
	int own = *fd >= 0 ? nonblock_open(*fd, access) : -1;

	if (own < 0)
		return;
	fd_close(fd);
	*fd = own;
}

int console_init(struct console *c, int in, int out)
{
	if (in == out) {
		unblock(&out, O_RDWR);
		in = out;
	} else {
		unblock(&in, O_RDONLY);
		unblock(&out, O_WRONLY);
	}
	for (size_t i = 0; i < CONSOLE_VIEWERS; i++)
		c->viewers[i] = (struct console_viewer){-EBADF, -EBADF, 0};
	c->viewers[0].in = in;
	c->viewers[0].out = out;
	c->ring = malloc(CONSOLE_RING);
	return c->ring ? 0 : err_set(ENOMEM, "out of memory");
}

int console_limit_socket(int sock, bool by_bytes)
{
	const int size = CONSOLE_SEND_BUFFER, large = CONSOLE_SEND_BUFFER_OF_BYTES;

	if (by_bytes && setsockopt(sock, SOL_SOCKET, SO_SNDBUFFORCE, &large, sizeof(large)) == 0)
		return 0;
	return setsockopt(sock, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) < 0
		       ? err_sys("limit what the console's socket holds")
		       : 0;
}

static void leave(struct console_viewer *v)
{
	int out = v->out;

	if (v->in == out)
		v->in = -EBADF;
	fd_close(&v->in);
	fd_close(&out);
	v->out = -EBADF;
}

void console_release(struct console *c)
{
	for (size_t i = 0; c->ring && i < CONSOLE_VIEWERS; i++)
		leave(&c->viewers[i]);
	free(c->ring);
	c->ring = NULL;
}

static uint64_t oldest(const struct console *c)
{
	return c->total > CONSOLE_RING ? c->total - CONSOLE_RING : 0;
}

int console_attach(struct console *c, int sock)
{
	for (size_t i = 1; i < CONSOLE_VIEWERS; i++) {
		if (c->viewers[i].out >= 0)
			continue;
		c->viewers[i] = (struct console_viewer){sock, sock, oldest(c)};
		return 0;
	}
	return err_set(EMFILE, "console: %d commands have it open already: end one of them",
		CONSOLE_VIEWERS - 1);
}

void console_add(struct console *c, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		c->ring[(c->total + i) % CONSOLE_RING] = text[i];
	c->total += len;
}

bool console_is_full(const struct console *c)
{
	return c->viewers[0].out >= 0 && c->total - c->viewers[0].at > CONSOLE_BEHIND - CHUNK;
}

bool console_owes(const struct console *c)
{
	return c->viewers[0].out >= 0 && c->viewers[0].at < c->total;
}

void console_poll(const struct console *c, struct pollfd p[CONSOLE_FDS])
{
	for (size_t i = 0; i < CONSOLE_VIEWERS; i++) {
		const struct console_viewer *v = &c->viewers[i];
		bool wants_input = c->ring && c->input_len < CONSOLE_INPUT;
		bool has_output = c->ring && v->at < c->total;

		p[2 * i] = (struct pollfd){wants_input ? v->in : -1, POLLIN, 0};
		p[2 * i + 1] = (struct pollfd){has_output ? v->out : -1, POLLOUT, 0};
	}
}

static void read_input(struct console *c, struct console_viewer *v)
{
	ssize_t n = read(v->in, c->input + c->input_len, CONSOLE_INPUT - c->input_len);

	if (n > 0)
		c->input_len += (size_t)n;
	else if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	else if (v->in == v->out)
		leave(v);
	else
		/* Standard input of `run` has ended, but its standard output is still a viewer. */
		fd_close(&v->in);
}

static void write_output(struct console *c, struct console_viewer *v)
{
	if (v->at < oldest(c))
		v->at = oldest(c);
	size_t from = v->at % CONSOLE_RING, len = (size_t)(c->total - v->at);

	if (len > CHUNK)
		len = CHUNK;
	if (len > CONSOLE_RING - from)
		len = CONSOLE_RING - from;
	ssize_t n = write(v->out, c->ring + from, len);
	if (n > 0)
		v->at += (size_t)n;
	else if (n < 0 && errno != EAGAIN && errno != EINTR)
		leave(v);
}

void console_finish(struct console *c, int timeout_ms)
{
	struct console_viewer *v = &c->viewers[0];

	while (console_owes(c)) {
		struct pollfd p = {v->out, POLLOUT, 0};
		if (poll(&p, 1, timeout_ms) <= 0)
			return;
		write_output(c, v);
	}
}

void console_serve(struct console *c, const struct pollfd p[CONSOLE_FDS])
{
	for (size_t i = 0; c->ring && i < CONSOLE_VIEWERS; i++) {
		struct console_viewer *v = &c->viewers[i];

		/*
		 * The descriptors are compared, because a viewer that was attached in this turn of
		 * the loop may stand in an entry that poll(2) has not polled or has polled for
		 * another viewer.
		 */
		if (p[2 * i].revents && v->in == p[2 * i].fd && c->input_len < CONSOLE_INPUT)
			read_input(c, v);
		if (p[2 * i + 1].revents && v->out == p[2 * i + 1].fd)
			write_output(c, v);
	}
}

void console_type(struct console *c, int guest)
{
	ssize_t n = c->input_len && guest >= 0 ? write(guest, c->input, c->input_len) : 0;

	if (n <= 0)
		return;
	c->input_len -= (size_t)n;
	memmove(c->input, c->input + n, c->input_len);
}
