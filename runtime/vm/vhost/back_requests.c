/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/vhost/back_requests.h"

#include <inttypes.h>
#include <sys/stat.h>

#include "vm/vhost/back_watch.h"

#define BIT(n) (UINT64_C(1) << (n))
#define F_PROTOCOL BIT(VHOST_USER_F_PROTOCOL_FEATURES)

static uint64_t offered_features(const struct vhost_backend *b)
{
	return (uint64_t)virtio_features(b->device, 1) << 32 | virtio_features(b->device, 0) |
	       F_PROTOCOL;
}

static uint64_t offered_protocol(const struct vhost_backend *b)
{
	return BIT(VHOST_USER_PROTOCOL_F_MQ) | BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) |
	       BIT(VHOST_USER_PROTOCOL_F_RESET_DEVICE) |
	       (b->device->ops->save ? BIT(VHOST_USER_PROTOCOL_F_DEVICE_STATE) : 0) |
	       (b->device->config_len > 0 ? BIT(VHOST_USER_PROTOCOL_F_CONFIG) : 0) |
	       (b->device->changes_config ? BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ) : 0);
}

void vhost_signal(void *transport, int queue)
{
	struct vhost_backend *b = transport;
	uint64_t one = 1;

	if (queue == VIRTIO_SIGNAL_CONFIG)
		vhost_signal_config(b);
	if (queue == VIRTIO_SIGNAL_CONFIG)
		return;
	/* The driver looks at all queues of the device when the interrupt of one is raised. */
	const int call = b->queues[queue].adopted ? b->queues[0].call : b->queues[queue].call;
	if (call < 0)
		return;
	/*
	 * Ignores an error of write(2), because it fails only if the eventfd's counter is full, and
	 * then the guest still has an interrupt to handle.
	 */
	(void)!write(call, &one, sizeof(one));
}

/*
 * Makes queue i run if its members `started` and `enabled` are both set, else stops it. Callers
 * call this after they have changed one of the two members.
 */
static void update_ready(struct vhost_backend *b, unsigned i)
{
	struct vhost_queue *v = &b->queues[i];

	b->device->queues[i].ready = v->started && v->enabled;
	/*
	 * Serves the queue once without a kick, because the driver may have filled the queue and
	 * kicked it before this process polled the kick descriptor.
	 */
	v->more = b->device->queues[i].ready;
}

static void quiesce_queue(struct vhost_backend *b, unsigned i)
{
	struct virtio_device *d = b->device;

	if (d->queues[i].ready && d->ops->quiesce)
		d->ops->quiesce(d, i);
}

static void stop_queue(struct vhost_backend *b, unsigned i)
{
	struct vhost_queue *v = &b->queues[i];

	if (!v->started)
		return;
	quiesce_queue(b, i);
	/*
	 * Signals requests of a lazy queue that were served and not signalled yet, because the
	 * front end that starts the queue again does not know of them.
	 */
	virtio_signal_queue(b->device, i);
	v->base = b->device->queues[i].next_avail;
	b->device->queues[i].ready = false;
	v->started = v->more = false;
	fd_close(&v->kick);
}

static void stop_queues(struct vhost_backend *b)
{
	for (unsigned i = 0; i < b->device->queue_count; i++)
		stop_queue(b, i);
}

/*
 * Converts the monitor's addresses of queue i's rings and stores them in the device's queue as
 * guest addresses.
 */
static int place_rings(struct vhost_backend *b, unsigned i)
{
	const struct vhost_queue *v = &b->queues[i];
	struct virtq *q = &b->device->queues[i];
	const struct {
		const char *name;
		uint64_t user;
		uint64_t *guest;
	} rings[] = {
		{"descriptor", v->desc, &q->desc_at},
		{"available", v->avail, &q->avail_at},
		{"used", v->used, &q->used_at},
	};

	for (size_t n = 0; n < sizeof(rings) / sizeof(rings[0]); n++)
		if (vm_memory_from_user(&b->memory, rings[n].user, rings[n].guest) < 0)
			return err_set(EPROTO,
				"vhost-user: queue %u: %s ring at the monitor's address 0x%" PRIx64
				", which is not in the memory that it told of",
				i, rings[n].name, rings[n].user);
	q->size = v->size;
	return 0;
}

