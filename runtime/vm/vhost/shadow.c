/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/vhost/shadow.h"

#include <endian.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "base/fd.h"

#define PAGE 4096U
/* how many bytes of the shadow the ring of one queue takes */
#define RING_LEN (UINT64_C(2) * PAGE)
#define AVAIL_OFFSET (sizeof(struct vring_desc) * SHADOW_DESCRIPTORS)
#define USED_OFFSET UINT64_C(4096)

_Static_assert(
	AVAIL_OFFSET + 6 + 2 * SHADOW_DESCRIPTORS <= USED_OFFSET, "the rings do not overlap");
_Static_assert(USED_OFFSET + 6 + 8 * SHADOW_DESCRIPTORS <= RING_LEN, "the rings do not overlap");

static bool is_used(const struct vhost_shadow *s, uint32_t page)
{
	return s->used_pages[page / 64] >> page % 64 & 1;
}

static void mark(struct vhost_shadow *s, const struct shadow_request *r, bool used)
{
	for (uint32_t p = r->page; p < r->page + r->pages; p++) {
		const uint64_t bit = UINT64_C(1) << p % 64;

		s->used_pages[p / 64] =
			used ? s->used_pages[p / 64] | bit : s->used_pages[p / 64] & ~bit;
	}
}

/*
 * Finds the first free range of pages for the request, because a low range was most likely used
 * before, so that it has memory already. Returns whether there is one.
 */
static bool find_pages(struct vhost_shadow *s, struct shadow_request *r)
{
	uint32_t free = 0;

	for (uint32_t page = 0; page < SHADOW_PAGES; page++) {
		free = is_used(s, page) ? 0 : free + 1;
		if (free < r->pages)
			continue;
		r->page = page + 1 - r->pages;
		mark(s, r, true);
		return true;
	}
	return false;
}

static int make_queue(struct vhost_shadow *s, unsigned index)
{
	struct shadow_queue *q = &s->queues[index];
	struct epoll_event watch = {.events = EPOLLIN};

	q->desc_at = index * RING_LEN;
	q->avail_at = q->desc_at + AVAIL_OFFSET;
	q->used_at = q->desc_at + USED_OFFSET;
	q->desc = vm_memory_at(&s->memory, q->desc_at, RING_LEN);
	q->avail = vm_memory_at(&s->memory, q->avail_at, 1);
	q->used = vm_memory_at(&s->memory, q->used_at, 1);
	q->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!q->desc || !q->avail || !q->used)
		return err_set(EINVAL, "%u queues do not fit into the shadow", s->queue_count);
	if (q->kick < 0 || q->call < 0 || epoll_ctl(s->event, EPOLL_CTL_ADD, q->call, &watch) < 0)
		return err_sys("make the eventfds of a shadow");
	return 0;
}

static int init(struct vhost_shadow *s, int sock)
{
	struct epoll_event watch = {.events = EPOLLIN};
	int r = vm_memory_init(&s->memory, &(struct vm_memory_options){.size = SHADOW_SIZE});

	if (r < 0)
		return r;
	s->event = epoll_create1(EPOLL_CLOEXEC);
	if (s->event < 0 || epoll_ctl(s->event, EPOLL_CTL_ADD, sock, &watch) < 0)
		return err_sys("watch the back end of a shadow");
	for (unsigned i = 0; i < s->queue_count; i++) {
		r = make_queue(s, i);
		if (r < 0)
			return r;
	}
	const struct shadow_request rings = {.pages = (uint32_t)(s->queue_count * RING_LEN / PAGE)};
	mark(s, &rings, true);
	return 0;
}

struct vhost_shadow *vhost_shadow_new(unsigned queue_count, int sock, bool whole)
{
	struct vhost_shadow *s = calloc(1, sizeof(*s));

	if (!s) {
		err_set(ENOMEM, "out of memory");
		return NULL;
	}
	s->memory = VM_MEMORY_NONE;
	s->event = -EBADF;
	s->queue_count = queue_count;
	s->whole = whole;
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		s->queues[i].kick = s->queues[i].call = -EBADF;
	if (init(s, sock) >= 0)
		return s;
	vhost_shadow_free(s);
	return NULL;
}

