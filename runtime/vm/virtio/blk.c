/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/virtio/blk.h"

#include <endian.h>
#include <inttypes.h>
#include <linux/virtio_ids.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/str.h"

/*
 * the most data segments of a request; header and status make it 256 descriptors, the size of a
 * queue
 */
#define SEGMENTS_MAX 254
#define ZEROES_MAX 32768 /* the most sectors in one request to write zeroes: 16 MiB */
#define ZEROES_SEGMENTS_MAX 16
#define HEADER_LEN 16
/*
 * Length of the configuration that the guest sees. It ends with the members of
 * VIRTIO_BLK_F_SECURE_ERASE. The size of struct virtio_blk_config depends on the headers of the
 * build, because Linux 6.3 added the members of zoned disks. A snapshot must find the same device
 * in each build.
 */
#define CONFIG_LEN (offsetof(struct virtio_blk_config, secure_erase_sector_alignment) + 4)

/*
 * The request that a queue serves. Each queue has such a struct, because each queue may have a
 * thread of its own.
 */
struct blk_queue {
	struct virtq_chain chain;
	struct iovec part[VIRTQ_CHAIN_MAX];
};

/*
 * The functions that serve a request return its status (VIRTIO_BLK_S_*), or -errno if the image has
 * failed.
 */

/*
 * Makes written data durable. Also fails if an earlier flush, which the driver did not ask for, has
 * failed, because the kernel reports a failed write only once.
 */
static int flush_image(struct virtio_blk *b)
{
	int r = b->image->ops->flush(b->image);

	if (r < 0)
		return r;
	return atomic_exchange(&b->flush_failed, false) ? -EIO : VIRTIO_BLK_S_OK;
}

/*
 * Returns the status of a finished write. If the driver has switched the write cache off or did not
 * accept FLUSH, this function flushes the data first, because the data must be on stable storage
 * before the device answers (virtio 5.2.6.2).
 */
static int finish_write(struct virtio_blk *b, int status)
{
	const uint64_t cache = 1ULL << VIRTIO_BLK_F_FLUSH | 1ULL << VIRTIO_BLK_F_CONFIG_WCE;

	if (status != VIRTIO_BLK_S_OK || ((b->dev.driver_features & cache) && b->config.wce))
		return status;
	return flush_image(b);
}

static bool is_in_range(const struct virtio_blk *b, uint64_t sector, uint64_t sectors)
{
	return sector <= b->sectors && sectors <= b->sectors - sector;
}

static int serve_read_write(
	struct virtio_blk *b, struct blk_queue *q, bool to_guest, uint64_t sector)
{
	const struct virtq_chain *c = &q->chain;
	const struct blk_image_ops *ops = b->image->ops;
	uint64_t start = to_guest ? 0 : HEADER_LEN;
	uint64_t len = to_guest ? c->write_len - 1 : c->read_len - HEADER_LEN;

	if (len % VIRTIO_BLK_SECTOR || !is_in_range(b, sector, len / VIRTIO_BLK_SECTOR))
		return VIRTIO_BLK_S_IOERR;
	if (!to_guest && b->image->read_only)
		return VIRTIO_BLK_S_IOERR;
	unsigned n = virtq_slice(c, to_guest, start, len, q->part);
	uint64_t at = sector * VIRTIO_BLK_SECTOR;
	if (to_guest)
		return ops->read(b->image, q->part, n, at);
	return finish_write(b, ops->write(b->image, q->part, n, at));
}

static int discard_segment(
	struct virtio_blk *b, bool zeroes, const struct virtio_blk_discard_write_zeroes *s)
{
	struct blk_image *i = b->image;
	uint64_t at = le64toh(s->sector) * VIRTIO_BLK_SECTOR;
	uint64_t len = (uint64_t)le32toh(s->num_sectors) * VIRTIO_BLK_SECTOR;
	bool unmap = le32toh(s->flags) & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;

	if (len == 0)
		return VIRTIO_BLK_S_OK;
	return zeroes ? i->ops->zero(i, at, len, unmap) : i->ops->discard(i, at, len);
}

/*
 * Serves DISCARD and WRITE_ZEROES requests. It checks all segments before it changes the first one.
 */
