/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/vhost/front_messages.h"

#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"

#define BIT(n) (UINT64_C(1) << (n))

static const char *request_name(uint32_t request)
{
	static const char *const names[] = {
		[VHOST_USER_GET_FEATURES] = "GET_FEATURES",
		[VHOST_USER_SET_FEATURES] = "SET_FEATURES",
		[VHOST_USER_SET_OWNER] = "SET_OWNER",
		[VHOST_USER_SET_MEM_TABLE] = "SET_MEM_TABLE",
		[VHOST_USER_SET_VRING_NUM] = "SET_VRING_NUM",
		[VHOST_USER_SET_VRING_ADDR] = "SET_VRING_ADDR",
		[VHOST_USER_SET_VRING_BASE] = "SET_VRING_BASE",
		[VHOST_USER_GET_VRING_BASE] = "GET_VRING_BASE",
		[VHOST_USER_SET_VRING_KICK] = "SET_VRING_KICK",
		[VHOST_USER_SET_VRING_CALL] = "SET_VRING_CALL",
		[VHOST_USER_GET_PROTOCOL_FEATURES] = "GET_PROTOCOL_FEATURES",
		[VHOST_USER_SET_PROTOCOL_FEATURES] = "SET_PROTOCOL_FEATURES",
		[VHOST_USER_GET_QUEUE_NUM] = "GET_QUEUE_NUM",
		[VHOST_USER_SET_VRING_ENABLE] = "SET_VRING_ENABLE",
		[VHOST_USER_GET_CONFIG] = "GET_CONFIG",
		[VHOST_USER_SET_CONFIG] = "SET_CONFIG",
		[VHOST_USER_GET_INFLIGHT_FD] = "GET_INFLIGHT_FD",
		[VHOST_USER_SET_INFLIGHT_FD] = "SET_INFLIGHT_FD",
		[VHOST_USER_SET_DEVICE_STATE_FD] = "SET_DEVICE_STATE_FD",
		[VHOST_USER_CHECK_DEVICE_STATE] = "CHECK_DEVICE_STATE",
		[VHOST_USER_GET_DRIVER_FEATURES] = "GET_DRIVER_FEATURES",
		[VHOST_USER_KEEP_VRING_BASE] = "KEEP_VRING_BASE",
	};

	return request < ARRAY_SIZE(names) && names[request] ? names[request] : "a request";
}

void vhost_front_begin(struct vhost_user *v)
{
	v->deadline = clock_ms() + v->timeout_ms;
}

static int wait_until_ready(const struct vhost_user *v, short events, uint32_t request)
{
	struct pollfd p = {v->sock, events, 0};

	for (;;) {
		int64_t left = v->deadline - clock_ms();
		int n = left > 0 ? poll(&p, 1, (int)left) : 0;
		if (n > 0)
			return 0;
		if (n == 0)
			return err_set(ETIMEDOUT, "no answer to %s within %u ms",
				request_name(request), v->timeout_ms);
		if (errno != EINTR)
			return err_sys("wait for the answer to %s", request_name(request));
	}
}

int vhost_front_send(const struct vhost_user *v, const struct vhost_front_message *m,
	const int *fds, unsigned count)
{
	const size_t len = sizeof(m->h) + m->h.size;
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(VHOST_USER_REGIONS_MAX * sizeof(int))];
	} control = {0};

	for (size_t done = 0; done < len;) {
		struct iovec iov = {(char *)&m->h + done, len - done};
		struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};

		/* Sends the descriptors only with the first byte of the message. */
		if (done == 0 && count > 0) {
			h.msg_control = &control;
			h.msg_controllen = CMSG_SPACE(count * sizeof(int));
			struct cmsghdr *c = CMSG_FIRSTHDR(&h);
			c->cmsg_level = SOL_SOCKET;
			c->cmsg_type = SCM_RIGHTS;
			c->cmsg_len = CMSG_LEN(count * sizeof(int));
			memcpy(CMSG_DATA(c), fds, count * sizeof(int));
		}
		ssize_t n = sendmsg(v->sock, &h, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n >= 0) {
			done += (size_t)n;
			continue;
		}
		int r = errno == EINTR    ? 0
			: errno == EAGAIN ? wait_until_ready(v, POLLOUT, m->h.request)
					  : err_sys("send %s", request_name(m->h.request));
		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * Takes one descriptor out of the received message into *ret, unless `ret` is NULL, and closes all
 * others, because an answer may not contain them. Returns true if there were others.
 */