static int start_queue(struct vhost_backend *b, unsigned i)
{
	struct vhost_queue *v = &b->queues[i];
	struct virtq *q = &b->device->queues[i];

	if (v->size == 0 || !v->has_addr)
		return err_set(EPROTO, "vhost-user: queue %u starts without size or addresses", i);
	int r = place_rings(b, i);
	if (r < 0)
		return r;
	r = virtq_resume(q, &b->memory, v->base);
	if (r < 0)
		return err_ctx(-EPROTO, "vhost-user: queue %u", i);
	q->watched = vhost_watches(b);
	v->started = true;
	v->keeps_base = false;
	update_ready(b, i);
	return 0;
}

static int set_features(struct vhost_backend *b, uint64_t features)
{
	/*
	 * While a queue runs, the front end may only repeat the features that it has set already.
	 * QEMU repeats SET_FEATURES to change feature bits that only QEMU itself uses.
	 */
	for (unsigned i = 0; i < b->device->queue_count; i++)
		if (b->queues[i].started && features != b->features)
			return err_set(
				EPROTO, "vhost-user: features changed while queue %u runs", i);
	int r = virtio_accept(b->device, features & ~F_PROTOCOL);
	if (r < 0)
		return err_ctx(r, "vhost-user");
	b->features = features;
	for (unsigned i = 0; i < b->device->queue_count; i++) {
		/*
		 * Without the feature bit PROTOCOL_FEATURES there is no SET_VRING_ENABLE, so all
		 * queues count as enabled.
		 */
		b->queues[i].enabled |= !(features & F_PROTOCOL);
		update_ready(b, i);
	}
	return 0;
}

static int set_protocol_features(struct vhost_backend *b, uint64_t features)
{
	if (features & ~offered_protocol(b))
		return err_set(EPROTO,
			"vhost-user: protocol features 0x%" PRIx64 ", expected some of 0x%" PRIx64,
			features, offered_protocol(b));
	b->protocol = features;
	return 0;
}

