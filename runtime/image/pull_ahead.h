/* SPDX-License-Identifier: Apache-2.0 */
/* Starts and ends the process that unpacks an image while this one pulls it. */
#pragma once
#include "image/image.h"

struct pull_ahead {
	pid_t pid; /* 0: there is no process */
	int pipe;  /* the end for writing of the pipe that images/oci/follow.h describes */
};

#define PULL_AHEAD_INIT \
	{ \
		.pipe = -EBADF \
	}

/*
 * Starts the process for the image whose manifest, or index, the store has. If there is none to
 * start, nothing is unpacked ahead.
 */
void pull_ahead_start(struct pull_ahead *p, const struct image_globals *g, const struct store *s,
	const struct digest *manifest);

/*
 * Waits until the process has unpacked the rest, if all blobs are there (`complete`), or else until
 * it has given up.
 */
void pull_ahead_end(struct pull_ahead *p, bool complete);