static bool take_fds(struct msghdr *h, int *ret)
{
	bool any = h->msg_flags & MSG_CTRUNC;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = CMSG_LEN(0); at + sizeof(int) <= c->cmsg_len; at += sizeof(int)) {
			int fd;

			memcpy(&fd, (char *)c + at, sizeof(fd));
			if (ret && *ret < 0) {
				*ret = fd;
				continue;
			}
			fd_close(&fd);
			any = true;
		}
	}
	return any;
}

static int receive_all(
	const struct vhost_user *v, void *to, size_t len, uint32_t request, int *ret_fd)
{
	for (size_t done = 0; done < len;) {
		union {
			struct cmsghdr align;
			char space[CMSG_SPACE(16 * sizeof(int))];
		} control;
		struct iovec iov = {(char *)to + done, len - done};
		struct msghdr h = {.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = &control,
			.msg_controllen = sizeof(control)};
		int r = wait_until_ready(v, POLLIN, request);

		if (r < 0)
			return r;
		ssize_t n = recvmsg(v->sock, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0 && errno != ECONNRESET)
			return err_sys("receive the answer to %s", request_name(request));
		if (n <= 0)
			return err_set(
				EPIPE, "it hung up instead of answering %s", request_name(request));
		if (take_fds(&h, ret_fd))
			return err_set(
				EPROTO, "descriptors in the answer to %s", request_name(request));
		done += (size_t)n;
	}
	return 0;
}

int vhost_front_receive(
	const struct vhost_user *v, struct vhost_front_message *m, uint32_t size, int *ret_fd)
{
	const uint32_t request = m->h.request;
	int r = receive_all(v, &m->h, sizeof(m->h), request, ret_fd);

	if (r < 0)
		return r;
	uint32_t flags = m->h.flags & (VHOST_USER_VERSION_MASK | VHOST_USER_REPLY);
	if (m->h.request != request || flags != (VHOST_USER_VERSION | VHOST_USER_REPLY))
		return err_set(EPROTO,
			"the answer to %s is to request %" PRIu32 " with flags 0x%" PRIx32
			": expected request %" PRIu32 " with flags 0x%x",
			request_name(request), m->h.request, m->h.flags, request,
			VHOST_USER_VERSION | VHOST_USER_REPLY);
	if (m->h.size != size)
		return err_set(EPROTO, "the answer to %s has %" PRIu32 " bytes: expected %" PRIu32,
			request_name(request), m->h.size, size);
	return receive_all(v, &m->p, size, request, ret_fd);
}

int vhost_front_ask(const struct vhost_user *v, struct vhost_front_message *m, uint32_t answer)
{
	m->h.flags = VHOST_USER_VERSION;
	int r = vhost_front_send(v, m, NULL, 0);
	return r < 0 ? r : vhost_front_receive(v, m, answer, NULL);
}

int vhost_front_tell(
	const struct vhost_user *v, struct vhost_front_message *m, const int *fds, unsigned count)
{
	const uint32_t request = m->h.request;
	bool ack = v->protocol & BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK);

	m->h.flags = VHOST_USER_VERSION | (ack ? VHOST_USER_NEED_REPLY : 0);
	int r = vhost_front_send(v, m, fds, count);
	if (r < 0 || !ack)
		return r;
	r = vhost_front_receive(v, m, sizeof(m->p.u64), NULL);
	if (r >= 0 && m->p.u64 != 0)
		r = err_set(EPROTO, "it refuses %s", request_name(request));
	return r;
}

int vhost_front_ask_u64(const struct vhost_user *v, uint32_t request, uint64_t *ret)
{
	struct vhost_front_message m = {.h.request = request};
	int r = vhost_front_ask(v, &m, sizeof(m.p.u64));

	*ret = m.p.u64;
	return r;
}

int vhost_front_tell_u64(const struct vhost_user *v, uint32_t request, uint64_t value, int fd)
{
	struct vhost_front_message m = {.h = {request, 0, sizeof(m.p.u64)}, .p.u64 = value};

	return vhost_front_tell(v, &m, &fd, fd >= 0);
}

int vhost_front_tell_state(
	const struct vhost_user *v, uint32_t request, uint32_t index, uint32_t num)
{
	struct vhost_front_message m = {
		.h = {request, 0, sizeof(m.p.state)}, .p.state = {index, num}};

	return vhost_front_tell(v, &m, NULL, 0);
}
