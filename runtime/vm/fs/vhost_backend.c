/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The monitor is trusted with the guest's memory but not with this process: lengths, counts,
 * indices and addresses are checked, descriptors that come where none belong are closed, and what
 * breaks the protocol ends the connection with an error. A queue runs between SET_VRING_KICK and
 * GET_VRING_BASE. While it does, its size and addresses are frozen; new memory makes its addresses
 * be looked up again.
 */
#include "vhost_backend.h"

#include <linux/vhost_types.h>
#include <linux/virtio_config.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum {
	GET_FEATURES = 1,
	SET_FEATURES = 2,
	SET_OWNER = 3,
	RESET_OWNER = 4,
	SET_MEM_TABLE = 5,
	SET_VRING_NUM = 8,
	SET_VRING_ADDR = 9,
	SET_VRING_BASE = 10,
	GET_VRING_BASE = 11,
	SET_VRING_KICK = 12,
	SET_VRING_CALL = 13,
	SET_VRING_ERR = 14,
	GET_PROTOCOL_FEATURES = 15,
	SET_PROTOCOL_FEATURES = 16,
	GET_QUEUE_NUM = 17,
	SET_VRING_ENABLE = 18,
};

#define BIT(n) (UINT64_C(1) << (n))
#define F_PROTOCOL_FEATURES BIT(30)
#define PROTOCOL_MQ BIT(0)
#define PROTOCOL_REPLY_ACK BIT(3)
#define OFFERED \
	(BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_INDIRECT_DESC) | \
		BIT(VIRTIO_RING_F_EVENT_IDX) | F_PROTOCOL_FEATURES)
#define OFFERED_PROTOCOL (PROTOCOL_MQ | PROTOCOL_REPLY_ACK)

#define FLAG_VERSION 1
#define FLAG_VERSION_MASK 3
#define FLAG_REPLY 4
#define FLAG_NEED_REPLY 8
#define VRING_INDEX_MASK 0xff
#define VRING_NO_FD 0x100

struct head {
	uint32_t request, flags, size;
};

struct region_msg {
	uint64_t guest, size, user, offset;
};

struct memory_msg {
	uint32_t count, padding;
	struct region_msg region[VHOST_MAX_REGIONS];
};

struct vring_state {
	uint32_t index, num;
};

struct vring_addr {
	uint32_t index, flags;
	uint64_t desc, used, avail, log;
};

struct message {
	struct head h;
	union {
		uint64_t u64;
		struct vring_state state;
		struct vring_addr addr;
		struct memory_msg memory;
	} p;
	int fd[VHOST_MAX_REGIONS];
	unsigned int nfds;
};

void vhost_init(struct vhost_device *d, int sock)
{
	*d = (struct vhost_device){.sock = sock};
	for (size_t i = 0; i < VHOST_MAX_QUEUES; i++)
		d->queue[i].kick = d->queue[i].call = -EBADF;
}

static void unmap(struct vhost_device *d)
{
	for (uint32_t i = 0; i < d->nregions; i++)
		munmap(d->region[i].map, d->region[i].map_len);
	d->nregions = 0;
}

static void stop_queue(struct vhost_device *d, struct vhost_queue *q)
{
	if (!q->started)
		return;
	if (d->quiesce)
		d->quiesce(d->ctx, q);
	q->base = q->ring.next_avail;
	q->started = false;
	fd_close(&q->kick);
}

void vhost_release(struct vhost_device *d)
{
	for (size_t i = 0; i < VHOST_MAX_QUEUES; i++) {
		stop_queue(d, &d->queue[i]);
		fd_close(&d->queue[i].kick);
		fd_close(&d->queue[i].call);
	}
	unmap(d);
}

/* Guest addresses: what the vring code calls for each segment. */
static void *guest_at(void *ctx, uint64_t guest, uint64_t len)
{
	const struct vhost_device *d = ctx;

	for (uint32_t i = 0; i < d->nregions; i++) {
		const struct vhost_region *g = &d->region[i];

		if (guest >= g->guest && guest - g->guest < g->size)
			return len && len <= g->size - (guest - g->guest)
				       ? g->host + (guest - g->guest)
				       : NULL;
	}
	return NULL;
}