void vhost_shadow_free(struct vhost_shadow *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
		fd_close(&s->queues[i].kick);
		fd_close(&s->queues[i].call);
	}
	fd_close(&s->event);
	vm_memory_release(&s->memory);
	free(s);
}

static void end_request(struct vhost_shadow *s, struct shadow_queue *q, struct shadow_request *r)
{
	mark(s, r, false);
	r->under_way = false;
	q->under_way--;
}

static void reset(struct vhost_shadow *s, unsigned index)
{
	struct shadow_queue *q = &s->queues[index];
	eventfd_t n;

	for (unsigned i = 0; i < SHADOW_REQUESTS; i++)
		if (q->requests[i].under_way)
			end_request(s, q, &q->requests[i]);
	memset(q->desc, 0, RING_LEN);
	q->next_avail = q->next_used = 0;
	q->full = false;
	(void)eventfd_read(q->kick, &n);
	(void)eventfd_read(q->call, &n);
}

void vhost_shadow_start(struct vhost_shadow *s, unsigned index, struct virtq *guest)
{
	reset(s, index);
	/*
	 * A back end that served the queue without a shadow, before a snapshot, has given requests
	 * back without this process.
	 */
	guest->next_used = guest->signalled = virtq_done(guest);
}

static struct shadow_request *free_request(struct shadow_queue *q)
{
	for (unsigned i = 0; i < SHADOW_REQUESTS; i++)
		if (!q->requests[i].under_way)
			return &q->requests[i];
	return NULL;
}

static uint64_t address_of(const struct shadow_request *r)
{
	return (uint64_t)r->page * PAGE;
}

/* Writes the request's one or two descriptors, and makes them visible to the back end. */
static void publish(struct shadow_queue *q, const struct shadow_request *r)
{
	const uint16_t head = (uint16_t)(2 * (r - q->requests));
	const bool both = r->read_len > 0 && r->write_len > 0;
	const struct vring_desc write = {.addr = htole64(address_of(r) + r->read_len),
		.len = htole32(r->write_len),
		.flags = htole16(VRING_DESC_F_WRITE)};
	const struct vring_desc read = {.addr = htole64(address_of(r)),
		.len = htole32(r->read_len),
		.flags = htole16(both ? VRING_DESC_F_NEXT : 0),
		.next = htole16(head + 1)};

	q->desc[head] = r->read_len > 0 ? read : write;
	q->desc[head + 1] = write;
	q->avail->ring[q->next_avail % SHADOW_DESCRIPTORS] = htole16(head);
	q->next_avail++;
	__atomic_store_n((uint16_t *)&q->avail->idx, htole16(q->next_avail), __ATOMIC_RELEASE);
}

/*
 * Takes the guest's next request, and copies it. Returns 1 if it was copied, 0 if there is none or
 * no room for it, or -EPROTO with a message.
 */
static int forward_one(struct vhost_shadow *s, struct shadow_queue *q, struct virtq *guest)
{
	struct shadow_request *r = free_request(q);
	struct virtq_chain *c = &s->chain;

	q->full = !r;
	int n = r ? virtq_next(guest, c) : 0;
	if (n <= 0)
		return n;
	const uint64_t room = SHADOW_SIZE - s->queue_count * RING_LEN;
	if (c->read_len > room || c->write_len > room - c->read_len)
		return err_set(EPROTO,
			"chain %u has %" PRIu64 " bytes: expected %" PRIu64 " at most", c->head,
			c->read_len + c->write_len, room);
	*r = (struct shadow_request){.head = c->head,
		.pages = (uint32_t)((c->read_len + c->write_len + PAGE - 1) / PAGE),
		.read_len = (uint32_t)c->read_len,
		.write_len = (uint32_t)c->write_len};
	if (!find_pages(s, r)) {
		virtq_unpop(guest, 1);
		q->full = true;
		return 0;
	}
	r->under_way = true;
	q->under_way++;
	if (r->read_len > 0)
		(void)virtq_read(
			c, 0, vm_memory_at(&s->memory, address_of(r), r->read_len), r->read_len);
	publish(q, r);
	return 1;
}