static int serve_discard(struct virtio_blk *b, const struct virtq_chain *c, bool zeroes)
{
	struct virtio_blk_discard_write_zeroes s[ZEROES_SEGMENTS_MAX];
	uint64_t len = c->read_len - HEADER_LEN;
	int status = VIRTIO_BLK_S_OK;

	if (len == 0 || len % sizeof(s[0]) || len > sizeof(s))
		return VIRTIO_BLK_S_IOERR;
	size_t count = virtq_read(c, HEADER_LEN, s, (size_t)len) / sizeof(s[0]);
	for (size_t i = 0; i < count; i++) {
		uint32_t allowed = zeroes ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;

		if (le32toh(s[i].flags) & ~allowed)
			/*
			 * Virtio 5.2.6.2 requires the answer UNSUPP to a request with unknown
			 * flags.
			 */
			return VIRTIO_BLK_S_UNSUPP;
		if (b->image->read_only || le32toh(s[i].num_sectors) > ZEROES_MAX ||
			!is_in_range(b, le64toh(s[i].sector), le32toh(s[i].num_sectors)))
			return VIRTIO_BLK_S_IOERR;
	}
	for (size_t i = 0; i < count && status == VIRTIO_BLK_S_OK; i++)
		status = discard_segment(b, zeroes, &s[i]);
	return finish_write(b, status);
}

static int serve_id(const struct virtio_blk *b, struct virtq_chain *c)
{
	if (c->write_len < 1 + sizeof(b->serial))
		return VIRTIO_BLK_S_IOERR;
	virtq_write(c, 0, b->serial, sizeof(b->serial));
	return VIRTIO_BLK_S_OK;
}

