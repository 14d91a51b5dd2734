/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMDK, the format of VMware, read-only. Source: VMware's "Virtual Disk Format 5.0".
 *
 * A text, the descriptor, lists the files ("extents") whose contents together are the disk, in this
 * order. An extent is flat (plain bytes), sparse (grains, found through a grain directory and grain
 * tables), or zeros without a file. The descriptor is a file of its own, or is embedded in the only
 * sparse extent. In a sparse extent all numbers are little-endian, and file offsets are given in
 * sectors of 512 bytes.
 */
#pragma once
#include "images/disk/format.h"

#define VMDK_SECTOR 512
#define VMDK_HEADER 79
/*
 * bytes of the marker before each compressed grain: the grain's sector and the length of its data
 */
#define VMDK_MARKER 12
#define VMDK_ENTRIES_MAX 512       /* number of entries that a grain table may have */
#define VMDK_NO_PARENT 0xffffffffu /* value of parent_cid if the image has no parent */

enum vmdk_kind { VMDK_FLAT, VMDK_SPARSE, VMDK_ZERO };

struct vmdk_extent {
	enum vmdk_kind kind;
	uint64_t start, length; /* range of the disk in bytes */
	/* name of the extent's file, as the descriptor writes it; NULL: the image file itself */
	char *name;
	/*
	 * descriptor of the extent's file; the extent closes it if the extent has a name; -EBADF
	 * for VMDK_ZERO
	 */
	int fd;
	uint64_t file_size; /* size of the file in bytes */
	uint64_t offset;    /* VMDK_FLAT: file offset of the extent's first byte */

	/* The members from here on are for VMDK_SPARSE. */
	uint64_t directory; /* offset of the grain directory in the file */
	uint64_t copy;      /* offset of the grain directory's copy in the file; 0: there is none */
	uint64_t descriptor, descriptor_size; /* place of the embedded descriptor in the file */
	uint64_t overhead; /* how many bytes at the beginning of the file are for the structures */
	uint32_t tables;   /* number of entries of the grain directory */
	uint32_t entries;  /* number of entries of a grain table */
	uint32_t grain;    /* size of a grain in bytes */
	bool zero_grains;  /* whether a table entry of 1 means a grain of zeros */
	bool compressed;
};

struct vmdk {
	struct vmdk_extent *extents;
	size_t n;
	/* the value of createType in the descriptor; "" if the image has no descriptor */
	char create_type[32];
	/*
	 * content ids of this image and of its parent; programs change an image's id when they
	 * write to it
	 */
	uint32_t cid, parent_cid;
	char *parent; /* name of the parent's file; NULL: the image has no parent */
};

/*
 * Parses the descriptor, a text of len bytes that is followed by a zero byte. Adds the extents that
 * the descriptor lists to v without opening them. If the descriptor is embedded in a sparse extent,
 * its extent lines are ignored.
 */
int vmdk_parse_descriptor(struct disk *d, struct vmdk *v, const char *text, bool embedded)
	must_check;

/*
 * Reads the header of the sparse extent in e->fd. If e->length is 0, sets it to the length that the
 * header gives. If there is no embedded descriptor, e->descriptor_size is 0.
 */
int vmdk_sparse_open(struct disk *d, struct vmdk_extent *e) must_check;

/* Returns the name of the extent's file for messages. */
const char *vmdk_file_of(const struct disk *d, const struct vmdk_extent *e);

/*
 * Checks that the first `length` bytes of the grain table at the file offset `table` are in the
 * file. Entry number i of the grain directory names the table.
 */
int vmdk_check_table(struct disk *d, const struct vmdk_extent *e, uint64_t i, uint64_t table,
	uint64_t length) must_check;

/*
 * Checks that the first `length` bytes of the grain at the file offset `host` are in the file, or
 * if it is compressed, its marker.
 */
int vmdk_check_grain(struct disk *d, const struct vmdk_extent *e, uint64_t grain, uint64_t host,
	uint64_t length) must_check;

/*
 * Reads the marker of the compressed grain at the file offset `host`. *ret_size is the number of
 * bytes behind the marker, and *ret_sector the first sector of the extent that they hold.
 */
int vmdk_read_marker(struct disk *d, const struct vmdk_extent *e, uint64_t host, uint32_t *ret_size,
	uint64_t *ret_sector) must_check;

/* The greatest number of bytes that a compressed grain may have. */
static inline uint32_t vmdk_packed_max(const struct vmdk_extent *e)
{
	return 2 * e->grain + 1024;
}

/*
 * Does what disk_map() does, within one sparse extent. offset is in bytes from the beginning of the
 * extent.
 */
int vmdk_sparse_map(struct disk *d, const struct vmdk_extent *e, uint64_t offset,
	struct disk_extent *ret) must_check;

/* Reads bytes of one compressed grain. All bytes of one call lie within that grain. */
int vmdk_sparse_unpack(struct disk *d, const struct vmdk_extent *e, uint64_t offset, void *buf,
	size_t len) must_check;

int vmdk_check(struct disk *d, struct disk_check *c) must_check;
