/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The socket is used by whoever holds the device's lock: a vCPU's thread that starts or stops the
 * queues, or the event loop. Each message is answered (by REPLY_ACK, where it has no reply of its
 * own and the back end can) before the next is sent, so that between two calls nothing is on its
 * way and a readable socket means that the back end has gone or misbehaves: that is what event()
 * looks at. It alone changes event_fd and calls `lost`, for it runs in the thread that polls; who
 * finds a failure elsewhere shuts the socket down, which wakes that thread.
 *
 * Rings are told in "user addresses". Ours are guest addresses with an offset: where the monitor
 * has mapped guest memory is nobody's business.
 */
#include "vhost_user.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "clock.h"
#include "str.h"

#define BIT(n) (UINT64_C(1) << (n))
#define USER_BASE UINT64_C(0x100000000000)
/* Of the features that every device has, those which a back end can do without our help. */
#define CARRIED VIRTIO_COMMON_FEATURES
#define WANTED_PROTOCOL \
	(BIT(VHOST_USER_PROTOCOL_F_MQ) | BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) | \
		BIT(VHOST_USER_PROTOCOL_F_CONFIG))

struct message {
	uint32_t unused; /* so that the payload is aligned and right behind the header */
	struct vhost_user_header h;
	union vhost_user_payload p;
};

_Static_assert(offsetof(struct message, p) ==
		       offsetof(struct message, h) + sizeof(struct vhost_user_header),
	"as on the wire");

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
	};

	return request < ARRAY_SIZE(names) && names[request] ? names[request] : "a request";
}

/* What follows is to be done, all of it, within the time limit. */
static void begin(struct vhost_user *v)
{
	v->deadline = clock_ms() + v->timeout_ms;
}

static int wait_for(const struct vhost_user *v, short events, uint32_t request)
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

static int send_all(
	const struct vhost_user *v, const struct message *m, const int *fds, unsigned count)
{
	const size_t len = sizeof(m->h) + m->h.size;
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(VHOST_USER_REGIONS_MAX * sizeof(int))];
	} control = {0};

	for (size_t done = 0; done < len;) {
		struct iovec iov = {(char *)&m->h + done, len - done};
		struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};

		if (done == 0 && count > 0) { /* they go with the first byte */
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
			: errno == EAGAIN ? wait_for(v, POLLOUT, m->h.request)
					  : err_sys("send %s", request_name(m->h.request));
		if (r < 0)
			return r;
	}
	return 0;
}

/* Descriptors have no place in any reply: they are closed. True: there were some. */
static bool drop_fds(struct msghdr *h)
{
	bool any = h->msg_flags & MSG_CTRUNC;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = CMSG_LEN(0); at + sizeof(int) <= c->cmsg_len; at += sizeof(int)) {
			int fd;

			memcpy(&fd, (char *)c + at, sizeof(fd));
			fd_close(&fd);
			any = true;
		}
	}
	return any;
}

static int receive_all(const struct vhost_user *v, void *to, size_t len, uint32_t request)
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
		int r = wait_for(v, POLLIN, request);

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
		if (drop_fds(&h))
			return err_set(
				EPROTO, "descriptors in the answer to %s", request_name(request));
		done += (size_t)n;
	}
	return 0;
}

/* Receives the answer to m->h.request, of `size` bytes exactly, into m. */
static int receive(const struct vhost_user *v, struct message *m, uint32_t size)
{
	const uint32_t request = m->h.request;
	int r = receive_all(v, &m->h, sizeof(m->h), request);

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
	return receive_all(v, &m->p, size, request);
}

/* A request with an answer of its own, which takes its place in *m. */
static int ask(const struct vhost_user *v, struct message *m, uint32_t answer)
{
	m->h.flags = VHOST_USER_VERSION;
	int r = send_all(v, m, NULL, 0);
	return r < 0 ? r : receive(v, m, answer);
}

