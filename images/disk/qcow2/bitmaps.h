/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the bitmap directory. bitmaps.c uses it to maintain bitmaps, check.c to count their
 * clusters.
 */
#pragma once
#include "images/disk/qcow2/internal.h"

struct qcow2_bitmap {
	/* place of this entry in the file, and its length in bytes */
	uint64_t entry_offset, length;
	uint64_t table_offset;
	uint32_t table_size, flags, extra_length;
	unsigned type, granularity_bits, name_length;
	const char *name; /* name_length bytes without a NUL; valid only during the callback */
};

/* Calls f for each bitmap of the image. Stops and returns f's result if that is not 0. */
int qcow2_bitmaps_each(struct qcow2 *q,
	int (*f)(void *data, struct qcow2 *q, const struct qcow2_bitmap *b), void *data) must_check;
