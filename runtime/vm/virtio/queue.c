/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/virtio/queue.h"

#include <endian.h>
#include <inttypes.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "vm/virtio/iov.h"

static uint16_t load16(const __virtio16 *p)
{
	return le16toh(__atomic_load_n((const uint16_t *)p, __ATOMIC_ACQUIRE));
}

static void store16(__virtio16 *p, uint16_t value)
{
	__atomic_store_n((uint16_t *)p, htole16(value), __ATOMIC_RELEASE);
}

/*
 * Returns the place of the event index behind the last entry of the available ring. With EVENT_IDX
 * the driver writes there at which used index it wants an interrupt (virtio 1.2, 2.7.10).
 */
static __virtio16 *used_event(const struct virtq *q)
{
	return &q->avail->ring[q->size];
}

static __virtio16 *avail_event(const struct virtq *q)
{
	return (__virtio16 *)&q->used->ring[q->size];
}

static void *find_ring(const struct vm_memory *m, uint64_t at, uint64_t len, unsigned align)
{
	return at % align ? NULL : vm_memory_at(m, at, len);
}

static int find_rings(struct virtq *q, const struct vm_memory *m)
{
	if (q->size == 0 || q->size > VIRTQ_SIZE_MAX || (q->size & (q->size - 1)))
		return err_set(EINVAL, "queue size %u: expected a power of two up to %u", q->size,
			VIRTQ_SIZE_MAX);
	/*
	 * The size of each ring includes the event index at its end, even without EVENT_IDX,
	 * because the driver may accept EVENT_IDX later.
	 */
	struct vring_desc *desc = find_ring(m, q->desc_at, 16ULL * q->size, 16);
	struct vring_avail *avail = find_ring(m, q->avail_at, 6 + 2ULL * q->size, 2);
	struct vring_used *used = find_ring(m, q->used_at, 6 + 8ULL * q->size, 4);
	if (!desc || !avail || !used)
		return err_set(EINVAL,
			"%s ring at 0x%" PRIx64 ": expected an aligned address in guest memory",
			!desc    ? "descriptor"
			: !avail ? "available"
				 : "used",
			!desc    ? q->desc_at
			: !avail ? q->avail_at
				 : q->used_at);
	q->desc = desc;
	q->avail = avail;
	q->used = used;
	q->memory = m;
	return 0;
}

int virtq_enable(struct virtq *q, const struct vm_memory *m)
{
	int r = find_rings(q, m);

	if (r < 0)
		return r;
	q->next_avail = q->next_used = q->signalled = 0;
	q->ready = true;
	return 0;
}

int virtq_resume(struct virtq *q, const struct vm_memory *m, uint16_t next_avail)
{
	int r = find_rings(q, m);

	if (r < 0)
		return r;
	q->next_avail = next_avail;
	q->next_used = q->signalled = load16(&q->used->idx);
	q->ready = true;
	return 0;
}

int virtq_move(struct virtq *q, const struct vm_memory *m)
{
	return find_rings(q, m);
}

/* What a snapshot contains of a queue. */
struct queue_state {
	uint64_t desc_at, avail_at, used_at;
	uint16_t size, next_avail, next_used, signalled;
	uint32_t ready, unused;
};

int virtq_save(const struct virtq *q, struct snapshot_writer *w)
{
	const struct queue_state s = {q->desc_at, q->avail_at, q->used_at, q->size, q->next_avail,
		q->next_used, q->signalled, q->ready, 0};

	return snapshot_put(w, &s, sizeof(s));
}

int virtq_load(struct virtq *q, const struct vm_memory *m, struct snapshot_part *p)
{
	struct queue_state s;
	int r = snapshot_get(p, &s, sizeof(s));

	if (r < 0)
		return r;
	if (s.ready > 1 || s.unused)
		return err_set(EBADMSG, "the state of a queue is not possible");
	q->desc_at = s.desc_at;
	q->avail_at = s.avail_at;
	q->used_at = s.used_at;
	q->size = s.size;
	q->next_avail = s.next_avail;
	q->next_used = s.next_used;
	q->signalled = s.signalled;
	if (!s.ready)
		return 0;
	r = find_rings(q, m);
	q->ready = r >= 0;
	return r;
}

void virtq_reset(struct virtq *q)
{
	*q = (struct virtq){0};
}

