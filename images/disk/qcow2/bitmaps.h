/* SPDX-License-Identifier: Apache-2.0 */
/* The bitmap directory, for what keeps bitmaps and for what counts their clusters. */
#pragma once
#include "images/disk/qcow2/internal.h"

struct qcow2_bitmap {
	uint64_t entry_offset, length; /* of the directory's entry, in the file */
	uint64_t table_offset;
	uint32_t table_size, flags, extra_length;
	unsigned type, granularity_bits, name_length;
	const char *name; /* name_length bytes; only while the callback runs */
};

/* Calls f for each bitmap until it returns other than 0, which is returned. */
int qcow2_bitmaps_each(struct qcow2 *q,
	int (*f)(void *data, struct qcow2 *q, const struct qcow2_bitmap *b), void *data) must_check;
