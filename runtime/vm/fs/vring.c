/* SPDX-License-Identifier: Apache-2.0 */
#include "vring.h"

#include <string.h>

size_t vring_desc_size(uint32_t num)
{
	return num * sizeof(struct vring_desc);
}

/* With the event words that VIRTIO_F_EVENT_IDX puts behind the rings: the layout always has them.
 */
size_t vring_avail_size(uint32_t num)
{
	return sizeof(struct vring_avail) + (num + 1) * sizeof(uint16_t);
}

size_t vring_used_size(uint32_t num)
{
	return sizeof(struct vring_used) + num * sizeof(struct vring_used_elem) + sizeof(uint16_t);
}

/* Where descriptors are read: the queue's table, or the indirect table that its chain led to. */
struct table {
	const struct vring_desc *desc;
	uint32_t count;
	bool indirect;
};

static int enter_indirect(const struct vring_queue *q, const struct vring_desc *d, struct table *t)
{
	if (!q->indirect || t->indirect || (d->flags & VRING_DESC_F_NEXT))
		return err_set(EPROTO, "virtqueue: an indirect descriptor where none may be");
	if (d->len == 0 || d->len % sizeof(*d) || d->len / sizeof(*d) > q->num)
		return err_set(EPROTO,
			"virtqueue: an indirect table of %u bytes, expected 1 to %u descriptors of "
			"16",
			d->len, q->num);
	t->desc = q->at(q->ctx, d->addr, d->len);
	if (!t->desc)
		return err_set(EPROTO, "virtqueue: an indirect table outside of memory");
	t->count = d->len / sizeof(*d);
	t->indirect = true;
	return 0;
}

static int add_segment(
	const struct vring_queue *q, const struct vring_desc *d, struct vring_chain *c)
{
	bool out = d->flags & VRING_DESC_F_WRITE;

	if (!out && c->nout)
		return err_set(EPROTO, "virtqueue: a readable segment behind a writable one");
	if (d->len == 0)
		return 0;
	void *p = q->at(q->ctx, d->addr, d->len);
	if (!p)
		return err_set(EPROTO, "virtqueue: a segment outside of memory: %u bytes at %#llx",
			d->len, (unsigned long long)d->addr);
	c->iov[c->nin + c->nout] = (struct iovec){p, d->len};
	if (out)
		c->nout++;
	else
		c->nin++;
	return 0;
}

static int read_chain(const struct vring_queue *q, struct vring_chain *c)
{
	struct table t = {.desc = q->desc, .count = q->num};
	uint32_t i = c->head;
	struct vring_desc d;

	/* As many steps as the queue is long, and one into an indirect table. */
	for (uint32_t steps = 0; steps <= q->num; steps++) {
		if (i >= t.count)
			return err_set(EPROTO, "virtqueue: descriptor %u of %u", i, t.count);
		memcpy(&d, &t.desc[i], sizeof(d));
		/* The copy decides; the compiler must not look again. */
		__asm__ volatile("" ::: "memory");
		if (d.flags & VRING_DESC_F_INDIRECT) {
			int r = enter_indirect(q, &d, &t);
			if (r < 0)
				return r;
			i = 0;
			continue;
		}
		if (c->nin + c->nout == q->num)
			break;
		int r = add_segment(q, &d, c);
		if (r < 0)
			return r;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return 0;
		i = d.next;
	}
	return err_set(EPROTO, "virtqueue: a chain longer than the queue of %u", q->num);
}

int vring_next(struct vring_queue *q, struct vring_chain *ret)
{
	uint16_t idx = __atomic_load_n(&q->avail->idx, __ATOMIC_ACQUIRE);
	uint16_t waiting = (uint16_t)(idx - q->next_avail);

	if (waiting == 0)
		return 0;
	if (waiting > q->num)
		return err_set(EPROTO,
			"virtqueue: the available index is %u ahead in a queue of %u", waiting,
			q->num);
	ret->head =
		__atomic_load_n(&q->avail->ring[q->next_avail & (q->num - 1)], __ATOMIC_RELAXED);
	ret->nin = ret->nout = 0;
	int r = read_chain(q, ret);
	if (r < 0)
		return r;
	q->next_avail++;
	return 1;
}

void vring_done(struct vring_queue *q, uint16_t head, uint32_t len)
{
	struct vring_used_elem *e = &q->used->ring[q->next_used & (q->num - 1)];

	e->id = head;
	e->len = len;
	q->next_used++;
	__atomic_store_n(&q->used->idx, q->next_used, __ATOMIC_RELEASE);
}

bool vring_must_signal(struct vring_queue *q)
{
	uint16_t from = q->signalled, to = q->next_used;

	if (from == to)
		return false;
	q->signalled = to;
	/* The used index must be seen before the driver's wish is read (2.7.10). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (q->event_idx) {
		uint16_t event = __atomic_load_n(&q->avail->ring[q->num], __ATOMIC_RELAXED);

		return vring_need_event(event, to, from);
	}
	return !(__atomic_load_n(&q->avail->flags, __ATOMIC_RELAXED) & VRING_AVAIL_F_NO_INTERRUPT);
}

bool vring_want_kicks(struct vring_queue *q, bool on)
{
	if (q->event_idx) {
		/* An index that has passed asks for nothing. */
		uint16_t event = on ? q->next_avail : (uint16_t)(q->next_avail - 1);

		__atomic_store_n((uint16_t *)&q->used->ring[q->num], event, __ATOMIC_RELAXED);
	} else {
		__atomic_store_n(
			&q->used->flags, on ? 0 : VRING_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
	}
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return on && __atomic_load_n(&q->avail->idx, __ATOMIC_RELAXED) != q->next_avail;
}