static int add_buffer(const struct virtq *q, struct virtq_chain *c, const struct vring_desc *d)
{
	bool writable = le16toh(d->flags) & VRING_DESC_F_WRITE;
	uint64_t at = le64toh(d->addr);
	uint32_t len = le32toh(d->len);

	if (!writable && c->writable > 0)
		return err_set(EPROTO, "a buffer to read after one to write in chain %u", c->head);
	if (len == 0)
		return 0;
	if (c->readable + c->writable == VIRTQ_CHAIN_MAX)
		return err_set(
			EPROTO, "chain %u is longer than %u buffers", c->head, VIRTQ_CHAIN_MAX);
	void *host = vm_memory_at(q->memory, at, len);
	if (!host)
		return err_set(EPROTO,
			"%" PRIu32 " bytes at 0x%" PRIx64 " of chain %u are not in guest memory",
			len, at, c->head);
	c->iov[c->readable + c->writable] = (struct iovec){host, len};
	*(writable ? &c->writable : &c->readable) += 1;
	*(writable ? &c->write_len : &c->read_len) += len;
	return 0;
}

/*
 * Adds the buffers of a table of `count` descriptors, starting at `index`, to the chain. Returns 0
 * at the end of the chain, or 1 if the descriptor *ret_last refers to an indirect table. The table
 * may be unaligned, because it may lie anywhere in guest memory.
 */
static int walk_chain(const struct virtq *q, struct virtq_chain *c, const struct vring_desc *table,
	uint32_t count, uint32_t index, struct vring_desc *ret_last)
{
	/*
	 * Counts the steps to detect a loop: a valid chain visits no descriptor twice, so it has at
	 * most as many steps as there are descriptors.
	 */
	for (uint32_t steps = 0; steps < count && steps < VIRTQ_CHAIN_MAX; steps++) {
		struct vring_desc d;

		if (index >= count)
			return err_set(EPROTO,
				"descriptor %" PRIu32 " of chain %u: there are %" PRIu32, index,
				c->head, count);
		memcpy(&d, (const uint8_t *)table + (size_t)index * sizeof(d), sizeof(d));
		/*
		 * Keeps the compiler from reading a field of the descriptor from guest memory a
		 * second time.
		 */
		__asm__ volatile("" : : "r"(&d) : "memory");
		*ret_last = d;
		if (le16toh(d.flags) & VRING_DESC_F_INDIRECT)
			return 1;
		int r = add_buffer(q, c, &d);
		if (r < 0)
			return r;
		if (!(le16toh(d.flags) & VRING_DESC_F_NEXT))
			return 0;
		index = le16toh(d.next);
	}
	return err_set(EPROTO, "chain %u loops or is longer than %u descriptors", c->head,
		VIRTQ_CHAIN_MAX);
}

static int walk_indirect(const struct virtq *q, struct virtq_chain *c, const struct vring_desc *d)
{
	uint32_t len = le32toh(d->len);
	struct vring_desc last;

	if (!q->indirect)
		return err_set(
			EPROTO, "chain %u: an indirect table that was not negotiated", c->head);
	if (le16toh(d->flags) & VRING_DESC_F_NEXT)
		return err_set(EPROTO, "chain %u goes on after an indirect table", c->head);
	if (len == 0 || len % sizeof(struct vring_desc))
		return err_set(EPROTO,
			"chain %u: an indirect table of %" PRIu32
			" bytes: expected a multiple of %zu",
			c->head, len, sizeof(struct vring_desc));
	const void *table = vm_memory_at(q->memory, le64toh(d->addr), len);
	if (!table)
		return err_set(
			EPROTO, "chain %u: its indirect table is not in guest memory", c->head);
	int r = walk_chain(q, c, table, len / sizeof(struct vring_desc), 0, &last);
	if (r > 0)
		return err_set(EPROTO, "chain %u: an indirect table in an indirect table", c->head);
	return r;
}

int virtq_chain_at(const struct virtq *q, uint16_t head, struct virtq_chain *ret)
{
	struct vring_desc last;

	ret->head = head;
	ret->readable = ret->writable = 0;
	ret->read_len = ret->write_len = 0;
	if (head >= q->size)
		return err_set(EPROTO, "chain %u in a queue of %u", head, q->size);
	int r = walk_chain(q, ret, q->desc, q->size, head, &last);
	return r > 0 ? walk_indirect(q, ret, &last) : r;
}

