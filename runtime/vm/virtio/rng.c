/* SPDX-License-Identifier: Apache-2.0 */
#include <linux/virtio_ids.h>
#include <sys/random.h>

#include "base/str.h"
#include "vm/virtio/devices.h"

static int rng_serve(struct virtio_device *d, unsigned index, unsigned budget)
{
	struct virtio_rng *rng = (struct virtio_rng *)d;
	struct virtq *q = &d->queues[index];
	uint8_t bytes[VIRTIO_RNG_MAX];

	for (; budget > 0; budget--) {
		int r = virtq_next(q, &rng->chain);
		if (r < 0)
			return r;
		if (r == 0)
			break;
		if (rng->chain.readable > 0 || rng->chain.write_len == 0)
			return err_set(EPROTO, "a request for entropy without room for it: "
					       "expected a buffer to write");
		/*
		 * The device gives fewer random bytes than there is room for, so that many large
		 * requests cost little. The specification allows this (virtio 1.2, 5.4.6.2).
		 */
		uint64_t want = rng->chain.write_len;
		ssize_t n =
			getrandom(bytes, want < sizeof(bytes) ? (size_t)want : sizeof(bytes), 0);
		size_t done = virtq_write(&rng->chain, 0, bytes, n > 0 ? (size_t)n : 0);
		virtq_push(q, rng->chain.head, (uint32_t)done);
	}
	explicit_bzero(bytes, sizeof(bytes));
	virtio_signal_queue(d, index);
	return budget == 0;
}

static const struct virtio_ops ops = {rng_serve, NULL};

void virtio_rng_init(struct virtio_rng *r, const struct vm_memory *m)
{
	r->dev = (struct virtio_device){
		.ops = &ops, .name = "rng", .id = VIRTIO_ID_RNG, .queue_count = 1};
	virtio_init(&r->dev, m);
}
