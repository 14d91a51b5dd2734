/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks the tables of the formats that caisson only reads. A table has an entry for each block of
 * the disk, which says where in the file the block is. The check finds entries that point out of
 * the file, at other structures or at a block that another entry uses, and parts of the file that
 * no entry uses (leaks).
 *
 * A bit for each unit of the file says whether something uses the unit. Only the bits of one window
 * of the file are in memory at a time, so that the check of an image of any size takes the same
 * memory. The table is read once for each window that entries point into.
 */
#pragma once
#include "images/disk/format.h"

struct table_check {
	struct disk *d;
	struct disk_check *c;
	int fd; /* the file that is checked */
	uint64_t file_size;

	const char *name; /* name of the table in messages */
	uint64_t table;   /* offset of the table in the file */
	uint64_t entries; /* number of entries of the table */
	size_t entry_size;
	/* reads bytes of the table; NULL: the bytes are read from `fd` */
	int (*read)(struct disk *d, void *buf, size_t len, uint64_t offset, const char *what);

	uint64_t unit;  /* bytes that a bit stands for */
	uint64_t shift; /* how many bytes before the beginning of the file the first unit begins */
	/* unused parts of the file are leaks from this offset on, if they have a whole block */
	uint64_t blocks_at;
	/*
	 * whether parts before the first used block are no leaks, because the format does not say
	 * where the first block is
	 */
	bool skip_begin;
	uint64_t block; /* bytes that a block takes in the file */

	/* calls table_check_take() for each structure besides the table's blocks; may be NULL */
	int (*fixed)(struct table_check *k);
	/* checks the entry number i, whose bytes are at `raw` */
	int (*entry)(struct table_check *k, uint64_t i, const uint8_t *raw);
	/* how often the entries are visited in a window; 0 means once */
	unsigned rounds;
	void *data; /* for fixed() and entry() */

	/* The members from here on are for the check itself. entry() may read the first two. */
	unsigned round;
	bool later; /* faults are known from the first window, only overlaps are looked for now */
	uint8_t *bits;
	uint64_t first, n; /* first unit of the window, and number of units */
	uint64_t next;     /* first unit behind the window that something uses */
	uint64_t gap;      /* the unit behind the last used one */
	uint64_t lowest;   /* the lowest offset of a block; UINT64_MAX: there is no block */
	uint64_t follows;  /* offset behind the block of the disk that was seen last; 0: none */
};

/* Checks the table. Returns -errno if the check could not be done. */
int table_check_run(struct table_check *k) must_check;

/* Counts a fault, and reports it with a text. */
void table_check_fault(struct table_check *k, const char *fmt, ...) printf_like(2, 3);
/* Counts a fault whose text is the error message that is set, and clears the message. */
void table_check_fault_set(struct table_check *k);

/*
 * Marks bytes of the file as used. If some of them are used already, this is a fault of entry
 * number i of `what`.
 */
void table_check_take(
	struct table_check *k, const char *what, uint64_t i, uint64_t at, uint64_t length);
/* Marks bytes of the file as used, whether they are used already or not. */
void table_check_keep(struct table_check *k, uint64_t at, uint64_t length);
/* Counts a block of the disk, for the statistics. */
void table_check_count(struct table_check *k, uint64_t at, uint64_t length);
/*
 * Says whether what begins at `at` and has up to `max` bytes is of no interest for this window, so
 * that its length need not be found out.
 */
bool table_check_skips(struct table_check *k, uint64_t at, uint64_t max);
