/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shows the progress of pulls and pushes on standard error. A terminal gets a bar for each blob
 * that is being moved and a line for all. Anything else gets a line for each finished blob, JSON
 * objects with --json, or nothing.
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
	uint64_t all, done;     /* bytes */
	uint64_t moved;         /* bytes of blobs that were not there already */
	int64_t started, shown; /* ms */
	struct transfer_bar bars[TRANSFER_JOBS_MAX];
	pthread_mutex_t lock;
	unsigned lines; /* number of lines that the terminal shows now */
};

void transfer_progress_init(struct transfer_progress *p, bool json, bool quiet, const char *where);
struct transfer_listener transfer_progress_listener(struct transfer_progress *p);
/* Removes the bars from the terminal. */
void transfer_progress_end(struct transfer_progress *p);
