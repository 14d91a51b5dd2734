/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Defines the state of a check. check.c counts the references; check_counts.c compares them with
 * the refcounts and repairs these.
 */
#pragma once
#include "images/disk/qcow2/bitmaps.h"
#include "images/disk/qcow2/snapshots.h"

struct qcow2_checker {
	struct qcow2 *q;
	struct disk_check *c;
	uint32_t **counts; /* an array of counts for each refcount block; NULL: all counts are 0 */
	/*
	 * blocks: entries of `counts`; memory: bytes it takes; end: offset behind the last counted
	 * cluster
	 */
	uint64_t blocks, memory, end;
	uint64_t next_host;
	bool active; /* the tables of the disk itself are checked, not those of a snapshot */
	/* there are references to clusters that the refcount table cannot count */
	bool out_of_bounds;
	/* some tables could not be read, so it is not known which clusters they use */
	bool unreadable;
	/* refcount blocks are missing, or lie in clusters that are used for other things */
	bool damaged;
};

void qcow2_check_report(struct qcow2_checker *k, const char *fmt, ...) printf_like(2, 3);
int qcow2_check_count(struct qcow2_checker *k, uint64_t host, uint64_t length, const char *what)
	must_check;
int qcow2_check_refcounts(struct qcow2_checker *k) must_check;
int qcow2_check_flags(struct qcow2_checker *k) must_check;
