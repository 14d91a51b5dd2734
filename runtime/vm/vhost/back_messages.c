/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/vhost/back_messages.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>

/*
 * Describes a valid message of one request type: the least length of its payload, and whether
 * descriptors may come with it.
 */
struct shape {
	bool known, fds;
	uint32_t least;
};

static const struct shape shapes[] = {
	[VHOST_USER_GET_FEATURES] = {true, false, 0},
	[VHOST_USER_SET_FEATURES] = {true, false, sizeof(uint64_t)},
	[VHOST_USER_SET_OWNER] = {true, false, 0},
	[VHOST_USER_RESET_OWNER] = {true, false, 0},
	[VHOST_USER_SET_MEM_TABLE] = {true, true, 8},
	[VHOST_USER_SET_VRING_NUM] = {true, false, sizeof(struct vhost_user_vring_state)},
	[VHOST_USER_SET_VRING_ADDR] = {true, false, sizeof(struct vhost_user_vring_addr)},
	[VHOST_USER_SET_VRING_BASE] = {true, false, sizeof(struct vhost_user_vring_state)},
	[VHOST_USER_GET_VRING_BASE] = {true, false, sizeof(struct vhost_user_vring_state)},
	[VHOST_USER_SET_VRING_KICK] = {true, true, sizeof(uint64_t)},
	[VHOST_USER_SET_VRING_CALL] = {true, true, sizeof(uint64_t)},
	[VHOST_USER_SET_VRING_ERR] = {true, true, sizeof(uint64_t)},
	[VHOST_USER_GET_PROTOCOL_FEATURES] = {true, false, 0},
	[VHOST_USER_SET_PROTOCOL_FEATURES] = {true, false, sizeof(uint64_t)},
	[VHOST_USER_GET_QUEUE_NUM] = {true, false, 0},
	[VHOST_USER_SET_VRING_ENABLE] = {true, false, sizeof(struct vhost_user_vring_state)},
	[VHOST_USER_SET_BACKEND_REQ_FD] = {true, true, 0},
	[VHOST_USER_GET_CONFIG] = {true, false, VHOST_USER_CONFIG_HEAD},
	[VHOST_USER_SET_CONFIG] = {true, false, VHOST_USER_CONFIG_HEAD},
	[VHOST_USER_RESET_DEVICE] = {true, false, 0},
	[VHOST_USER_SET_DEVICE_STATE_FD] = {true, true, sizeof(struct vhost_user_transfer)},
	[VHOST_USER_CHECK_DEVICE_STATE] = {true, false, 0},
	[VHOST_USER_GET_DRIVER_FEATURES] = {true, false, 0},
	[VHOST_USER_KEEP_VRING_BASE] = {true, false, sizeof(struct vhost_user_vring_state)},
};

static int take_fds(struct vhost_message *m, struct msghdr *h)
{
	bool excess = h->msg_flags & MSG_CTRUNC;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (m->fd_count < VHOST_USER_REGIONS_MAX) {
				m->fds[m->fd_count++] = fd;
			} else {
				fd_close(&fd);
				excess = true;
			}
		}
	}
	return excess ? err_set(EPROTO, "vhost-user: a message with more than %d descriptors",
				VHOST_USER_REGIONS_MAX)
		      : 0;
}

/*
 * Waits until the socket is readable. Waits for stop_fd at the same time, because the front end may
 * stop sending in the middle of a message.
 */
static int wait_readable(int sock, int stop_fd)
{
	struct pollfd p[2] = {
		{.fd = sock, .events = POLLIN},
		{.fd = stop_fd, .events = POLLIN},
	};

	if (poll(p, 2, -1) < 0 && errno != EINTR)
		return err_sys("vhost-user: poll");
	return p[1].revents ? -ECANCELED : 0;
}

/*
 * Reads `len` bytes and the descriptors that come with them. Returns 1 if it has read all bytes, 0
 * at the end of the stream, or -errno.
 */
static int receive_bytes(int sock, int stop_fd, struct vhost_message *m, void *data, size_t len)
{
	for (size_t done = 0; done < len;) {
		union {
			struct cmsghdr align;
			char space[CMSG_SPACE(VHOST_USER_REGIONS_MAX * sizeof(int))];
		} control;
		struct iovec v = {(char *)data + done, len - done};
		struct msghdr h = {.msg_iov = &v,
			.msg_iovlen = 1,
			.msg_control = &control,
			.msg_controllen = sizeof(control)};
		ssize_t n = recvmsg(sock, &h, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
		int r = 0;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			r = wait_readable(sock, stop_fd);
			if (r < 0)
				return r;
			continue;
		}
		/*
		 * ECONNRESET counts as the end of the stream, because a monitor that is killed
		 * resets the connection.
		 */
		if (n < 0 && errno != ECONNRESET)
			return err_sys("vhost-user: receive");
		if (n <= 0)
			return done ? err_set(EPROTO, "vhost-user: the connection ends in the "
						      "middle of a message")
				    : 0;
		r = take_fds(m, &h);
		if (r < 0)
			return r;
		done += (size_t)n;
	}
	return 1;
}

