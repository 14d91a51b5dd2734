/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/virtio/balloon.h"

#include <endian.h>
#include <inttypes.h>
#include <linux/virtio_ids.h>
#include <stddef.h>
#include <string.h>

#include "base/str.h"

enum { QUEUE_INFLATE, QUEUE_DEFLATE, QUEUE_REPORTING, QUEUES };

#define BATCH 256 /* number of page numbers that are copied from guest memory at a time */

/*
 * A range of adjacent pages, listed in rising or falling order, which one call can give back to the
 * host.
 */
struct run {
	uint64_t first, count;
};

static int flush_run(struct virtio_balloon *b, struct run *r)
{
	if (r->count == 0)
		return 0;
	uint64_t at = r->first * VIRTIO_BALLOON_PAGE, len = r->count * VIRTIO_BALLOON_PAGE;
	void *host = vm_memory_at(b->dev.memory, at, len);
	if (!host)
		return err_set(EPROTO,
			"%" PRIu64 " pages from page 0x%" PRIx64 " on are not in guest memory",
			r->count, r->first);
	vm_memory_discard(b->dev.memory, host, len);
	b->discarded += r->count;
	r->count = 0;
	return 0;
}

static int add_page(struct virtio_balloon *b, struct run *r, uint64_t page)
{
	if (r->count > 0 && page == r->first + r->count) {
		r->count++;
	} else if (r->count > 0 && page + 1 == r->first) {
		r->first--;
		r->count++;
	} else {
		int failed = flush_run(b, r);
		if (failed < 0)
			return failed;
		*r = (struct run){page, 1};
	}
	return 0;
}

/*
 * Handles up to *pages more page numbers of the request b->numbers, and reduces *pages accordingly.
 * Returns 1 if all of the request is handled, or 0 if *pages is used up.
 */
static int inflate_pages(struct virtio_balloon *b, unsigned *pages)
{
	struct run run = {0};
	__le32 numbers[BATCH];

	while (*pages > 0 && b->done < b->numbers.read_len) {
		size_t n = *pages < BATCH ? *pages : BATCH;
		n = virtq_read(&b->numbers, b->done, numbers, n * sizeof(numbers[0])) /
		    sizeof(numbers[0]);
		for (size_t i = 0; i < n; i++) {
			int r = add_page(b, &run, le32toh(numbers[i]));
			if (r < 0)
				return r;
		}
		b->done += n * sizeof(numbers[0]);
		*pages -= (unsigned)n;
	}
	int r = flush_run(b, &run);
	return r < 0 ? r : b->done == b->numbers.read_len;
}

static int check_numbers(const struct virtq_chain *c)
{
	if (c->writable > 0 || c->read_len % sizeof(__le32))
		return err_set(EPROTO,
			"%" PRIu64 " bytes of page numbers with %" PRIu64
			" to write to: expected numbers of %zu bytes and nothing to write to",
			c->read_len, c->write_len, sizeof(__le32));
	return 0;
}

/*
 * Handles one inflate request, or goes on with one that an earlier call has not finished. Returns 1
 * if the request is done, or 0 if there is no request or if *pages is used up.
 */
static int serve_inflate(struct virtio_balloon *b, struct virtq *q, unsigned *pages)
{
	if (!b->inflating) {
		int r = virtq_pop(q, &b->numbers);
		if (r > 0 && check_numbers(&b->numbers) < 0)
			return -EPROTO;
		if (r <= 0)
			return r;
		b->inflating = true;
		b->done = 0;
	}
	int r = inflate_pages(b, pages);
	if (r <= 0)
		return r;
	b->inflating = false;
	virtq_push(q, b->numbers.head, 0);
	return 1;
}

/* Gives back to the host all pages that lie completely in the reported buffers. */
static int discard_reported(struct virtio_balloon *b, const struct virtq_chain *c)
{
	const uintptr_t mask = VIRTIO_BALLOON_PAGE - 1;

	if (c->readable > 0)
		return err_set(EPROTO, "a report of free pages with a buffer to read: expected "
				       "only buffers to write");
	for (unsigned i = 0; i < c->writable; i++) {
		uint8_t *at = c->iov[i].iov_base;
		size_t len = c->iov[i].iov_len;
		size_t skip = (VIRTIO_BALLOON_PAGE - ((uintptr_t)at & mask)) & mask;

		if (len <= skip)
			continue;
		len = (len - skip) & ~(size_t)mask;
		if (len == 0)
			continue;
		vm_memory_discard(b->dev.memory, at + skip, len);
		b->discarded += len / VIRTIO_BALLOON_PAGE;
	}
	return 0;
}

/*
 * Handles one request of the deflate or the reporting queue. Returns 1 if there was a request, else
 * 0.
 */
