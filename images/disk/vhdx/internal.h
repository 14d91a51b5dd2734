/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VHDX, the format of Hyper-V, read-only. Source: Microsoft's [MS-VHDX], version 8.0.
 *
 * The file begins with an identifier, two headers of which the newer one is valid, and two copies
 * of the region table, which says where the block allocation table (BAT) and the metadata are. A
 * log holds changes of these structures that the last writer may not have written to the
 * structures' places yet. If the log is not empty, this code applies the changes in memory only: it
 * reads a page from the log instead of the file if the log has that page. All numbers are
 * little-endian.
 */
#pragma once
#include "images/disk/format.h"

#define VHDX_PAGE 4096u /* size of a page in bytes, the unit of the log */
#define VHDX_MIB (1u << 20)

/* Values of a block's state in the BAT. */
enum { VHDX_NOT_PRESENT, VHDX_UNDEFINED, VHDX_ZERO, VHDX_UNMAPPED, VHDX_PRESENT = 6 };

/*
 * Bits 0 to 2 of a BAT entry are the state. Bits 20 to 63 are the file offset in MiB, so the masked
 * entry is the offset in bytes.
 */
#define VHDX_STATE 7ull
#define VHDX_OFFSET (~(uint64_t)(VHDX_MIB - 1))

/* A page of the file that the log changes. */
struct vhdx_page {
	uint64_t at; /* offset of the page in the file, a multiple of VHDX_PAGE */
	uint8_t *bytes;
};

struct vhdx {
	uint64_t file_size; /* size of the file in bytes */
	uint64_t log_at, log_size;
	uint8_t log_guid[16]; /* id of the log; all zeros: the log is empty */
	/* the pages that the log changes, sorted by `at`; no two pages have the same `at` */
	struct vhdx_page *pages;
	size_t n_pages;

	uint64_t bat_at, bat_size; /* offset and size of the BAT in the file, in bytes */
	/* offset and size of the metadata in the file, in bytes */
	uint64_t metadata_at, metadata_size;
	uint32_t block_size; /* size of a block in bytes */
	/* size in bytes of a sector of the disk, as the guest sees it */
	uint32_t sector_size;
	/* number of blocks between two sector bitmaps in the BAT */
	uint64_t chunk_ratio;
};

static inline struct vhdx *vhdx_of(const struct disk *d)
{
	return d->state;
}

/*
 * Returns the CRC-32C (Castagnoli) of len bytes. The four bytes at `field`, which hold the checksum
 * itself, count as zeros; len is at least field + 4.
 */
uint32_t vhdx_crc(const uint8_t *p, size_t len, size_t field);

/*
 * Reads the log and stores the pages that the log changes in v->pages. Does nothing if the log is
 * empty.
 */
int vhdx_read_log(struct disk *d) must_check;

/*
 * Reads bytes of the file with the changes of the log applied. All structures are read with this
 * function, but not the disk's data.
 */
int vhdx_read_meta(struct disk *d, void *buf, size_t len, uint64_t offset, const char *what)
	must_check;

/*
 * Finds where in the file the block is that the BAT entry at the file offset `at` names. `used` is
 * how many bytes of the block the disk has.
 */
int vhdx_find_block(struct disk *d, uint64_t at, uint64_t entry, uint64_t used, uint64_t *ret)
	must_check;

int vhdx_check(struct disk *d, struct disk_check *c) must_check;
