/* SPDX-License-Identifier: Apache-2.0 */
/* The table of internal snapshots, for what takes them and for what counts their clusters. */
#pragma once
#include "images/disk/qcow2/internal.h"

#define QCOW2_SNAPSHOT_EXTRA 24 /* bytes of extra data that we write */

/* Bytes of the first n entries in the file. */
uint64_t qcow2_snapshots_length(const struct qcow2_snapshots *s, size_t n);

/* Adds one entry as it is in the file. */
int qcow2_snapshot_format(const struct qcow2_snapshot *s, struct strbuf *out) must_check;
