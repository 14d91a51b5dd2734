/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMDK, the format of VMware, read-only. Source: VMware's "Virtual Disk Format 5.0".
 *
 * A text, the descriptor, lists the files ("extents") that hold the disk one after the other. An
 * extent is flat (plain bytes), sparse (grains, found through a grain directory and grain tables),
 * or zeros without a file. The descriptor is a file of its own, or is embedded in the only sparse
 * extent. In a sparse extent all numbers are little-endian, and places are sectors of 512 bytes.
 */
#pragma once
#include "images/disk/format.h"

#define VMDK_SECTOR 512
#define VMDK_NO_PARENT 0xffffffffu /* as a CID */

enum vmdk_kind { VMDK_FLAT, VMDK_SPARSE, VMDK_ZERO };

struct vmdk_extent {
	enum vmdk_kind kind;
	uint64_t start, length; /* bytes of the disk */
	char *name;             /* file, as the descriptor has it; NULL: the image itself */
	int fd;                 /* the extent owns it, if it has a name; -EBADF for VMDK_ZERO */
	uint64_t file_size;     /* bytes */
	uint64_t offset;        /* VMDK_FLAT: of the extent's first byte in the file */

	/* VMDK_SPARSE: */
	uint64_t directory; /* offset of the grain directory in the file */
	uint32_t tables;    /* entries of the grain directory */
	uint32_t entries;   /* entries of a grain table */
	uint32_t grain;     /* bytes */
	bool zero_grains;   /* a table entry of 1 means a grain of zeros */
	bool compressed;
};

struct vmdk {
	struct vmdk_extent *extents;
	size_t n;
	char create_type[32];     /* "" if the image has no descriptor */
	uint32_t cid, parent_cid; /* change with the content */
	char *parent;             /* the parent's file; NULL: none */
};

/*
 * Parses the descriptor, which is text of len bytes, and ends with a zero byte behind them. Adds
 * its extents to v, without opening them; an embedded descriptor's extent lines are passed over.
 */
int vmdk_parse_descriptor(struct disk *d, struct vmdk *v, const char *text, bool embedded)
	must_check;

/*
 * Reads the sparse header of e->fd. *ret_descriptor, *ret_descriptor_size: bytes; 0 if it has none.
 * If e->length is 0, the header decides it.
 */
int vmdk_sparse_open(struct disk *d, struct vmdk_extent *e, uint64_t *ret_descriptor,
	uint64_t *ret_descriptor_size) must_check;

/* disk_map() within one sparse extent. offset: bytes from the extent's beginning. */
int vmdk_sparse_map(struct disk *d, const struct vmdk_extent *e, uint64_t offset,
	struct disk_extent *ret) must_check;

/* Reads bytes of one compressed grain. */
int vmdk_sparse_unpack(struct disk *d, const struct vmdk_extent *e, uint64_t offset, void *buf,
	size_t len) must_check;
