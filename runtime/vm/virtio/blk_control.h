/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a block device does when its image cannot be read or written, and the messages between
 * caisson-disk, which serves an image in a process of its own, and the microVM's monitor. The
 * messages go over a socket of the type SOCK_SEQPACKET.
 */
#pragma once
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

/* what happens after an error of the image; the names and meanings are those of QEMU's werror */
enum blk_on_error {
	BLK_ERROR_REPORT, /* the guest sees an I/O error */
	/* the request is held, and the machine pauses until its user lets it go on */
	BLK_ERROR_STOP,
	BLK_ERROR_ENOSPC, /* like BLK_ERROR_STOP if the host has no space left, else a report */
};

struct blk_errors {
	enum blk_on_error write, read;
	/*
	 * The thread that serves the queue calls this when the device begins to hold requests.
	 * `error` is a positive errno. NULL: no request is ever held.
	 */
	void (*held)(void *ctx, int error, bool write);
	void *ctx;
};

/* Says whether a request that failed with the positive errno `error` has to be held. */
static inline bool blk_must_hold(enum blk_on_error policy, int error)
{
	return policy == BLK_ERROR_STOP || (policy == BLK_ERROR_ENOSPC && error == ENOSPC);
}

#define BLK_WHY_MAX 256

enum blk_message_type {
	BLK_HELD = 1, /* to the monitor: the device holds requests because of `error` */
	BLK_RETRY,    /* to caisson-disk: serve the held requests again */
	BLK_RESIZE,   /* to caisson-disk: make the disk `size` bytes large */
	/* to the monitor: BLK_RESIZE is done, or `error` and `why` say why not */
	BLK_RESIZED,
	/*
	 * to the monitor, the last message: caisson-disk ends, and all that the guest wrote is in
	 * the image, or `error` and `why` say why not
	 */
	BLK_ENDED,
};

struct blk_message {
	uint32_t type;
	uint32_t write; /* 1: a write has failed, 0: a read */
	int32_t error;  /* a positive errno, or 0 */
	uint32_t unused;
	uint64_t size;
	char why[BLK_WHY_MAX]; /* error message */
};
