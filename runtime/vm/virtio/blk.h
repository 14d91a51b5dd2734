/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block device (virtio 1.2, 5.2): it checks the driver's requests and passes them on to an
 * image. A struct blk_image says how the device reads and writes an image; blk_file.h has the
 * images that are raw files or block devices. A vhost-user back end (vhost/back.h) has an image of
 * its own and the same device.
 *
 *	an image's own init, which fills a struct blk_image
 *	virtio_blk_init(&b, memory, &image, &options)
 *	virtio_blk_release(&b)
 *
 * The caller owns the image and keeps it until virtio_blk_release().
 *
 * A thread that serves a queue serves one request after the other. With several queues, several
 * threads may serve one device at a time (vhost_serve_threads()), and then the functions of the
 * image run at the same time too.
 *
 * A request that has failed may be held (blk_errors): the device gives the request back to the ring
 * as if it had never taken it, and serves no queue until virtio_blk_retry(). So a held request is
 * part of the ring's state, survives a stop of the queue and a snapshot, and is done again from its
 * beginning, which is harmless, because the driver does not know yet that it was begun.
 */
#pragma once
#include <linux/virtio_blk.h>
#include <stdatomic.h>

#include "vm/virtio/blk_control.h"
#include "vm/virtio/device.h"

#define VIRTIO_BLK_SECTOR 512

struct blk_image;

/*
 * Says what an image can do. Offsets and lengths are in bytes, whole sectors, and within the image.
 * The functions that change the image are never called if it is read-only. All functions return 0
 * or -errno, which decides whether the request is held. An error message is optional, because the
 * driver only learns that the request has failed.
 */
struct blk_image_ops {
	/*
	 * read() fills all the buffers, and write() writes all bytes in them. Both may change the
	 * entries of `iov`, of which there are VIRTQ_CHAIN_MAX at most.
	 */
	int (*read)(struct blk_image *i, struct iovec *iov, unsigned n, uint64_t offset);
	int (*write)(struct blk_image *i, struct iovec *iov, unsigned n, uint64_t offset);
	/*
	 * Makes the range of `length` bytes at `offset` read as zeros. With `unmap` the image may
	 * free the storage of the range.
	 */
	int (*zero)(struct blk_image *i, uint64_t offset, uint64_t length, bool unmap);
	/*
	 * Tells the image that the driver no longer needs the `length` bytes at `offset`. An image
	 * may ignore this.
	 */
	int (*discard)(struct blk_image *i, uint64_t offset, uint64_t length);
	/* Makes all earlier writes durable. */
	int (*flush)(struct blk_image *i);
};

struct blk_image {
	const struct blk_image_ops *ops;
	/*
	 * size of the image in bytes; the driver does not see what is behind the last whole sector
	 */
	uint64_t size;
	bool read_only;
	/* powers of two, in bytes: size of a block for the driver, and of a block of the storage */
	uint32_t block, physical;
	uint32_t optimal; /* best length of a transfer in bytes; 0: the image does not know */
	uint32_t discard; /* alignment in bytes at which a discard frees storage */
};

struct virtio_blk_options {
	/* the serial number that the driver reads, up to 20 bytes; never NULL */
	const char *serial;
	unsigned queues; /* number of queues; 0: one */
	/*
	 * The device has no write cache: a write is durable before the driver learns that it is
	 * done, and the driver cannot switch a cache on.
	 */
	bool write_through;
	struct blk_errors errors;
	/*
	 * a descriptor that the thread which serves the device polls, and what it calls when the
	 * descriptor is readable, with the device's lock held; `event` NULL: none
	 */
	int event_fd;
	void (*event)(void *ctx);
	void *event_ctx;
};

struct blk_queue; /* the request that a queue serves now */

struct virtio_blk {
	struct virtio_device dev;
	struct virtio_blk_config config;
	struct blk_image *image;
	uint64_t sectors;
	struct blk_errors errors;
	void (*event)(void *ctx);
	void *event_ctx;
	/* requests are held after an error, and no queue is served */
	atomic_bool held;
	/* the driver has switched the cache off, and serve() still has to flush it */
	atomic_bool flush_owed;
	/*
	 * the flush after switching the cache off has failed; the next request that needs stable
	 * storage reports it
	 */
	atomic_bool flush_failed;
	char serial[VIRTIO_BLK_ID_BYTES];
	struct blk_queue *queues; /* the present requests, one for each queue */
};

/*
 * Makes a block device of the image. `m` is NULL in a vhost-user back end. Returns -EINVAL if the
 * image has no whole sector.
 */
int virtio_blk_init(struct virtio_blk *b, const struct vm_memory *m, struct blk_image *image,
	const struct virtio_blk_options *o) must_check;
void virtio_blk_release(struct virtio_blk *b);
/*
 * Ends the time in which the device holds requests, and kicks all queues if the transport has
 * kicks. Any thread may call this.
 */
void virtio_blk_retry(struct virtio_blk *b);
/*
 * Tells the driver the image's new size, which the caller has put into the image. The caller holds
 * the device's lock, and no thread serves the device meanwhile.
 */
void virtio_blk_resized(struct virtio_blk *b);