static int serve_request(struct virtio_blk *b, struct blk_queue *q, uint32_t type, uint64_t sector)
{
	switch (type) {
	case VIRTIO_BLK_T_IN:
		return serve_read_write(b, q, true, sector);
	case VIRTIO_BLK_T_OUT:
		return serve_read_write(b, q, false, sector);
	case VIRTIO_BLK_T_FLUSH:
		return flush_image(b);
	case VIRTIO_BLK_T_GET_ID:
		return serve_id(b, &q->chain);
	case VIRTIO_BLK_T_DISCARD:
		return serve_discard(b, &q->chain, false);
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return serve_discard(b, &q->chain, true);
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
}

/*
 * Returns how many bytes the device has written from the start of the writable part (virtio
 * 2.7.8.2).
 */
static uint32_t written_len(const struct virtq_chain *c, uint32_t type, int status)
{
	if (type == VIRTIO_BLK_T_IN && status == VIRTIO_BLK_S_OK)
		return c->write_len <= UINT32_MAX ? (uint32_t)c->write_len : UINT32_MAX;
	if (type == VIRTIO_BLK_T_GET_ID && status == VIRTIO_BLK_S_OK)
		return c->write_len == VIRTIO_BLK_ID_BYTES + 1 ? VIRTIO_BLK_ID_BYTES + 1
							       : VIRTIO_BLK_ID_BYTES;
	/*
	 * The status byte counts only if it is the whole writable part, because the result counts
	 * written bytes from the start of that part without a gap.
	 */
	return c->write_len == 1;
}

/*
 * Holds the request that was taken last from the queue if the device has to hold requests that
 * failed with -errno r. Returns whether it does.
 */
static bool hold_request(struct virtio_blk *b, struct virtq *q, uint32_t type, int r)
{
	const bool write = type != VIRTIO_BLK_T_IN;

	if (r >= 0 || !b->errors.held ||
		!blk_must_hold(write ? b->errors.write : b->errors.read, -r))
		return false;
	virtq_unpop(q, 1);
	if (!atomic_exchange(&b->held, true))
		b->errors.held(b->errors.ctx, -r, write);
	return true;
}

static int blk_serve(struct virtio_device *d, unsigned index, unsigned budget)
{
	struct virtio_blk *b = (struct virtio_blk *)d;
	struct blk_queue *own = &b->queues[index];
	struct virtq_chain *c = &own->chain;
	struct virtq *q = &d->queues[index];

	if (atomic_exchange(&b->flush_owed, false))
		atomic_store(&b->flush_failed, flush_image(b) != VIRTIO_BLK_S_OK);
	for (; budget > 0 && !atomic_load(&b->held); budget--) {
		struct virtio_blk_outhdr header;
		int r = virtq_next(q, c);
		if (r < 0)
			return r;
		if (r == 0)
			break;
		if (c->write_len == 0 || c->read_len < HEADER_LEN)
			return err_set(EPROTO,
				"a request with %" PRIu64 " bytes of header and %" PRIu64
				" for the status: expected at least %d and 1",
				c->read_len, c->write_len, HEADER_LEN);
		virtq_read(c, 0, &header, HEADER_LEN);
		uint32_t type = le32toh(header.type);
		r = serve_request(b, own, type, le64toh(header.sector));
		if (hold_request(b, q, type, r))
			break;
		uint8_t status = r < 0 ? VIRTIO_BLK_S_IOERR : (uint8_t)r;
		virtq_write(c, c->write_len - 1, &status, 1);
		virtq_push(q, c->head, written_len(c, type, status));
	}
	virtio_signal_queue(d, index);
	return budget == 0;
}

static void blk_reset(struct virtio_device *d)
{
	((struct virtio_blk *)d)->config.wce = 1;
}

void virtio_blk_retry(struct virtio_blk *b)
{
	atomic_store(&b->held, false);
	for (unsigned i = 0; b->dev.kicks && i < b->dev.queue_count; i++)
		eventfd_write(b->dev.kicks[i], 1);
}

void virtio_blk_resized(struct virtio_blk *b)
{
	b->sectors = b->image->size / VIRTIO_BLK_SECTOR;
	b->config.capacity = htole64(b->sectors);
	virtio_config_changed(&b->dev);
}

static int blk_event(struct virtio_device *d)
{
	struct virtio_blk *b = (struct virtio_blk *)d;

	pthread_mutex_lock(&d->lock);
	if (b->event)
		b->event(b->event_ctx);
	pthread_mutex_unlock(&d->lock);
	return 0;
}

/*
 * Handles a write to the configuration. The driver can only switch its write cache on or off; all
 * else is read-only. Cached data need not become stable at once when the cache is switched off
 * (virtio 5.2.6.2), and a vCPU should not wait for a disk. So this function leaves the flush to the
 * thread that serves the queue, and kicks the queue to wake that thread.
 */
static void blk_configure(struct virtio_device *d, uint32_t offset, const void *data, unsigned len)
{
	struct virtio_blk *b = (struct virtio_blk *)d;
	bool negotiated = d->driver_features & 1ULL << VIRTIO_BLK_F_CONFIG_WCE;
	const uint8_t *on = data;

	if (!negotiated || offset != offsetof(struct virtio_blk_config, wce) || len != 1 || *on > 1)
		return;
	b->config.wce = *on;
	if (*on)
		return;
	atomic_store(&b->flush_owed, true);
	if (d->kicks)
		eventfd_write(d->kicks[0], 1);
}

/*
 * The disk's state in a snapshot: the size of the image in sectors, with which a load compares the
 * image, the switch of the write cache, and whether a flush has failed. The snapshot does not
 * contain the image's data.
 */
struct blk_state {
	uint64_t sectors;
	uint32_t wce, flush_failed;
};

/*
 * Saves the disk's state, and flushes the image before, because after a crash of the host the image
 * must not be older than the snapshot.
 */
static int blk_save(struct virtio_device *d, struct snapshot_writer *w)
{
	struct virtio_blk *b = (struct virtio_blk *)d;

	if (!b->image->read_only && b->image->ops->flush(b->image) < 0)
		return err_set(EIO, "the disk's image could not be flushed");
	atomic_store(&b->flush_owed, false);
	const struct blk_state s = {b->sectors, b->config.wce, atomic_load(&b->flush_failed)};
	return snapshot_put(w, &s, sizeof(s));
}

static int blk_load(struct virtio_device *d, struct snapshot_part *p)
{
	struct virtio_blk *b = (struct virtio_blk *)d;
	struct blk_state s;
	int r = snapshot_get(p, &s, sizeof(s));

	if (r < 0)
		return r;
	if (s.sectors != b->sectors)
		return err_set(ENOTSUP,
			"the snapshot has a disk of %" PRIu64
			" sectors: this machine's has %" PRIu64,
			s.sectors, b->sectors);
	if (s.wce > 1 || s.flush_failed > 1)
		return err_set(EBADMSG, "the state of a disk is not possible");
	b->config.wce = (uint8_t)s.wce;
	atomic_store(&b->flush_failed, s.flush_failed);
	return 0;
}

static const struct virtio_ops ops = {.serve = blk_serve,
	.reset = blk_reset,
	.event = blk_event,
	.configure = blk_configure,
	.save = blk_save,
	.load = blk_load};

/*
 * Reports to the driver the block size that it should align requests to, and the physical block
 * size (virtio 5.2.4).
 */
static void set_topology(struct virtio_blk *b)
{
	const struct blk_image *i = b->image;

	b->config.blk_size = htole32(i->block);
	b->config.physical_block_exp = (uint8_t)__builtin_ctz(i->physical / i->block);
	b->config.min_io_size = htole16((uint16_t)(i->physical / i->block));
	b->config.opt_io_size = htole32(i->optimal / i->block);
	b->config.discard_sector_alignment = htole32(i->discard / VIRTIO_BLK_SECTOR);
}

static uint64_t blk_features(const struct blk_image *i, const struct virtio_blk_options *o)
{
	uint64_t f = 1ULL << VIRTIO_BLK_F_SEG_MAX | 1ULL << VIRTIO_BLK_F_BLK_SIZE |
		     1ULL << VIRTIO_BLK_F_TOPOLOGY;

	if (!o->write_through)
		f |= 1ULL << VIRTIO_BLK_F_FLUSH | 1ULL << VIRTIO_BLK_F_CONFIG_WCE;
	if (o->queues > 1)
		f |= 1ULL << VIRTIO_BLK_F_MQ;
	return f |
	       (i->read_only ? 1ULL << VIRTIO_BLK_F_RO
			     : 1ULL << VIRTIO_BLK_F_DISCARD | 1ULL << VIRTIO_BLK_F_WRITE_ZEROES);
}

int virtio_blk_init(struct virtio_blk *b, const struct vm_memory *m, struct blk_image *image,
	const struct virtio_blk_options *o)
{
	const unsigned queues = o->queues ? o->queues : 1;

	*b = (struct virtio_blk){.image = image,
		.sectors = image->size / VIRTIO_BLK_SECTOR,
		.errors = o->errors,
		.event = o->event,
		.event_ctx = o->event_ctx};
	if (b->sectors == 0 || queues > VIRTIO_QUEUES_MAX)
		return err_set(EINVAL,
			"disk image of %" PRIu64 " bytes with %u queues: expected at least one "
			"sector (%d) and up to %d queues",
			image->size, queues, VIRTIO_BLK_SECTOR, VIRTIO_QUEUES_MAX);
	b->queues = calloc(queues, sizeof(*b->queues));
	if (!b->queues)
		return err_set(ENOMEM, "out of memory for a disk's requests");
	/*
	 * The serial number that the driver reads has 20 bytes, and no NUL if it uses all of them
	 * (virtio 5.2.6).
	 */
	memcpy(b->serial, o->serial, strnlen(o->serial, sizeof(b->serial)));
	b->config = (struct virtio_blk_config){
		.capacity = htole64(b->sectors),
		.seg_max = htole32(SEGMENTS_MAX),
		.wce = 1,
		.num_queues = htole16((uint16_t)queues),
		.max_discard_sectors = htole32(ZEROES_MAX),
		.max_discard_seg = htole32(ZEROES_SEGMENTS_MAX),
		.max_write_zeroes_sectors = htole32(ZEROES_MAX),
		.max_write_zeroes_seg = htole32(ZEROES_SEGMENTS_MAX),
		.write_zeroes_may_unmap = 1,
	};
	set_topology(b);
	b->dev = (struct virtio_device){.ops = &ops,
		.name = "blk",
		.id = VIRTIO_ID_BLOCK,
		.features = blk_features(image, o),
		.config = &b->config,
		.config_len = CONFIG_LEN,
		.changes_config = true,
		.queue_count = queues};
	virtio_init(&b->dev, m);
	if (o->event)
		b->dev.event_fd = o->event_fd;
	return 0;
}

void virtio_blk_release(struct virtio_blk *b)
{
	free(take_ptr(b->queues));
}
