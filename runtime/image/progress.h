/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Progress on standard error: one line that is written anew on a terminal, one line a layer
 * elsewhere, JSON objects with --json, or nothing.
 */
#pragma once
#include "images/oci/image.h"

enum progress_form { PROGRESS_NONE, PROGRESS_LINES, PROGRESS_TERMINAL, PROGRESS_JSON };

struct progress {
	enum progress_form form;
	size_t index, count;
	uint64_t size, done, all_done, all;
	int64_t started, shown; /* ms */
	char name[20];          /* the first digits of the layer's digest */
};

/* json, quiet: what the user asked for. all: the bytes of all layers. */
void progress_init(struct progress *p, bool json, bool quiet, uint64_t all);
/* The functions of struct unpack_progress; data is the struct progress. */
void progress_layer(void *data, size_t index, size_t count, const struct descriptor *d);
void progress_bytes(void *data, uint64_t done);
/* Ends the line of a terminal. */
void progress_end(struct progress *p);