static int check_size(const struct vhost_user_header *h)
{
	if (h->size <= sizeof(union vhost_user_payload))
		return 0;
	return err_set(EPROTO, "vhost-user: request %u with %u bytes, expected %zu at most",
		h->request, h->size, sizeof(union vhost_user_payload));
}

static int check_header(const struct vhost_user_header *h)
{
	if ((h->flags & VHOST_USER_VERSION_MASK) != VHOST_USER_VERSION ||
		(h->flags & VHOST_USER_REPLY))
		return err_set(EPROTO, "vhost-user: flags 0x%x, expected a request of version 1",
			h->flags);
	if (h->request >= sizeof(shapes) / sizeof(shapes[0]) || !shapes[h->request].known)
		return err_set(EPROTO, "vhost-user: request %u, which this back end does not offer",
			h->request);
	uint32_t least = shapes[h->request].least;
	if (h->size > sizeof(union vhost_user_payload) || h->size < least)
		return err_set(EPROTO, "vhost-user: request %u with %u bytes, expected %u to %zu",
			h->request, h->size, least, sizeof(union vhost_user_payload));
	return 0;
}

static int receive_message(int sock, int stop_fd, int (*check)(const struct vhost_user_header *h),
	struct vhost_message *ret)
{
	*ret = (struct vhost_message){0};
	int r = receive_bytes(sock, stop_fd, ret, &ret->h, sizeof(ret->h));
	if (r <= 0)
		return r;
	r = check(&ret->h);
	if (r < 0)
		return r;
	if (ret->h.size > 0) {
		r = receive_bytes(sock, stop_fd, ret, &ret->p, ret->h.size);
		if (r == 0)
			r = err_set(EPROTO,
				"vhost-user: the connection ends before the payload of "
				"request %u",
				ret->h.request);
		if (r < 0)
			return r;
	}
	return 1;
}

int vhost_receive_any(int sock, int stop_fd, struct vhost_message *ret)
{
	return receive_message(sock, stop_fd, check_size, ret);
}

int vhost_receive(int sock, int stop_fd, struct vhost_message *ret)
{
	int r = receive_message(sock, stop_fd, check_header, ret);

	if (r > 0 && ret->fd_count > 0 && !shapes[ret->h.request].fds)
		return err_set(EPROTO, "vhost-user: request %u with %u descriptors, expected none",
			ret->h.request, ret->fd_count);
	return r;
}

int vhost_forward(int sock, const struct vhost_message *m)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(VHOST_USER_REGIONS_MAX * sizeof(int))];
	} control = {0};
	struct iovec v[2] = {{(void *)&m->h, sizeof(m->h)}, {(void *)&m->p, m->h.size}};
	struct msghdr msg = {.msg_iov = v, .msg_iovlen = 2};

	if (m->fd_count > 0) {
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(m->fd_count * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(m->fd_count * sizeof(int));
		memcpy(CMSG_DATA(c), m->fds, m->fd_count * sizeof(int));
	}
	/*
	 * Sets MSG_DONTWAIT, because this process must not wait for the other end. Messages are few
	 * and small, so one that does not fit into the socket means that the other end has stopped
	 * reading, and sending fails.
	 */
	ssize_t n = sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return err_set(EPROTO, "vhost-user: the other end does not read its messages");
	if (n < 0)
		return err_sys("vhost-user: send request %u", m->h.request);
	return (size_t)n == sizeof(m->h) + m->h.size
		       ? 0
		       : err_set(EPROTO, "vhost-user: a message was cut short");
}

void vhost_message_release(struct vhost_message *m)
{
	for (unsigned i = 0; i < m->fd_count; i++)
		fd_close(&m->fds[i]);
	m->fd_count = 0;
}

int vhost_reply(int sock, const struct vhost_message *m, uint32_t len)
{
	struct vhost_user_header h = {m->h.request, VHOST_USER_VERSION | VHOST_USER_REPLY, len};
	struct iovec v[2] = {{&h, sizeof(h)}, {(void *)&m->p, len}};
	struct msghdr msg = {.msg_iov = v, .msg_iovlen = 2};

	/*
	 * Sets MSG_DONTWAIT, because a front end that sends requests but never reads the answers
	 * must not block this process.
	 */
	ssize_t n = sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return err_set(EPROTO, "vhost-user: the front end does not read its replies");
	if (n < 0)
		return err_sys("vhost-user: reply to request %u", m->h.request);
	return (size_t)n == sizeof(h) + len ? 0
					    : err_set(EPROTO, "vhost-user: a reply was cut short");
}