static int serve_other(struct virtio_balloon *b, struct virtq *q, bool reporting, unsigned *pages)
{
	int r = virtq_pop(q, &b->chain);

	if (r <= 0)
		return r;
	/*
	 * The pages of a deflate request are only checked and not changed, because a page has
	 * memory as soon as the guest touches it.
	 */
	r = reporting ? discard_reported(b, &b->chain) : check_numbers(&b->chain);
	if (r < 0)
		return r;
	/*
	 * Each buffer counts as one page towards the number of pages that one call may handle,
	 * whatever its size, because the kernel frees one large range faster than many small ones.
	 */
	unsigned calls = b->chain.writable;
	*pages -= calls < *pages ? calls : *pages;
	virtq_push(q, b->chain.head, 0);
	return 1;
}

static int balloon_serve(struct virtio_device *d, unsigned index, unsigned budget)
{
	struct virtio_balloon *b = (struct virtio_balloon *)d;
	struct virtq *q = &d->queues[index];
	unsigned pages = VIRTIO_BALLOON_TURN;
	bool more = true;

	while (more && budget > 0 && pages > 0) {
		int r = index == QUEUE_INFLATE
				? serve_inflate(b, q, &pages)
				: serve_other(b, q, index == QUEUE_REPORTING, &pages);
		if (r < 0)
			return r;
		budget -= (unsigned)r;
		if (r == 0 && pages > 0)
			more = virtq_arm(q);
	}
	virtio_signal_queue(d, index);
	return more;
}

static void balloon_reset(struct virtio_device *d)
{
	struct virtio_balloon *b = (struct virtio_balloon *)d;

	b->inflating = false;
	b->config.actual = 0;
}

/*
 * Handles a write to the configuration. The driver may write only the member `actual`, and only all
 * of it at once.
 */
static void balloon_configure(
	struct virtio_device *d, uint32_t offset, const void *data, unsigned len)
{
	struct virtio_balloon *b = (struct virtio_balloon *)d;

	if (offset == offsetof(struct virtio_balloon_config, actual) &&
		len == sizeof(b->config.actual))
		memcpy(&b->config.actual, data, len);
}

/*
 * Puts an inflate request that is not finished back into the queue. It does no harm that its first
 * pages are freed once more, because the guest does not use them before the request is done.
 */
static void balloon_quiesce(struct virtio_device *d, unsigned index)
{
	struct virtio_balloon *b = (struct virtio_balloon *)d;

	if (index != QUEUE_INFLATE || !b->inflating)
		return;
	virtq_unpop(&d->queues[QUEUE_INFLATE], 1);
	b->inflating = false;
}

static int balloon_save(struct virtio_device *d, struct snapshot_writer *w)
{
	const struct virtio_balloon *b = (const struct virtio_balloon *)d;

	return snapshot_put(w, &b->config, VIRTIO_BALLOON_CONFIG_LEN);
}

static int balloon_load(struct virtio_device *d, struct snapshot_part *p)
{
	struct virtio_balloon *b = (struct virtio_balloon *)d;

	return snapshot_get(p, &b->config, VIRTIO_BALLOON_CONFIG_LEN);
}

static const struct virtio_ops ops = {.serve = balloon_serve,
	.reset = balloon_reset,
	.configure = balloon_configure,
	.quiesce = balloon_quiesce,
	.save = balloon_save,
	.load = balloon_load};

void virtio_balloon_init(struct virtio_balloon *b, const struct vm_memory *m)
{
	*b = (struct virtio_balloon){.dev = {.ops = &ops,
					     .name = "balloon",
					     .id = VIRTIO_ID_BALLOON,
					     .features = 1ULL << VIRTIO_BALLOON_F_DEFLATE_ON_OOM |
							 1ULL << VIRTIO_BALLOON_F_REPORTING,
					     .config = &b->config,
					     .config_len = VIRTIO_BALLOON_CONFIG_LEN,
					     .queue_count = QUEUES}};
	virtio_init(&b->dev, m);
}

void virtio_balloon_set_target(struct virtio_balloon *b, uint32_t pages)
{
	struct virtio_device *d = &b->dev;

	pthread_mutex_lock(&d->lock);
	if (b->config.num_pages != htole32(pages)) {
		b->config.num_pages = htole32(pages);
		virtio_config_changed(d);
	}
	pthread_mutex_unlock(&d->lock);
}

uint32_t virtio_balloon_target(struct virtio_balloon *b)
{
	pthread_mutex_lock(&b->dev.lock);
	uint32_t pages = le32toh(b->config.num_pages);
	pthread_mutex_unlock(&b->dev.lock);
	return pages;
}

uint32_t virtio_balloon_actual(struct virtio_balloon *b)
{
	pthread_mutex_lock(&b->dev.lock);
	uint32_t pages = le32toh(b->config.actual);
	pthread_mutex_unlock(&b->dev.lock);
	return pages;
}