static void *user_at(const struct vhost_device *d, uint64_t user, uint64_t len, uint64_t align)
{
	if (user % align)
		return NULL;
	for (uint32_t i = 0; i < d->nregions; i++) {
		const struct vhost_region *g = &d->region[i];

		if (user >= g->user && user - g->user < g->size &&
			len <= g->size - (user - g->user))
			return g->host + (user - g->user);
	}
	return NULL;
}

static int find_rings(struct vhost_device *d, struct vhost_queue *q)
{
	struct vring_queue *r = &q->ring;
	uint32_t n = r->num;

	r->at = guest_at;
	r->ctx = d;
	r->event_idx = d->features & BIT(VIRTIO_RING_F_EVENT_IDX);
	r->indirect = d->features & BIT(VIRTIO_RING_F_INDIRECT_DESC);
	r->desc = user_at(d, q->user_desc, vring_desc_size(n), VRING_DESC_ALIGN_SIZE);
	r->avail = user_at(d, q->user_avail, vring_avail_size(n), VRING_AVAIL_ALIGN_SIZE);
	r->used = user_at(d, q->user_used, vring_used_size(n), VRING_USED_ALIGN_SIZE);
	if (!r->desc || !r->avail || !r->used)
		return err_set(EPROTO,
			"vhost-user: queue %td: a ring is not in guest memory, or not aligned",
			q - d->queue);
	return 0;
}

/* NULL, with the message of -EPROTO: no such queue. */
static struct vhost_queue *queue_at(struct vhost_device *d, uint64_t index)
{
	if (index < VHOST_MAX_QUEUES)
		return &d->queue[index];
	err_set(EPROTO, "vhost-user: queue %llu, expected less than %u", (unsigned long long)index,
		VHOST_MAX_QUEUES);
	return NULL;
}

static int start_queue(struct vhost_device *d, struct vhost_queue *q)
{
	if (!q->ring.num || !q->has_addr)
		return err_set(EPROTO, "vhost-user: queue %td starts without size or addresses",
			q - d->queue);
	int r = find_rings(d, q);
	if (r < 0)
		return r;
	q->ring.next_avail = q->base;
	q->ring.next_used = q->ring.signalled = q->ring.used->idx;
	q->started = true;
	return 0;
}

static int set_features(struct vhost_device *d, const struct message *m)
{
	if (m->p.u64 & ~OFFERED)
		return err_set(EPROTO, "vhost-user: features %#llx, expected some of %#llx",
			(unsigned long long)m->p.u64, (unsigned long long)OFFERED);
	for (size_t i = 0; i < VHOST_MAX_QUEUES; i++) {
		/* Also repeated while queues run, when the monitor toggles what concerns it alone.
		 */
		if (d->queue[i].started && m->p.u64 != d->features)
			return err_set(EPROTO, "vhost-user: features changed while a queue runs");
		/* Without the protocol's own feature there is no SET_VRING_ENABLE. */
		if (!(m->p.u64 & F_PROTOCOL_FEATURES))
			d->queue[i].enabled = true;
	}
	d->features = m->p.u64;
	return 0;
}

static int map_region(struct vhost_device *d, const struct region_msg *g, int fd)
{
	struct vhost_region *r = &d->region[d->nregions];
	struct stat st;
	uint64_t end;

	if (g->size == 0 || g->guest + g->size < g->guest || g->user + g->size < g->user ||
		__builtin_add_overflow(g->offset, g->size, &end) || end > SIZE_MAX / 2)
		return err_set(EPROTO, "vhost-user: a memory region of %llu bytes wraps around",
			(unsigned long long)g->size);
	for (uint32_t i = 0; i < d->nregions; i++)
		if (g->guest < d->region[i].guest + d->region[i].size &&
			d->region[i].guest < g->guest + g->size)
			return err_set(EPROTO, "vhost-user: memory regions overlap");
	/* A page behind the end of the file would be a SIGBUS. */
	if (fstat(fd, &st) < 0)
		return err_sys("vhost-user: a memory region's file");
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size < end)
		return err_set(EPROTO,
			"vhost-user: a memory region reaches beyond its file: %llu of %llu bytes",
			(unsigned long long)end, (unsigned long long)st.st_size);
	/* From 0, since an offset would have to be a multiple of the file's page size, huge or not.
	 */
	void *p = mmap(NULL, end, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (p == MAP_FAILED)
		return err_sys(
			"vhost-user: map a memory region of %llu bytes", (unsigned long long)end);
	*r = (struct vhost_region){.guest = g->guest,
		.size = g->size,
		.user = g->user,
		.host = (uint8_t *)p + g->offset,
		.map = p,
		.map_len = end};
	d->nregions++;
	return 0;
}

