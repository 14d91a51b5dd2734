/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VHDX, the format of Hyper-V, read-only. Source: Microsoft's [MS-VHDX], version 8.0.
 *
 * The file begins with an identifier, two headers of which the newer one counts, and two copies of
 * the region table, which says where the block allocation table (BAT) and the metadata are. A log
 * holds changes of these structures that the last writer may not have made yet. An image whose log
 * is not empty is read as if they were made: the log's pages lie over the file's, in memory only.
 * All numbers are little-endian.
 */
#pragma once
#include "images/disk/format.h"

#define VHDX_PAGE 4096u /* bytes: the unit of the log */
#define VHDX_MIB (1u << 20)

/* A change that the log holds for one page of the file. */
struct vhdx_page {
	uint64_t at; /* offset in the file, a multiple of VHDX_PAGE */
	uint8_t *bytes;
};

struct vhdx {
	uint64_t file_size; /* bytes */
	uint64_t log_at, log_size;
	uint8_t log_guid[16];    /* all zeros: the log is empty */
	struct vhdx_page *pages; /* sorted by `at`; no two are the same */
	size_t n_pages;

	uint64_t bat_at, bat_size;           /* bytes */
	uint64_t metadata_at, metadata_size; /* bytes */
	uint32_t block_size;                 /* bytes */
	uint32_t sector_size;                /* bytes; of the disk, as the guest sees it */
	uint64_t chunk_ratio;                /* blocks between two sector bitmaps in the BAT */
};

static inline struct vhdx *vhdx_of(const struct disk *d)
{
	return d->state;
}

/* CRC-32C (Castagnoli) of len bytes, of which those of the four at `field` count as zeros. */
uint32_t vhdx_crc(const uint8_t *p, size_t len, size_t field);

/* Reads the log, and keeps what it holds. Does nothing if it is empty. */
int vhdx_read_log(struct disk *d) must_check;

/* Reads the file with the log's changes: for everything but the disk's own bytes. */
int vhdx_read_meta(struct disk *d, void *buf, size_t len, uint64_t offset, const char *what)
	must_check;
