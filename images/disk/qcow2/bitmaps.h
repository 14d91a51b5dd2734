/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the bitmap directory of an image. bitmaps.c uses it to maintain bitmaps, check.c to count
 * the clusters of bitmaps.
 */
#pragma once
#include "images/disk/qcow2/internal.h"

struct qcow2_bitmap {
	/* place of the bitmap's directory entry in the file, and length of the entry in bytes */
	uint64_t entry_offset, length;
	uint64_t table_offset;
	uint32_t table_size, flags, extra_length;
	unsigned type, granularity_bits, name_length;
	/*
	 * the bitmap's name, which has name_length bytes and no NUL; valid only during the callback
	 */
	const char *name;
};

/*
 * Calls f for each bitmap of the image. If f returns anything but 0, stops and returns that result.
 */
int qcow2_bitmaps_each(struct qcow2 *q,
	int (*f)(void *data, struct qcow2 *q, const struct qcow2_bitmap *b), void *data) must_check;

/* Adds an array with the facts of each bitmap. If the directory is damaged, adds why instead. */
int qcow2_bitmap_facts(struct qcow2 *q, struct disk_info *i) must_check;