int vhost_shadow_forward(
	struct vhost_shadow *s, unsigned index, struct virtq *guest, unsigned budget)
{
	struct shadow_queue *q = &s->queues[index];
	unsigned n = 0;
	int r = 1;

	while (n < budget && (r = forward_one(s, q, guest)) > 0)
		n++;
	/*
	 * The back end must see the new requests before this code reads whether it wants a kick,
	 * because each side could else wait for the other (virtio 1.2, 2.7.13.4.1).
	 */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	const uint16_t flags = __atomic_load_n((const uint16_t *)&q->used->flags, __ATOMIC_RELAXED);
	if (n > 0 && !(le16toh(flags) & VRING_USED_F_NO_NOTIFY))
		eventfd_write(q->kick, 1);
	return r;
}

/* Copies one answer to the guest. */
static int return_one(struct vhost_shadow *s, struct shadow_queue *q, struct virtq *guest,
	const struct vring_used_elem *e)
{
	const uint32_t id = le32toh(e->id), written = le32toh(e->len);
	struct shadow_request *r =
		id < SHADOW_DESCRIPTORS && id % 2 == 0 ? &q->requests[id / 2] : NULL;

	if (!r || !r->under_way || written > r->write_len)
		return err_set(EPROTO,
			"the back end has answered request %" PRIu32 " with %" PRIu32
			" bytes: expected a request under way, and no more bytes than it has room",
			id, written);
	int n = virtq_chain_at(guest, r->head, &s->chain);
	if (n < 0)
		return n;
	const uint32_t copied = s->whole ? r->write_len : written;
	if (copied > 0)
		(void)virtq_write(&s->chain, 0,
			vm_memory_at(&s->memory, address_of(r) + r->read_len, copied), copied);
	virtq_push(guest, r->head, written);
	end_request(s, q, r);
	return 0;
}

int vhost_shadow_return(struct vhost_shadow *s, unsigned index, struct virtq *guest)
{
	struct shadow_queue *q = &s->queues[index];
	eventfd_t calls;
	int n = 0;

	(void)eventfd_read(q->call, &calls);
	for (; q->under_way > 0; n++) {
		const uint16_t idx =
			__atomic_load_n((const uint16_t *)&q->used->idx, __ATOMIC_ACQUIRE);
		if (le16toh(idx) == q->next_used)
			break;
		const struct vring_used_elem e = q->used->ring[q->next_used % SHADOW_DESCRIPTORS];
		q->next_used++;
		int r = return_one(s, q, guest, &e);
		if (r < 0)
			return r;
	}
	return n;
}

void vhost_shadow_stop(struct vhost_shadow *s, unsigned index, struct virtq *guest)
{
	/*
	 * An error is ignored, because the requests that are left then count as not taken, and the
	 * guest's chains are checked when they are taken again.
	 */
	(void)!vhost_shadow_return(s, index, guest);
	/*
	 * The back end takes the requests in their order and answers all that it has taken before
	 * it stops, so those that are left are the guest's last ones.
	 */
	virtq_unpop(guest, s->queues[index].under_way);
	reset(s, index);
}

void vhost_shadow_event(struct vhost_shadow *s, struct virtio_device *d, const bool *started)
{
	bool room = false;
	eventfd_t n;

	for (unsigned i = 0; i < d->queue_count; i++) {
		/* A descriptor that is not read would wake the event loop again and again. */
		if (!started[i] || !virtio_is_live(d)) {
			(void)eventfd_read(s->queues[i].call, &n);
			continue;
		}
		int r = vhost_shadow_return(s, i, &d->queues[i]);
		if (r > 0)
			virtio_signal_queue(d, i);
		if (r < 0)
			virtio_needs_reset(d);
		room |= r > 0;
	}
	/*
	 * The queues have the pages in common, so an answer in one queue makes room for the
	 * requests of all queues.
	 */
	for (unsigned i = 0; room && i < d->queue_count; i++)
		if (started[i] && virtio_is_live(d) && s->queues[i].full &&
			vhost_shadow_forward(s, i, &d->queues[i], SHADOW_REQUESTS) < 0)
			virtio_needs_reset(d);
}
