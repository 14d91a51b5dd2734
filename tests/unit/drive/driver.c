/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio-mmio driver that polls (virtio 1.2, sections 4.2 and 2.7), and the library functions
 * that the compiler calls by itself.
 */
#include "unit/drive/drive.h"

void *memset(void *to, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);
int memcmp(const void *a, const void *b, size_t n);

void *memset(void *to, int c, size_t n)
{
	void *at = to;

	__asm__ volatile("rep stosb" : "+D"(at), "+c"(n) : "a"(c) : "memory");
	return to;
}

void *memcpy(void *to, const void *from, size_t n)
{
	void *at = to;

	__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(n) : : "memory");
	return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const uint8_t *x = a, *y = b;

	for (; n > 0; n--, x++, y++)
		if (*x != *y)
			return *x < *y ? -1 : 1;
	return 0;
}

bool negotiate(struct device *d)
{
	set(d, VIRTIO_MMIO_STATUS, 0);
	set(d, VIRTIO_MMIO_STATUS, 1);
	set(d, VIRTIO_MMIO_STATUS, 3);
	for (uint32_t half = 0; half < 2; half++) {
		set(d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, half);
		uint32_t offered = get(d, VIRTIO_MMIO_DEVICE_FEATURES);
		set(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
		set(d, VIRTIO_MMIO_DRIVER_FEATURES,
			half ? offered : offered & ~(uint32_t)EVENT_IDX);
	}
	set(d, VIRTIO_MMIO_STATUS, 11);
	return get(d, VIRTIO_MMIO_STATUS) == 11;
}

void set_queue(struct device *d, unsigned q, uint64_t desc, uint64_t avail, uint64_t used)
{
	set(d, VIRTIO_MMIO_QUEUE_SEL, q);
	set(d, VIRTIO_MMIO_QUEUE_NUM, RING);
	set(d, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)desc);
	set(d, VIRTIO_MMIO_QUEUE_DESC_HIGH, (uint32_t)(desc >> 32));
	set(d, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)avail);
	set(d, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, (uint32_t)(avail >> 32));
	set(d, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)used);
	set(d, VIRTIO_MMIO_QUEUE_USED_HIGH, (uint32_t)(used >> 32));
	set(d, VIRTIO_MMIO_QUEUE_READY, 1);
}

bool bring_up(struct device *d)
{
	if (!negotiate(d))
		return false;
	for (unsigned q = 0; q < d->queues; q++) {
		struct ring *r = &d->ring[q];

		memset(r, 0, sizeof(*r));
		set_queue(d, q, (uint64_t)r->desc, (uint64_t)&r->avail, (uint64_t)&r->used);
	}
	set(d, VIRTIO_MMIO_STATUS, STATUS_OK);
	return get(d, VIRTIO_MMIO_STATUS) == STATUS_OK;
}

unsigned put(struct device *d, unsigned q, const struct part *parts, unsigned count)
{
	struct ring *r = &d->ring[q];
	unsigned head = r->next % RING;

	for (unsigned i = 0; i < count; i++) {
		unsigned next = (r->next + 1) % RING;

		r->desc[r->next] = (struct vring_desc){(uint64_t)parts[i].at, parts[i].len,
			(uint16_t)((parts[i].write ? VRING_DESC_F_WRITE : 0) |
				   (i + 1 < count ? VRING_DESC_F_NEXT : 0)),
			(uint16_t)next};
		r->next = next;
	}
	return head;
}

void offer(struct device *d, unsigned q, unsigned head)
{
	struct ring *r = &d->ring[q];

	r->avail.ring[r->avail.idx % RING] = (uint16_t)head;
	__atomic_store_n(&r->avail.idx, (uint16_t)(r->avail.idx + 1), __ATOMIC_SEQ_CST);
}

bool await(struct device *d, unsigned q, struct vring_used_elem *ret)
{
	struct ring *r = &d->ring[q];

	for (unsigned i = 1; __atomic_load_n(&r->used.idx, __ATOMIC_SEQ_CST) == r->seen; i++) {
		pause();
		if (i % 64 == 0 && get(d, VIRTIO_MMIO_STATUS) != STATUS_OK)
			return false;
	}
	*ret = r->used.ring[r->seen++ % RING];
	return true;
}

bool await_broken(struct device *d)
{
	while (!(get(d, VIRTIO_MMIO_STATUS) & STATUS_NEEDS_RESET))
		pause();
	return true;
}

int64_t request(struct device *d, unsigned q, const struct part *parts, unsigned count)
{
	unsigned head = put(d, q, parts, count);
	struct vring_used_elem e;

	offer(d, q, head);
	kick(d, q);
	return await(d, q, &e) && e.id == head ? (int64_t)e.len : -1;
}
