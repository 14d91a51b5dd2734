/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shows the progress of pulls and pushes on standard error. A terminal gets a bar for each blob
 * that is being moved, and a line for all blobs together. A file or pipe gets a line for each
 * finished blob. With --json, JSON objects are printed, and with --quiet nothing.
 */
#pragma once
#include <pthread.h>

#include "image/progress.h"
#include "images/oci/transfer.h"

struct transfer_bar {
	bool used;
	size_t index;
	uint64_t size, done;
	char name[20]; /* the first digits of the blob's digest */
};

struct transfer_progress {
	enum progress_form form;
	const char *where; /* place that may have a blob already: "the store" or "the registry" */
	size_t blobs, blobs_done;
	uint64_t all, done; /* bytes of all blobs together, and how many of them are done */
	/*
	 * number of bytes that were really moved; blobs that the destination had already do not
	 * count
	 */
	uint64_t moved;
	/* times in ms: when the transfer started, and when progress was last shown */
	int64_t started, shown;
	struct transfer_bar bars[TRANSFER_JOBS_MAX];
	pthread_mutex_t lock;
	unsigned lines; /* number of lines of bars that the terminal shows now */
};

void transfer_progress_init(struct transfer_progress *p, bool json, bool quiet, const char *where);
struct transfer_listener transfer_progress_listener(struct transfer_progress *p);
/* Removes the progress bars from the terminal. */
void transfer_progress_end(struct transfer_progress *p);
