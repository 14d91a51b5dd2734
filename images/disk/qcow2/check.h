/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Defines the state of a check. check.c counts the references; check_counts.c compares the numbers
 * of references with the refcounts, and repairs the refcounts.
 */
#pragma once
#include "images/disk/qcow2/bitmaps.h"
#include "images/disk/qcow2/snapshots.h"

struct qcow2_checker {
	struct qcow2 *q;
	struct disk_check *c;
	/*
	 * for each refcount block an array with the number of references found to each cluster that
	 * the block counts; NULL: no references to these clusters
	 */
	uint32_t **counts;
	/*
	 * blocks: number of arrays in `counts`; memory: bytes that `counts` takes; end: file offset
	 * behind the last cluster with a reference
	 */
	uint64_t blocks, memory, end;
	uint64_t next_host;
	/*
	 * whether the check is at the tables of the disk's present state, and not at those of a
	 * snapshot
	 */
	bool active;
	/* there are references to clusters beyond those that the refcount table can count */
	bool out_of_bounds;
	/* some tables could not be read, so the check does not know which clusters they use */
	bool unreadable;
	/* refcount blocks are missing, or lie in clusters that are used for other things */
	bool damaged;
};

void qcow2_check_report(struct qcow2_checker *k, const char *fmt, ...) printf_like(2, 3);
int qcow2_check_count(struct qcow2_checker *k, uint64_t host, uint64_t length, const char *what)
	must_check;
int qcow2_check_refcounts(struct qcow2_checker *k) must_check;
int qcow2_check_flags(struct qcow2_checker *k) must_check;
