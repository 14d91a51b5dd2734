/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declares the functions for the table of internal snapshots. snapshot.c uses them to change
 * snapshots, check.c to count the clusters of snapshots.
 */
#pragma once
#include "images/disk/qcow2/internal.h"

/* size in bytes of the extra data that caisson writes for a snapshot */
#define QCOW2_SNAPSHOT_EXTRA 24

/*
 * Returns the number of bytes that the first n entries of the snapshot table take in the image
 * file.
 */
uint64_t qcow2_snapshots_length(const struct qcow2_snapshots *s, size_t n);

/* Appends one entry of the snapshot table to *out, in the on-disk format. */
int qcow2_snapshot_format(const struct qcow2_snapshot *s, struct strbuf *out) must_check;