static int map_table(struct vm_memory *m, const struct vhost_message *msg)
{
	const struct vhost_user_memory *t = &msg->p.memory;

	if (t->count > VHOST_USER_REGIONS_MAX || t->count != msg->fd_count ||
		msg->h.size < 8 + t->count * sizeof(t->regions[0]))
		return err_set(EPROTO,
			"%" PRIu32 " memory regions in %" PRIu32 " bytes with %u descriptors, "
			"expected up to %d of %zu bytes with one each",
			t->count, msg->h.size, msg->fd_count, VHOST_USER_REGIONS_MAX,
			sizeof(t->regions[0]));
	for (uint32_t i = 0; i < t->count; i++) {
		const struct vhost_user_region *g = &t->regions[i];
		int r = vm_memory_attach(m,
			&(struct vm_memory_region){.guest = g->guest,
				.size = g->size,
				.user = g->user,
				.offset = g->offset},
			msg->fds[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

static int set_memory(struct vhost_backend *b, const struct vhost_message *m)
{
	struct virtio_device *d = b->device;
	struct vm_memory next = VM_MEMORY_NONE;
	int r = map_table(&next, m);

	if (r < 0) {
		vm_memory_release(&next);
		return err_ctx(r, "vhost-user");
	}
	for (unsigned i = 0; i < d->queue_count; i++)
		quiesce_queue(b, i);
	vm_memory_release(&b->memory);
	b->memory = next;
	for (unsigned i = 0; i < d->queue_count; i++) {
		if (!b->queues[i].started && !b->queues[i].adopted)
			continue;
		r = b->queues[i].adopted ? 0 : place_rings(b, i);
		if (r == 0 && (b->queues[i].adopted ? vhost_place_adopted(b, i)
						    : virtq_move(&d->queues[i], &b->memory)) < 0)
			r = err_ctx(-EPROTO, "vhost-user: queue %u", i);
		if (r < 0) {
			/*
			 * Stops the queues, because the memory of their rings is no longer mapped.
			 */
			for (i = 0; i < d->queue_count; i++)
				d->queues[i].ready = false;
			return r;
		}
	}
	return 0;
}

/* Returns the queue's index, or -EPROTO if the device has no such queue. */
static int queue_index(const struct vhost_backend *b, uint64_t index)
{
	if (index < b->device->queue_count)
		return (int)index;
	return err_set(EPROTO, "vhost-user: queue %" PRIu64 ", expected less than %u", index,
		b->device->queue_count);
}

/*
 * Handles SET_VRING_NUM, SET_VRING_ADDR and SET_VRING_BASE, which are allowed only while the queue
 * does not run.
 */
static int set_vring(struct vhost_backend *b, const struct vhost_message *m)
{
	uint32_t num = m->p.state.num;
	int i = queue_index(b, m->p.state.index);

	if (i < 0)
		return i;
	struct vhost_queue *v = &b->queues[i];
	if (v->started)
		return err_set(EPROTO,
			"vhost-user: queue %d is changed while it runs: expected a stopped queue",
			i);
	switch (m->h.request) {
	case VHOST_USER_SET_VRING_NUM:
		if (num == 0 || num > VIRTQ_SIZE_MAX || (num & (num - 1)))
			return err_set(EPROTO,
				"vhost-user: queue size %" PRIu32
				", expected a power of two up to %d",
				num, VIRTQ_SIZE_MAX);
		v->size = (uint16_t)num;
		break;
	case VHOST_USER_SET_VRING_BASE:
		if (num > UINT16_MAX)
			return err_set(EPROTO,
				"vhost-user: queue index %" PRIu32 ", expected 16 bits", num);
		v->base = v->keeps_base ? v->base : (uint16_t)num;
		break;
	default:
		v->desc = m->p.addr.desc;
		v->avail = m->p.addr.avail;
		v->used = m->p.addr.used;
		v->has_addr = true;
	}
	return 0;
}

static int set_vring_enable(struct vhost_backend *b, const struct vhost_message *m)
{
	int i = queue_index(b, m->p.state.index);

	if (i < 0)
		return i;
	if (m->p.state.num > 1)
		return err_set(EPROTO,
			"vhost-user: SET_VRING_ENABLE of queue %d has %" PRIu32 ", expected 0 or 1",
			i, m->p.state.num);
	struct vhost_queue *v = &b->queues[i];
	if (!m->p.state.num)
		quiesce_queue(b, (unsigned)i);
	v->enabled = m->p.state.num;
	update_ready(b, (unsigned)i);
	return 0;
}

static int get_vring_base(struct vhost_backend *b, struct vhost_message *m)
{
	int i = queue_index(b, m->p.state.index);

	if (i < 0)
		return i;
	stop_queue(b, (unsigned)i);
	m->p.state.num = b->queues[i].base;
	return 0;
}

/*
 * Returns an error unless fd is an eventfd, because a pipe, a socket or a file could block this
 * process or raise SIGPIPE.
 */
static int check_eventfd(int fd, const char *what, int i)
{
	struct stat st;
	int flags;

	if (fstat(fd, &st) < 0)
		return err_sys("vhost-user: queue %d: read the type of the %s descriptor", i, what);
	if (st.st_mode & S_IFMT)
		return err_set(
			EPROTO, "vhost-user: queue %d: the %s descriptor is no eventfd", i, what);
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return err_sys("vhost-user: queue %d: set the flags of the %s descriptor", i, what);
	return 0;
}

static int set_vring_fd(struct vhost_backend *b, struct vhost_message *m)
{
	bool none = m->p.u64 & VHOST_USER_VRING_NO_FD;
	bool is_kick = m->h.request == VHOST_USER_SET_VRING_KICK;
	int i = queue_index(b, m->p.u64 & VHOST_USER_VRING_INDEX_MASK);

	if (i < 0)
		return i;
	if (m->fd_count != (none ? 0 : 1))
		return err_set(EPROTO, "vhost-user: request %u with %u descriptors, expected %d",
			m->h.request, m->fd_count, none ? 0 : 1);
	if (m->h.request == VHOST_USER_SET_VRING_ERR)
		/*
		 * The descriptor of SET_VRING_ERR is not stored. A back end reports errors of a
		 * queue on it, but in this back end such an error ends the connection.
		 */
		return 0;
	if (is_kick && none)
		return err_set(EPROTO,
			"vhost-user: queue %d: polling without kicks is not "
			"supported, expected a descriptor",
			i);
	int r = none ? 0 : check_eventfd(m->fds[0], is_kick ? "kick" : "call", i);
	if (r < 0)
		return r;
	struct vhost_queue *v = &b->queues[i];
	int *slot = is_kick ? &v->kick : &v->call;
	fd_close(slot);
	*slot = none ? -EBADF : take_fd(&m->fds[0]);
	if (is_kick)
		return v->started ? 0 : start_queue(b, (unsigned)i);
	/*
	 * Raises one interrupt on the new descriptor, because an interrupt may have been lost on
	 * the old descriptor after the monitor stopped reading it. A needless interrupt does no
	 * harm, but a lost one makes the guest hang.
	 */
	if (v->started)
		vhost_signal(b, i);
	return 0;
}

void vhost_reset(struct vhost_backend *b)
{
	stop_queues(b);
	virtio_set_status(b->device, 0);
	b->features = 0;
	for (unsigned i = 0; i < b->device->queue_count; i++) {
		struct vhost_queue *v = &b->queues[i];

		*v = (struct vhost_queue){.kick = v->kick, .call = v->call};
	}
}

int vhost_answer_request(struct vhost_backend *b, struct vhost_message *m)
{
	switch (m->h.request) {
	case VHOST_USER_GET_FEATURES:
		m->p.u64 = offered_features(b);
		break;
	case VHOST_USER_GET_PROTOCOL_FEATURES:
		m->p.u64 = offered_protocol(b);
		break;
	case VHOST_USER_GET_QUEUE_NUM:
		m->p.u64 = b->device->queue_count;
		break;
	case VHOST_USER_GET_VRING_BASE:
		m->h.size = sizeof(m->p.state);
		return get_vring_base(b, m);
	case VHOST_USER_GET_CONFIG:
		return vhost_get_config(b, m);
	case VHOST_USER_SET_DEVICE_STATE_FD:
		m->h.size = sizeof(m->p.u64);
		return vhost_state_begin(b, m);
	case VHOST_USER_CHECK_DEVICE_STATE:
		m->p.u64 = b->state_failed;
		break;
	case VHOST_USER_GET_DRIVER_FEATURES:
		m->p.u64 = b->device->driver_features;
		break;
	default:
		return 1;
	}
	m->h.size = sizeof(m->p.u64);
	return 0;
}

int vhost_apply_request(struct vhost_backend *b, struct vhost_message *m)
{
	switch (m->h.request) {
	case VHOST_USER_SET_FEATURES:
		return set_features(b, m->p.u64);
	case VHOST_USER_SET_PROTOCOL_FEATURES:
		return set_protocol_features(b, m->p.u64);
	case VHOST_USER_SET_MEM_TABLE:
		return set_memory(b, m);
	case VHOST_USER_SET_VRING_NUM:
	case VHOST_USER_SET_VRING_ADDR:
	case VHOST_USER_SET_VRING_BASE:
		return set_vring(b, m);
	case VHOST_USER_KEEP_VRING_BASE:
		return vhost_keep_base(b, m->p.state.index, m->p.state.num);
	case VHOST_USER_SET_VRING_KICK:
	case VHOST_USER_SET_VRING_CALL:
	case VHOST_USER_SET_VRING_ERR:
		return set_vring_fd(b, m);
	case VHOST_USER_SET_VRING_ENABLE:
		return set_vring_enable(b, m);
	case VHOST_USER_SET_CONFIG:
		return vhost_set_config(b, m);
	case VHOST_USER_SET_BACKEND_REQ_FD:
		return vhost_set_request_socket(b, m);
	case VHOST_USER_RESET_DEVICE:
		if (!vhost_keeps_place(b))
			vhost_reset(b);
		return 0;
	/* This request is deprecated, but all interpretations of it agree that the queues stop. */
	case VHOST_USER_RESET_OWNER:
		stop_queues(b);
		return 0;
	default: /* SET_OWNER has no effect, because the socket has only one front end */
		return 0;
	}
}