static int set_memory(struct vhost_device *d, const struct message *m)
{
	const struct memory_msg *t = &m->p.memory;

	if (t->count > VHOST_MAX_REGIONS || t->count != m->nfds ||
		m->h.size < 8 + t->count * sizeof(t->region[0]))
		return err_set(EPROTO,
			"vhost-user: %u memory regions in %u bytes with %u descriptors", t->count,
			m->h.size, m->nfds);
	for (size_t i = 0; i < VHOST_MAX_QUEUES; i++)
		if (d->queue[i].started && d->quiesce)
			d->quiesce(d->ctx, &d->queue[i]);
	unmap(d);
	for (uint32_t i = 0; i < t->count; i++) {
		int r = map_region(d, &t->region[i], m->fd[i]);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < VHOST_MAX_QUEUES; i++) {
		int r = d->queue[i].started ? find_rings(d, &d->queue[i]) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

/* SET_VRING_NUM, _ADDR and _BASE: only of a queue that does not run. */
static int set_vring(struct vhost_device *d, const struct message *m)
{
	uint32_t num = m->p.state.num;

	struct vhost_queue *q = queue_at(d, m->p.state.index);
	if (!q)
		return -EPROTO;
	if (q->started)
		return err_set(
			EPROTO, "vhost-user: queue %td is changed while it runs", q - d->queue);
	switch (m->h.request) {
	case SET_VRING_NUM:
		if (num == 0 || num > VRING_MAX || (num & (num - 1)))
			return err_set(EPROTO,
				"vhost-user: queue size %u, expected a power of two up to %u", num,
				VRING_MAX);
		q->ring.num = num;
		break;
	case SET_VRING_BASE:
		if (num > UINT16_MAX)
			return err_set(EPROTO, "vhost-user: queue index %u, expected 16 bits", num);
		q->base = (uint16_t)num;
		break;
	case SET_VRING_ADDR:
		q->user_desc = m->p.addr.desc;
		q->user_avail = m->p.addr.avail;
		q->user_used = m->p.addr.used;
		q->has_addr = true;
		break;
	}
	return 0;
}

static int set_vring_enable(struct vhost_device *d, const struct message *m)
{
	struct vhost_queue *q = queue_at(d, m->p.state.index);
	if (!q)
		return -EPROTO;
	q->enabled = m->p.state.num;
	return 0;
}

static int get_vring_base(struct vhost_device *d, struct message *m)
{
	struct vhost_queue *q = queue_at(d, m->p.state.index);
	if (!q)
		return -EPROTO;
	stop_queue(d, q);
	m->p.state.num = q->base;
	return 0;
}

static int set_vring_fd(struct vhost_device *d, struct message *m)
{
	bool none = m->p.u64 & VRING_NO_FD;
	int flags;

	struct vhost_queue *q = queue_at(d, m->p.u64 & VRING_INDEX_MASK);
	if (!q)
		return -EPROTO;
	if (m->nfds != (none ? 0 : 1))
		return err_set(EPROTO, "vhost-user: request %u with %u descriptors", m->h.request,
			m->nfds);
	/* A descriptor that blocks would stop the server. */
	if (!none && ((flags = fcntl(m->fd[0], F_GETFL)) < 0 ||
			     fcntl(m->fd[0], F_SETFL, flags | O_NONBLOCK) < 0))
		return err_sys("vhost-user: a queue's descriptor");
	if (m->h.request == SET_VRING_CALL) {
		fd_close(&q->call);
		q->call = none ? -EBADF : take_fd(&m->fd[0]);
		/*
		 * The monitor may have looked for interrupts on the old descriptor before one came:
		 * one too many is harmless, one lost a hang.
		 */
		if (q->started && q->call >= 0)
			(void)!write(q->call, &(uint64_t){1}, sizeof(uint64_t));
	}
	if (m->h.request != SET_VRING_KICK)
		return 0; /* of SET_VRING_ERR nothing is kept: a broken queue ends the connection */
	if (none)
		return err_set(EPROTO, "vhost-user: a queue without kicks is not supported");
	fd_close(&q->kick);
	q->kick = take_fd(&m->fd[0]);
	return q->started ? 0 : start_queue(d, q);
}

static int set_protocol_features(struct vhost_device *d, const struct message *m)
{
	if (m->p.u64 & ~OFFERED_PROTOCOL)
		return err_set(EPROTO,
			"vhost-user: protocol features %#llx, expected some of %#llx",
			(unsigned long long)m->p.u64, (unsigned long long)OFFERED_PROTOCOL);
	d->protocol = m->p.u64;
	return 0;
}

static int reset_owner(struct vhost_device *d)
{
	for (size_t i = 0; i < VHOST_MAX_QUEUES; i++)
		stop_queue(d, &d->queue[i]);
	return 0;
}

/* The payload each request must have at least. -1: unknown. */
static int payload_size(uint32_t request)
{
	switch (request) {
	case GET_FEATURES:
	case SET_OWNER:
	case RESET_OWNER:
	case GET_PROTOCOL_FEATURES:
	case GET_QUEUE_NUM:
		return 0;
	case SET_FEATURES:
	case SET_PROTOCOL_FEATURES:
	case SET_VRING_KICK:
	case SET_VRING_CALL:
	case SET_VRING_ERR:
	case SET_MEM_TABLE:
		return 8;
	case SET_VRING_NUM:
	case SET_VRING_BASE:
	case GET_VRING_BASE:
	case SET_VRING_ENABLE:
		return sizeof(struct vring_state);
	case SET_VRING_ADDR:
		return sizeof(struct vring_addr);
	default:
		return -1;
	}
}

/* 1: m holds the reply; 0: done; -errno. */
static int dispatch(struct vhost_device *d, struct message *m)
{
	int r;

	switch (m->h.request) {
	case GET_FEATURES:
		m->p.u64 = OFFERED;
		break;
	case GET_PROTOCOL_FEATURES:
		m->p.u64 = OFFERED_PROTOCOL;
		break;
	case GET_QUEUE_NUM:
		m->p.u64 = VHOST_MAX_QUEUES;
		break;
	case GET_VRING_BASE:
		r = get_vring_base(d, m);
		return r < 0 ? r : 1;
	case SET_FEATURES:
		return set_features(d, m);
	case SET_PROTOCOL_FEATURES:
		return set_protocol_features(d, m);
	case SET_MEM_TABLE:
		return set_memory(d, m);
	case SET_VRING_NUM:
	case SET_VRING_ADDR:
	case SET_VRING_BASE:
		return set_vring(d, m);
	case SET_VRING_KICK:
	case SET_VRING_CALL:
	case SET_VRING_ERR:
		return set_vring_fd(d, m);
	case SET_VRING_ENABLE:
		return set_vring_enable(d, m);
	case RESET_OWNER:
		return reset_owner(d);
	default: /* SET_OWNER: the socket is the owner */
		return 0;
	}
	return 1;
}

static int take_fds(struct message *m, struct msghdr *h)
{
	bool excess = h->msg_flags & MSG_CTRUNC;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (m->nfds < VHOST_MAX_REGIONS) {
				m->fd[m->nfds++] = fd;
			} else {
				fd_close(&fd);
				excess = true;
			}
		}
	}
	return excess ? err_set(EPROTO, "vhost-user: a message with too many descriptors") : 0;
}