/* A request without one, done when this returns 0 if the back end knows REPLY_ACK. */
static int tell(const struct vhost_user *v, struct message *m, const int *fds, unsigned count)
{
	const uint32_t request = m->h.request;
	bool ack = v->protocol & BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK);

	m->h.flags = VHOST_USER_VERSION | (ack ? VHOST_USER_NEED_REPLY : 0);
	int r = send_all(v, m, fds, count);
	if (r < 0 || !ack)
		return r;
	r = receive(v, m, sizeof(m->p.u64));
	if (r >= 0 && m->p.u64 != 0)
		r = err_set(EPROTO, "it refuses %s", request_name(request));
	return r;
}

static int ask_u64(const struct vhost_user *v, uint32_t request, uint64_t *ret)
{
	struct message m = {.h.request = request};
	int r = ask(v, &m, sizeof(m.p.u64));

	*ret = m.p.u64;
	return r;
}

static int tell_u64(const struct vhost_user *v, uint32_t request, uint64_t value, int fd)
{
	struct message m = {.h = {request, 0, sizeof(m.p.u64)}, .p.u64 = value};

	return tell(v, &m, &fd, fd >= 0);
}

static int tell_state(const struct vhost_user *v, uint32_t request, uint32_t index, uint32_t num)
{
	struct message m = {.h = {request, 0, sizeof(m.p.state)}, .p.state = {index, num}};

	return tell(v, &m, NULL, 0);
}

/* The back end is lost. Keeps r and the message. */
static int fail(struct vhost_user *v, int r)
{
	if (v->failed)
		return r;
	r = err_ctx(r, "%s", v->peer);
	snprintf(v->why, sizeof(v->why), "%s", err_msg());
	v->failed = true;
	/* It must not go on in guest memory, and the thread that polls must learn of it. */
	(void)shutdown(v->sock, SHUT_RDWR);
	return r;
}

static int share_memory(const struct vhost_user *v)
{
	const struct vm_memory *memory = v->dev.memory;
	struct message m = {.h = {VHOST_USER_SET_MEM_TABLE, 0, 0}};
	int fds[VHOST_USER_REGIONS_MAX];

	for (unsigned i = 0; i < memory->count; i++) {
		const struct vm_memory_region *g = &memory->regions[i];

		m.p.memory.regions[i] = (struct vhost_user_region){
			g->guest, g->size, USER_BASE + g->guest, g->offset};
		fds[i] = memory->fd;
	}
	m.p.memory.count = memory->count;
	m.h.size = (uint32_t)(8 + memory->count * sizeof(m.p.memory.regions[0]));
	return tell(v, &m, fds, memory->count);
}

static int start_queue(struct vhost_user *v, uint32_t index)
{
	const struct virtq *q = &v->dev.queues[index];
	struct message addr = {.h = {VHOST_USER_SET_VRING_ADDR, 0, sizeof(addr.p.addr)},
		.p.addr = {.index = index,
			.desc = USER_BASE + q->desc_at,
			.used = USER_BASE + q->used_at,
			.avail = USER_BASE + q->avail_at}};
	int r = tell_state(v, VHOST_USER_SET_VRING_NUM, index, q->size);

	if (r >= 0)
		r = tell_state(v, VHOST_USER_SET_VRING_BASE, index, 0);
	if (r >= 0)
		r = tell(v, &addr, NULL, 0);
	if (r >= 0)
		r = tell_u64(v, VHOST_USER_SET_VRING_CALL, index, v->dev.call);
	/* From here on it may run: stop() must stop it, whatever comes. */
	v->started[index] = r >= 0;
	if (r >= 0)
		r = tell_u64(v, VHOST_USER_SET_VRING_KICK, index, v->dev.kicks[index]);
	if (r >= 0 && (v->offered & BIT(VHOST_USER_F_PROTOCOL_FEATURES)))
		r = tell_state(v, VHOST_USER_SET_VRING_ENABLE, index, 1);
	return r < 0 ? err_ctx(r, "queue %" PRIu32, index) : 0;
}

