/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts and ends the process `caisson-image ahead`, which unpacks an image while caisson-registry
 * pulls it.
 */
#pragma once
#include "image/image.h"

struct pull_ahead {
	pid_t pid; /* process id of `caisson-image ahead`; 0: the process does not run */
	int pipe;  /* the end for writing of the pipe that images/oci/follow.h describes */
};

#define PULL_AHEAD_INIT \
	{ \
		.pipe = -EBADF \
	}

/*
 * Starts `caisson-image ahead` for the image whose manifest or index, which the store has already,
 * is `manifest`. If the process cannot be started, the image is not unpacked during the pull, and
 * nothing is reported as an error.
 */
void pull_ahead_start(struct pull_ahead *p, const struct image_globals *g, const struct store *s,
	const struct digest *manifest);

/*
 * Ends the work of `caisson-image ahead`. If `complete` is set, all blobs are in the store, and the
 * function waits until the process has unpacked the rest; otherwise it makes the process give up,
 * and waits for its end.
 */
void pull_ahead_end(struct pull_ahead *p, bool complete);