/* Reads len bytes and the descriptors that come with them. 1, or 0 at the end of the stream. */
static int receive(struct vhost_device *d, struct message *m, void *data, size_t len)
{
	for (size_t done = 0; done < len;) {
		union {
			struct cmsghdr align;
			char space[CMSG_SPACE(VHOST_MAX_REGIONS * sizeof(int))];
		} control;
		struct iovec v = {(char *)data + done, len - done};
		struct msghdr h = {.msg_iov = &v,
			.msg_iovlen = 1,
			.msg_control = &control,
			.msg_controllen = sizeof(control)};
		ssize_t n = recvmsg(d->sock, &h, MSG_CMSG_CLOEXEC);

		if (n < 0 && errno == EINTR)
			continue;
		/* A monitor that was killed resets the connection: no different from closing it. */
		if (n < 0 && errno != ECONNRESET)
			return err_sys("vhost-user: receive");
		if (n <= 0)
			return done ? err_set(EPROTO,
					      "vhost-user: the connection ends in a message")
				    : 0;
		int r = take_fds(m, &h);
		if (r < 0)
			return r;
		done += (size_t)n;
	}
	return 1;
}

static int reply(struct vhost_device *d, const struct message *m, uint32_t size)
{
	struct iovec v[2] = {{(void *)&m->h, sizeof(m->h)}, {(void *)&m->p, size}};
	struct head h = {m->h.request, FLAG_VERSION | FLAG_REPLY, size};
	struct msghdr msg = {.msg_iov = v, .msg_iovlen = 2};

	v[0].iov_base = &h;
	ssize_t n = sendmsg(d->sock, &msg, MSG_NOSIGNAL);
	if (n < 0)
		return err_sys("vhost-user: reply");
	return (size_t)n == sizeof(h) + size ? 0 : err_set(EPROTO, "vhost-user: reply: short send");
}

