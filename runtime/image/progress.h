/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shows progress on standard error: on a terminal one line that is rewritten, elsewhere one line
 * per layer, JSON objects with --json, or nothing.
 */
#pragma once
#include "images/oci/image.h"

enum progress_form { PROGRESS_NONE, PROGRESS_LINES, PROGRESS_TERMINAL, PROGRESS_JSON };

struct progress {
	enum progress_form form;
	size_t index, count;
	uint64_t size, done, all_done, all;
	/* times in ms: when the work started, and when progress was last shown */
	int64_t started, shown;
	char name[20]; /* name of the layer: the first digits of its digest */
};

/*
 * Initializes *p. json and quiet are the caller's options. all is the number of bytes in all
 * layers.
 */
void progress_init(struct progress *p, bool json, bool quiet, uint64_t all);
/* The functions for struct unpack_progress; their argument data is the struct progress. */
void progress_layer(void *data, size_t index, size_t count, const struct descriptor *d);
void progress_bytes(void *data, uint64_t done);
/* Ends the progress line on a terminal. */
void progress_end(struct progress *p);
