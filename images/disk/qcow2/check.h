/* SPDX-License-Identifier: Apache-2.0 */
/* A check under way: check.c counts, check_counts.c compares and repairs. */
#pragma once
#include "images/disk/qcow2/bitmaps.h"
#include "images/disk/qcow2/snapshots.h"

struct qcow2_checker {
	struct qcow2 *q;
	struct disk_check *c;
	uint32_t **counts; /* for each refcount block's clusters; NULL: all 0 */
	uint64_t blocks, memory, end /* behind the last cluster that is counted */;
	uint64_t next_host;
	bool active;        /* the disk's own tables are looked at, not a snapshot's */
	bool out_of_bounds; /* something lies where the table has no refcounts */
	bool unreadable;    /* tables could not be read: what they use is not known */
	bool damaged;       /* refcount blocks are missing, or lie on other things */
};

void qcow2_check_report(struct qcow2_checker *k, const char *fmt, ...) printf_like(2, 3);
int qcow2_check_count(struct qcow2_checker *k, uint64_t host, uint64_t length, const char *what)
	must_check;
int qcow2_check_refcounts(struct qcow2_checker *k) must_check;
int qcow2_check_flags(struct qcow2_checker *k) must_check;