static int start(struct virtio_device *d)
{
	struct vhost_user *v = (struct vhost_user *)d;

	if (v->failed)
		return err_set(EPIPE, "%s", v->why);
	begin(v);
	int r = tell_u64(v, VHOST_USER_SET_FEATURES,
		d->driver_features | (v->offered & BIT(VHOST_USER_F_PROTOCOL_FEATURES)), -EBADF);
	if (r >= 0)
		r = share_memory(v);
	for (uint32_t i = 0; r >= 0 && i < d->queue_count; i++)
		if (d->queues[i].ready)
			r = start_queue(v, i);
	return r < 0 ? fail(v, r) : 0;
}

/* The driver's rings are its own again when this returns. */
static void stop(struct virtio_device *d)
{
	struct vhost_user *v = (struct vhost_user *)d;
	int r = 0;

	begin(v);
	for (uint32_t i = 0; i < d->queue_count; i++) {
		struct message m = {
			.h = {VHOST_USER_GET_VRING_BASE, 0, sizeof(m.p.state)}, .p.state.index = i};

		if (!v->started[i])
			continue;
		v->started[i] = false;
		if (v->failed)
			continue;
		r = ask(v, &m, sizeof(m.p.state));
		if (r >= 0 && m.p.state.index != i)
			r = err_set(EPROTO,
				"GET_VRING_BASE of queue %" PRIu32 " answers for queue %" PRIu32, i,
				m.p.state.index);
		if (r < 0)
			(void)fail(v, r);
	}
}

static void configure(struct virtio_device *d, uint32_t offset, const void *data, unsigned len)
{
	struct vhost_user *v = (struct vhost_user *)d;
	struct message m = {.h = {VHOST_USER_SET_CONFIG, 0, VHOST_USER_CONFIG_HEAD + len},
		.p.config = {.offset = offset, .size = len}};

	if (d->config != v->config || v->failed || len > sizeof(uint64_t))
		return;
	begin(v);
	memcpy(m.p.config.data, data, len);
	int r = tell(v, &m, NULL, 0);
	if (r < 0) {
		(void)fail(v, r);
		return;
	}
	memcpy(v->config + offset, data, len);
}

static int event(struct virtio_device *d)
{
	struct vhost_user *v = (struct vhost_user *)d;
	char byte, why[sizeof(v->why)];

	pthread_mutex_lock(&d->lock);
	if (!v->failed) {
		ssize_t n = recv(v->sock, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
			pthread_mutex_unlock(&d->lock);
			return 0; /* an answer, which somebody has taken meanwhile */
		}
		(void)fail(v, n > 0 ? err_set(EPROTO, "it speaks without being asked")
				    : err_set(EPIPE, "it has hung up"));
	}
	d->event_fd = -EBADF;
	snprintf(why, sizeof(why), "%s", v->why);
	err_set(EPIPE, "%s: %s", d->name, why);
	virtio_needs_reset(d);
	pthread_mutex_unlock(&d->lock);
	if (v->lost)
		v->lost(v->lost_ctx, why);
	return 0;
}

static int serve(struct virtio_device *d, unsigned index, unsigned budget)
{
	return 0; /* not ours to serve */
}

static const struct virtio_ops ops = {
	.serve = serve, .reset = stop, .event = event, .configure = configure, .start = start};

/* GET_CONFIG: all of what the driver will read. */
static int fetch_config(struct vhost_user *v, uint32_t len)
{
	struct message m = {.h = {VHOST_USER_GET_CONFIG, 0, VHOST_USER_CONFIG_HEAD + len},
		.p.config.size = len};

	if (!(v->protocol & BIT(VHOST_USER_PROTOCOL_F_CONFIG)))
		return err_set(EPROTO, "it does not offer the protocol feature CONFIG (bit %d)",
			VHOST_USER_PROTOCOL_F_CONFIG);
	int r = ask(v, &m, VHOST_USER_CONFIG_HEAD + len);
	if (r < 0)
		return r;
	if (m.p.config.offset != 0 || m.p.config.size != len)
		return err_set(EPROTO,
			"GET_CONFIG answers with %" PRIu32 " bytes at %" PRIu32
			": expected %" PRIu32 " at 0",
			m.p.config.size, m.p.config.offset, len);
	memcpy(v->config, m.p.config.data, len);
	return 0;
}

