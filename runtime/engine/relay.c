/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/relay.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "vm/vhost/back_messages.h"

/* Says whether QEMU waits for the vhost-user server's answer to a message with the header h. */
static bool wants_answer(const struct vhost_user_header *h)
{
	switch (h->request) {
	case VHOST_USER_GET_FEATURES:
	case VHOST_USER_GET_PROTOCOL_FEATURES:
	case VHOST_USER_GET_QUEUE_NUM:
	case VHOST_USER_GET_VRING_BASE:
		return true;
	default:
		return h->flags & VHOST_USER_NEED_REPLY;
	}
}

/*
 * Forwards a message from QEMU to the vhost-user server. Returns 1 if the relay is to go on, and 0
 * if QEMU has hung up or has sent a malformed message.
 */
static int forward_from_qemu(int qemu, int backend, int stop_fd, bool *ret_waits)
{
	struct vhost_message m;
	int r = vhost_receive_any(qemu, stop_fd, &m);

	if (r > 0) {
		*ret_waits |= wants_answer(&m.h);
		r = vhost_forward(backend, &m);
		r = r < 0 ? err_ctx(r, "the back end") : 1;
	} else {
		r = 0;
	}
	vhost_message_release(&m);
	return r;
}

static int forward_answer(int qemu, const struct vhost_message *m)
{
	int r = vhost_forward(qemu, m);

	/*
	 * EPROTO means that QEMU's socket is full. QEMU reads every answer that it has asked for,
	 * so the vhost-user server must have sent messages without being asked.
	 */
	if (r == -EPROTO)
		return err_set(EPROTO,
			"the vhost-user back end has sent a message that was not requested");
	return r >= 0;
}

static int forward_from_backend(int qemu, int backend, int stop_fd)
{
	const uint32_t expected = VHOST_USER_VERSION | VHOST_USER_REPLY;
	struct vhost_message m;
	int r = vhost_receive_any(backend, stop_fd, &m);

	if (r == 0)
		r = err_set(EPIPE, "the vhost-user back end has hung up");
	else if (r > 0 && (m.h.flags & (VHOST_USER_VERSION_MASK | VHOST_USER_REPLY)) != expected)
		r = err_set(EPROTO,
			"the vhost-user back end sends request %u with flags 0x%x: expected an "
			"answer, with flags 0x%x",
			m.h.request, m.h.flags, expected);
	else if (r > 0)
		r = forward_answer(qemu, &m);
	/*
	 * -ECANCELED means that stop_fd is readable, because the engine wants the relay's thread to
	 * stop.
	 */
	else if (r == -ECANCELED)
		r = 0;
	vhost_message_release(&m);
	return r;
}

int relay_run(int qemu, int backend, int stop_fd, unsigned timeout_ms)
{
	struct pollfd p[3] = {
		{.fd = backend, .events = POLLIN},
		{.fd = qemu, .events = POLLIN},
		{.fd = stop_fd, .events = POLLIN},
	};
	bool waits = false;
	int64_t deadline = 0;
	int r = 1;

	while (r > 0) {
		int64_t left = waits ? deadline - clock_ms() : -1;
		int n = poll(p, 3, waits ? (int)(left > 0 ? left : 0) : -1);
		if (n < 0 && errno != EINTR)
			return err_sys("wait for QEMU and the vhost-user back end");
		if (n == 0)
			return err_set(ETIMEDOUT,
				"the vhost-user back end does not answer within %u ms: check that "
				"the socket belongs to a vhost-user server",
				timeout_ms);
		if (n < 0)
			continue;
		if (p[2].revents)
			return 0;
		if (p[0].revents) {
			waits = false;
			r = forward_from_backend(qemu, backend, stop_fd);
		} else if (p[1].revents) {
			r = forward_from_qemu(qemu, backend, stop_fd, &waits);
			deadline = clock_ms() + timeout_ms;
		}
	}
	return r;
}

int relay_init(struct relay *r, int backend)
{
	*r = (struct relay)RELAY_INIT;
	r->backend = backend;
	r->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	r->stop = eventfd(0, EFD_CLOEXEC);
	return r->listener < 0 || r->stop < 0 ? err_sys("make the socket that QEMU connects to")
					      : 0;
}

int relay_meet(struct relay *r, int ready, int pidfd, unsigned timeout_ms)
{
	struct pollfd p[2] = {
		{.fd = r->listener, .events = POLLIN},
		{.fd = pidfd, .events = POLLIN},
	};
	char byte;

	while (read(ready, &byte, 1) < 0 && errno == EINTR)
		;
	int n = poll(p, 2, (int)timeout_ms);
	if (n < 0)
		return err_sys("wait for QEMU");
	if (n == 0)
		return err_set(ETIMEDOUT, "QEMU does not connect within %u ms", timeout_ms);
	/*
	 * QEMU has not connected if its process failed before it executed QEMU. The listening
	 * socket then does not become readable but only hangs up.
	 */
	if (p[1].revents || !(p[0].revents & POLLIN))
		return 0;
	r->qemu = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC);
	fd_close(&r->listener);
	return r->qemu < 0 ? err_sys("accept QEMU's connection") : 0;
}

static void *relay_thread(void *arg)
{
	struct relay *r = arg;

	r->result = jail_enter_thread(r->jail, JAIL_DEVICES);
	if (r->result >= 0)
		r->result = relay_run(r->qemu, r->backend, r->stop, RELAY_TIMEOUT_MS);
	if (r->result < 0) {
		snprintf(r->why, sizeof(r->why), "%s", err_msg());
		eventfd_write(r->lost, 1);
	}
	return NULL;
}

int relay_start(struct relay *r, const struct jail *jail, int lost)
{
	r->jail = jail;
	r->lost = lost;
	int e = pthread_create(&r->thread, NULL, relay_thread, r);
	r->runs = e == 0;
	return e ? err_set(e, "start the relay's thread: %s", strerror(e)) : 0;
}

const char *relay_stop(struct relay *r)
{
	if (r->runs) {
		eventfd_write(r->stop, 1);
		pthread_join(r->thread, NULL);
		r->runs = false;
	}
	return r->result < 0 ? r->why : NULL;
}

void relay_release(struct relay *r)
{
	fd_close(&r->listener);
	fd_close(&r->qemu);
	fd_close(&r->stop);
}
