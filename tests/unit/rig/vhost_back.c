/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/rig/vhost_back.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"

void back_send(const struct back *b, const void *data, size_t len, bool with_fd)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec v = {(void *)data, len};
	struct msghdr h = {.msg_iov = &v, .msg_iovlen = 1};

	if (with_fd) {
		h.msg_control = &control;
		h.msg_controllen = sizeof(control);
		struct cmsghdr *c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &b->sock, sizeof(int));
	}
	(void)!sendmsg(b->sock, &h, MSG_NOSIGNAL);
}

bool back_receive(struct back *b, struct back_message *m)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(VHOST_USER_REGIONS_MAX * sizeof(int))];
	} control;
	struct iovec v = {&m->h, sizeof(m->h)};
	struct msghdr h = {.msg_iov = &v,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	unsigned fds = 0;

	if (recvmsg(b->sock, &h, MSG_WAITALL | MSG_CMSG_CLOEXEC) != sizeof(m->h))
		return false;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&h); c; c = CMSG_NXTHDR(&h, c))
		for (size_t at = CMSG_LEN(0); at < c->cmsg_len; at += sizeof(int), fds++) {
			int fd;

			memcpy(&fd, (char *)c + at, sizeof(fd));
			close(fd);
		}
	if (m->h.size > sizeof(m->p) || m->h.request >= 64 || m->h.flags & ~9U)
		abort(); /* the front end under test has broken the protocol */
	if (m->h.size > 0 && recv(b->sock, &m->p, m->h.size, MSG_WAITALL) != (ssize_t)m->h.size)
		return false;
	b->seen[m->h.request]++;
	b->fds[m->h.request] += fds;
	return true;
}

bool back_answer(struct back *b, struct back_message *m)
{
	bool ack = m->h.flags & 8;

	if (ack && !(b->protocol & BACK_ACK))
		abort();
	switch (m->h.request) {
	case VHOST_USER_GET_FEATURES:
		m->p.u64 = b->features;
		break;
	case VHOST_USER_GET_PROTOCOL_FEATURES:
		m->p.u64 = b->protocol |
			   /* this protocol feature is one that the front end does not know */
			   1ULL << 5;
		break;
	case VHOST_USER_GET_QUEUE_NUM:
		m->p.u64 = b->queues;
		break;
	case VHOST_USER_GET_VRING_BASE:
	case VHOST_USER_GET_INFLIGHT_FD:
		/*
		 * The answer must repeat the queue index or the memory size of the request, which
		 * are still in *m.
		 */
		return true;
	case VHOST_USER_SET_VRING_BASE:
		b->base[m->p.state.index & 1] = m->p.state.num;
		m->p.u64 = 0;
		break;
	case VHOST_USER_GET_CONFIG:
		if (m->p.config.size > sizeof(b->config))
			abort();
		memcpy(m->p.config.data, b->config, m->p.config.size);
		return true;
	case VHOST_USER_SET_CONFIG:
		memcpy(b->config + m->p.config.offset, m->p.config.data, m->p.config.size);
		m->p.u64 = 0;
		break;
	case VHOST_USER_SET_FEATURES:
		b->set_features = m->p.u64;
		/* fall through */
	default:
		m->p.u64 = 0;
		break;
	}
	m->h.size = 8;
	return ack || m->h.request == VHOST_USER_GET_FEATURES ||
	       m->h.request == VHOST_USER_GET_PROTOCOL_FEATURES ||
	       m->h.request == VHOST_USER_GET_QUEUE_NUM;
}

/*
 * Misbehaves in the way that b->how says, when it answers the message. Returns false if the back
 * end's thread must hang up.
 */
static bool back_misbehave(struct back *b, struct back_message *m)
{
	uint8_t junk[4096] = {0};
	size_t len = sizeof(m->h) + m->h.size;

	switch (b->how) {
	case WRONG_REQUEST:
		m->h.request++;
		break;
	case WRONG_FLAGS:
		m->h.flags = 1;
		break;
	case WRONG_VERSION:
		m->h.flags = 6;
		break;
	case SHORT_PAYLOAD:
		m->h.size -= 4;
		len -= 4;
		break;
	case LARGE_PAYLOAD:
		m->h.size += 4;
		len += 4;
		break;
	case HUGE_PAYLOAD:
		m->h.size = UINT32_MAX;
		memcpy(junk, &m->h, len);
		back_send(b, junk, sizeof(junk), false);
		return true;
	case SILENT:
		return true;
	case HANGS_UP:
		return false;
	case HALF_AN_ANSWER:
		back_send(b, &m->h, len - 3, false);
		return false;
	case WITH_FDS:
		back_send(b, &m->h, len, true);
		return true;
	case REFUSES:
		m->p.u64 = 1;
		break;
	case WRONG_CONTENT:
		m->p.state.index ^= 1;
		break;
	case TRICKLES:
		for (size_t i = 0; i < len; i++) {
			back_send(b, (char *)&m->h + i, 1, false);
			usleep(30000);
		}
		return true;
	case TALKS_ON:
		back_send(b, &m->h, len, false);
		break;
	case GOOD:
		break;
	}
	back_send(b, &m->h, len, false);
	return true;
}

static void *back_main(void *arg)
{
	struct back *b = arg;
	struct back_message m;
	bool on = true;

	while (on && back_receive(b, &m)) {
		const uint32_t request = m.h.request;
		if (!back_answer(b, &m))
			continue;
		m.h.flags = 5;
		if (b->how != GOOD && request == b->at)
			on = back_misbehave(b, &m);
		else
			back_send(b, &m.h, sizeof(m.h) + m.h.size,
				request == VHOST_USER_GET_INFLIGHT_FD);
	}
	fd_close(&b->sock);
	return NULL;
}

int back_start(struct back *b)
{
	int s[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s) < 0)
		abort();
	b->sock = s[1];
	if (pthread_create(&b->thread, NULL, back_main, b) != 0)
		abort();
	return s[0];
}

void back_end(struct back *b, int *sock)
{
	fd_close(sock);
	pthread_join(b->thread, NULL);
}