int virtq_pop(struct virtq *q, struct virtq_chain *ret)
{
	if (!q->ready)
		return 0;
	uint16_t pending = (uint16_t)(load16(&q->avail->idx) - q->next_avail);
	if (pending == 0)
		return 0;
	if (pending > q->size)
		return err_set(EPROTO, "the available index is %u ahead in a queue of %u", pending,
			q->size);
	int r = virtq_chain_at(q, load16(&q->avail->ring[q->next_avail % q->size]), ret);
	if (r < 0)
		return r;
	q->next_avail++;
	return 1;
}

void virtq_unpop(struct virtq *q, unsigned count)
{
	q->next_avail = (uint16_t)(q->next_avail - count);
}

void virtq_stage(struct virtq *q, uint16_t head, uint32_t written)
{
	struct vring_used_elem e = {.id = htole32(head), .len = htole32(written)};

	q->used->ring[q->next_used % q->size] = e;
	q->next_used++;
}

void virtq_publish(struct virtq *q)
{
	store16(&q->used->idx, q->next_used);
}

void virtq_push(struct virtq *q, uint16_t head, uint32_t written)
{
	virtq_stage(q, head, written);
	virtq_publish(q);
}

uint16_t virtq_done(const struct virtq *q)
{
	return load16(&q->used->idx);
}

bool virtq_must_signal(struct virtq *q)
{
	if (!q->ready || q->next_used == q->signalled)
		return false;
	/*
	 * The driver must see the new used index before this code reads whether the driver wants an
	 * interrupt. Otherwise each side could wait for the other (virtio 1.2, 2.7.7.2).
	 */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	uint16_t old = q->signalled;
	if (!q->event_idx) {
		q->signalled = q->next_used;
		return !(load16(&q->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
	}
	q->signalled = q->next_used;
	return vring_need_event(load16(used_event(q)), q->next_used, old);
}

bool virtq_arm_after(struct virtq *q, uint16_t count)
{
	if (!q->ready)
		return false;
	if (q->event_idx)
		store16(avail_event(q), (uint16_t)(q->next_avail + count));
	else
		store16(&q->used->flags, 0);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return virtq_pending(q) > (q->event_idx ? count : 0);
}

bool virtq_arm(struct virtq *q)
{
	return virtq_arm_after(q, 0);
}

uint16_t virtq_pending(const struct virtq *q)
{
	return q->ready ? (uint16_t)(load16(&q->avail->idx) - q->next_avail) : 0;
}

uint16_t virtq_unsignalled(const struct virtq *q)
{
	return (uint16_t)(q->next_used - q->signalled);
}

int virtq_next(struct virtq *q, struct virtq_chain *ret)
{
	int r = virtq_pop(q, ret);

	return r == 0 && !q->watched && virtq_arm(q) ? virtq_pop(q, ret) : r;
}

void virtq_disarm(struct virtq *q)
{
	if (!q->ready)
		return;
	/*
	 * With EVENT_IDX, the driver kicks when it reaches the index in avail_event. So an index
	 * that the driver has already passed stops its kicks.
	 */
	if (q->event_idx)
		store16(avail_event(q), (uint16_t)(q->next_avail - 1));
	else
		store16(&q->used->flags, VRING_USED_F_NO_NOTIFY);
}

static struct iov_range chain_range(
	const struct virtq_chain *c, bool writable, uint64_t offset, uint64_t len)
{
	return (struct iov_range){
		.iov = writable ? c->iov + c->readable : c->iov,
		.count = writable ? c->writable : c->readable,
		.offset = offset,
		.len = len,
	};
}

unsigned virtq_slice(const struct virtq_chain *c, bool writable, uint64_t offset, uint64_t len,
	struct iovec *ret)
{
	return iov_slice(chain_range(c, writable, offset, len), ret, VIRTQ_CHAIN_MAX);
}

size_t virtq_read(const struct virtq_chain *c, uint64_t offset, void *ret_data, size_t len)
{
	return iov_read(chain_range(c, false, offset, len), ret_data);
}

size_t virtq_write(struct virtq_chain *c, uint64_t offset, const void *data, size_t len)
{
	return iov_write(chain_range(c, true, offset, len), data);
}