static int receive_message(struct vhost_device *d, struct message *m)
{
	int r = receive(d, m, &m->h, sizeof(m->h));
	if (r <= 0)
		return r;
	if ((m->h.flags & FLAG_VERSION_MASK) != FLAG_VERSION || (m->h.flags & FLAG_REPLY))
		return err_set(EPROTO, "vhost-user: flags %#x, expected a request of version 1",
			m->h.flags);
	int least = payload_size(m->h.request);
	if (least < 0)
		return err_set(
			EPROTO, "vhost-user: request %u, which was not negotiated", m->h.request);
	if (m->h.size > sizeof(m->p) || m->h.size < (uint32_t)least)
		return err_set(EPROTO, "vhost-user: request %u with %u bytes, expected %d to %zu",
			m->h.request, m->h.size, least, sizeof(m->p));
	if (m->h.size == 0)
		return 1;
	r = receive(d, m, &m->p, m->h.size);
	return r == 0 ? err_set(EPROTO, "vhost-user: the connection ends in a message") : r;
}

int vhost_message(struct vhost_device *d)
{
	struct message m = {0};
	bool may_have_fds, ack;

	int r = receive_message(d, &m);
	if (r <= 0)
		goto out;
	may_have_fds = m.h.request == SET_MEM_TABLE || m.h.request == SET_VRING_KICK ||
		       m.h.request == SET_VRING_CALL || m.h.request == SET_VRING_ERR;
	if (m.nfds && !may_have_fds) {
		r = err_set(
			EPROTO, "vhost-user: request %u with %u descriptors", m.h.request, m.nfds);
		goto out;
	}
	ack = (m.h.flags & FLAG_NEED_REPLY) && (d->protocol & PROTOCOL_REPLY_ACK);
	r = dispatch(d, &m);
	if (r == 1) {
		r = reply(
			d, &m, m.h.request == GET_VRING_BASE ? sizeof(m.p.state) : sizeof(m.p.u64));
	} else if (ack) {
		m.p.u64 = r < 0;
		/* The request's own failure is the one to tell of. */
		if (r == 0)
			r = reply(d, &m, sizeof(m.p.u64));
		else if (send(d->sock, &(struct head){m.h.request, FLAG_VERSION | FLAG_REPLY, 8},
				 12, MSG_NOSIGNAL | MSG_MORE) == 12)
			(void)!send(d->sock, &m.p.u64, 8, MSG_NOSIGNAL);
	}
	if (r == 0)
		r = 1;
out:
	for (unsigned int i = 0; i < m.nfds; i++)
		fd_close(&m.fd[i]);
	return r;
}

int vhost_take_kick(struct vhost_queue *q)
{
	uint64_t n;
	ssize_t r = read(q->kick, &n, sizeof(n));

	if (r == (ssize_t)sizeof(n) || (r < 0 && (errno == EAGAIN || errno == EINTR)))
		return 0;
	return err_set(EPROTO, "vhost-user: a kick descriptor that is no eventfd");
}

void vhost_signal(struct vhost_queue *q)
{
	uint64_t one = 1;

	/* A full counter means that the guest has not yet seen the last interrupt. */
	if (vring_must_signal(&q->ring) && q->call >= 0)
		(void)!write(q->call, &one, sizeof(one));
}
