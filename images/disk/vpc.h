/* SPDX-License-Identifier: Apache-2.0 */
/* Declares what vpc.c, which reads VHD images, shares with vpc_check.c. */
#pragma once
#include "images/disk/format.h"

#define VPC_SECTOR 512
#define VPC_FOOTER_SIZE 512
#define VPC_HEADER_SIZE 1024
#define VPC_UNUSED 0xffffffffu

enum { VPC_FIXED = 2, VPC_DYNAMIC = 3, VPC_DIFFERENCING = 4 };

struct vpc {
	uint32_t type;
	uint64_t file_size;  /* size of the file in bytes */
	uint64_t header;     /* offset of the header in the file */
	uint64_t table;      /* offset of the block table in the file */
	uint32_t blocks;     /* number of entries of the block table */
	uint32_t block_size; /* how many bytes of the disk a block has */
	/* size in bytes of the sector bitmap before each block, a multiple of a sector */
	uint32_t bitmap_size;
	uint8_t uuid[16], parent_uuid[16];
	bool has_footer; /* whether a check has found the footer at the end of the file */
	/*
	 * name of the parent's file relative to the image's folder; NULL: the image has no parent
	 */
	char *parent;
};

/* Says whether the bytes are a footer with the right checksum. */
bool vpc_footer_is_good(const uint8_t *f);

/* Finds where in the file the block is, with its sector bitmap, that the table entry names. */
int vpc_find_block(struct disk *d, uint64_t block, uint32_t entry, uint64_t *ret) must_check;

int vpc_check(struct disk *d, struct disk_check *c) must_check;