static int negotiate(struct vhost_user *v, const struct vhost_user_options *o)
{
	struct message owner = {.h.request = VHOST_USER_SET_OWNER};
	uint64_t queues = o->queue_count;
	int r = tell(v, &owner, NULL, 0);

	if (r >= 0)
		r = ask_u64(v, VHOST_USER_GET_FEATURES, &v->offered);
	if (r >= 0 && !(v->offered & BIT(VIRTIO_F_VERSION_1)))
		r = err_set(EPROTO,
			"it offers the features 0x%" PRIx64
			": expected VIRTIO_F_VERSION_1 (bit %d) among them",
			v->offered, VIRTIO_F_VERSION_1);
	if (r >= 0 && (v->offered & BIT(VHOST_USER_F_PROTOCOL_FEATURES))) {
		uint64_t protocol = 0;

		r = ask_u64(v, VHOST_USER_GET_PROTOCOL_FEATURES, &protocol);
		protocol &= WANTED_PROTOCOL;
		if (r >= 0)
			r = tell_u64(v, VHOST_USER_SET_PROTOCOL_FEATURES, protocol, -EBADF);
		v->protocol = protocol; /* acknowledgements begin with the next message */
	}
	if (r >= 0 && (v->protocol & BIT(VHOST_USER_PROTOCOL_F_MQ)))
		r = ask_u64(v, VHOST_USER_GET_QUEUE_NUM, &queues);
	if (r >= 0 && queues < o->queue_count)
		r = err_set(EPROTO, "it has %" PRIu64 " queues: the device needs %u", queues,
			o->queue_count);
	if (r >= 0 && !o->config && o->config_len > 0)
		r = fetch_config(v, o->config_len);
	return r;
}

int vhost_user_init(
	struct vhost_user *v, const struct vm_memory *m, const struct vhost_user_options *o)
{
	if (m->fd < 0)
		return err_set(EINVAL,
			"%s: guest memory is private and can't be shared with %s; expected memory "
			"that is not mergeable (KSM)",
			o->name, o->peer);
	if (o->queue_count > VIRTIO_QUEUES_MAX || o->config_len > VHOST_USER_CONFIG_MAX ||
		m->count > VHOST_USER_REGIONS_MAX)
		return err_set(EINVAL,
			"%s: %u queues, %" PRIu32 " bytes of configuration, %u memory regions: "
			"expected %d, %d and %d at most",
			o->name, o->queue_count, o->config_len, m->count, VIRTIO_QUEUES_MAX,
			VHOST_USER_CONFIG_MAX, VHOST_USER_REGIONS_MAX);
	*v = (struct vhost_user){.sock = o->sock,
		.peer = o->peer,
		.timeout_ms = o->timeout_ms ? o->timeout_ms : VHOST_USER_TIMEOUT_MS};
	begin(v);
	int r = negotiate(v, o);
	if (r < 0)
		return err_ctx(r, "%s: %s", o->name, o->peer);
	v->dev = (struct virtio_device){.ops = &ops,
		.name = o->name,
		.id = o->id,
		.features = o->features & v->offered,
		.withheld = CARRIED & ~v->offered,
		.config = o->config ? o->config : v->config,
		.config_len = o->config_len,
		.queue_count = o->queue_count,
		.remote = true,
		.call = -EBADF};
	virtio_init(&v->dev, m);
	v->dev.event_fd = v->sock;
	return 0;
}
