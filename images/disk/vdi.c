/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VDI, the format of VirtualBox, version 1.1: dynamic and fixed images, read-only.
 *
 * The file is a header, a table with one 32-bit number for each block of the disk, and the blocks
 * in any order. All numbers are little-endian. A table entry is read when the block is needed, so
 * that an image of any size takes the same memory, and the same time to open.
 */
#include "images/disk/check.h"

/* how many bytes of the header this code reads; VirtualBox reserves 512 bytes */
#define HEADER_SIZE 400
#define SIGNATURE 0xbeda107f
#define VERSION_1_1 0x00010001
#define SECTOR 512
#define BLOCK_SIZE_MAX (256u << 20)

enum { TYPE_DYNAMIC = 1, TYPE_FIXED = 2 };
enum { BLOCK_FREE = 0xffffffff, BLOCK_ZERO = 0xfffffffe };

struct vdi {
	uint64_t table; /* offset of the block table in the file */
	/*
	 * file offset of the data of block number 0; a table entry is the number of a block in the
	 * file
	 */
	uint64_t data;
	uint64_t file_size;  /* size of the file in bytes */
	uint32_t block_size; /* size of a block in bytes */
	uint32_t blocks;     /* number of entries of the block table */
	uint32_t allocated;  /* number of blocks in the file, as the header says it */
	uint32_t type;
};

static int check_kind(struct disk *d, const uint8_t *h)
{
	uint32_t version = le32(h + 0x44), type = le32(h + 0x4c), extra = le32(h + 0x17c);

	if (le32(h + 0x40) != SIGNATURE)
		return disk_err(d, EINVAL,
			"VDI header: signature: found 0x%08x, expected 0x%08x: not a VDI image",
			le32(h + 0x40), SIGNATURE);
	if (version != VERSION_1_1)
		return disk_err(d, EOPNOTSUPP, "VDI header: version: found %u.%u, expected 1.1",
			version >> 16, version & 0xffff);
	if (type != TYPE_DYNAMIC && type != TYPE_FIXED)
		return disk_err(d, EOPNOTSUPP,
			"VDI header: image type: found %u, expected 1 (dynamic) or 2 (fixed): "
			"merge snapshots and differencing images with VirtualBox first",
			type);
	if (extra != 0)
		return disk_err(d, EOPNOTSUPP,
			"VDI header: extra bytes before each block: found %u, expected 0", extra);
	return 0;
}

static int check_geometry(struct disk *d, const struct vdi *v, uint32_t sector)
{
	uint64_t needed;

	if (sector != SECTOR)
		return disk_err(d, EOPNOTSUPP, "VDI header: sector size: found %u, expected %u",
			sector, SECTOR);
	if (v->block_size < SECTOR || v->block_size > BLOCK_SIZE_MAX ||
		(v->block_size & (v->block_size - 1)))
		return disk_err(d, EINVAL,
			"VDI header: block size: found %u, expected a power of two from %u to %u",
			v->block_size, SECTOR, BLOCK_SIZE_MAX);
	needed = disk_block_count(d, v->block_size);
	if (needed > v->blocks)
		return disk_err(d, EINVAL,
			"VDI header: blocks: found %u, expected at least %llu for a disk of %llu "
			"bytes",
			v->blocks, (unsigned long long)needed, (unsigned long long)d->size);
	if (v->table % SECTOR || v->data % SECTOR || v->table < HEADER_SIZE)
		return disk_err(d, EINVAL,
			"VDI header: offsets: found table %llu and data %llu, expected multiples "
			"of %u behind the header",
			(unsigned long long)v->table, (unsigned long long)v->data, SECTOR);
	if (!disk_inside(v->table, (uint64_t)v->blocks * 4, v->file_size))
		return disk_err(d, EINVAL,
			"VDI block table: found the file's end at %llu, expected %u entries at "
			"offset %llu: the image is cut short",
			(unsigned long long)v->file_size, v->blocks, (unsigned long long)v->table);
	return 0;
}

static int vdi_open(struct disk *d, const struct disk_options *o)
{
	struct vdi *v = calloc(1, sizeof(*v));
	uint8_t h[HEADER_SIZE];

	d->state = v;
	if (!v)
		return disk_err(d, ENOMEM, "no memory");
	int r = disk_read_meta(d, h, sizeof(h), 0, "VDI header");
	if (r >= 0)
		r = check_kind(d, h);
	if (r >= 0)
		r = disk_file_size(d, &v->file_size);
	if (r < 0)
		return r;
	v->type = le32(h + 0x4c);
	v->table = le32(h + 0x154);
	v->data = le32(h + 0x158);
	v->block_size = le32(h + 0x178);
	v->blocks = le32(h + 0x180);
	v->allocated = le32(h + 0x184);
	d->size = le64(h + 0x170);
	if (d->size > INT64_MAX - SECTOR)
		return disk_err(d, EFBIG, "VDI header: disk size: found %llu, expected below 2^63",
			(unsigned long long)d->size);
	/* VirtualBox rounds the size up to whole sectors, so the guest sees the rounded size. */
	d->size = (d->size + SECTOR - 1) / SECTOR * SECTOR;
	return check_geometry(d, v, le32(h + 0x168));
}

static void vdi_close(struct disk *d)
{
	free(d->state);
}

/* Finds where in the file the block is that the table entry names. */
static int find_block(struct disk *d, uint64_t block, uint32_t entry, uint64_t *ret)
{
	const struct vdi *v = d->state;

	*ret = v->data + (uint64_t)entry * v->block_size;
	if (entry >= v->blocks ||
		!disk_inside(*ret, disk_block_bytes(d, block, v->block_size), v->file_size))
		return disk_err(d, EIO,
			"VDI block table: entry %llu at offset %llu: found block %u, expected one "
			"of %u blocks within the file's %llu bytes",
			(unsigned long long)block, (unsigned long long)(v->table + block * 4),
			entry, v->blocks, (unsigned long long)v->file_size);
	return 0;
}

static int vdi_map(struct disk *d, uint64_t offset, uint64_t length, struct disk_extent *ret)
{
	const struct vdi *v = d->state;
	uint64_t block = offset / v->block_size, start = block * v->block_size;
	uint64_t used = disk_block_bytes(d, block, v->block_size), host;
	uint8_t raw[4];

	int r = disk_read_meta(d, raw, sizeof(raw), v->table + block * 4, "VDI block table");
	if (r < 0)
		return r;
	if (start + used - offset < length)
		ret->length = start + used - offset;
	uint32_t entry = le32(raw);
	if (entry == BLOCK_FREE || entry == BLOCK_ZERO) {
		ret->kind = entry == BLOCK_FREE ? DISK_HOLE : DISK_ZERO;
		return 0;
	}
	r = find_block(d, block, entry, &host);
	if (r < 0)
		return r;
	ret->kind = DISK_DATA;
	ret->fd = d->fd;
	ret->host = host + (offset - start);
	return 0;
}

static int vdi_info(struct disk *d, struct disk_info *info)
{
	const struct vdi *v = d->state;

	info->cluster_size = v->block_size;
	return disk_fact_text(info, "create-type", v->type == TYPE_FIXED ? "fixed" : "dynamic");
}

/* The blocks that a check has found. */
struct found {
	uint64_t used; /* number of entries with a block */
	uint64_t end;  /* the greatest block number in the file that an entry names, and 1 */
};

static int check_fixed(struct table_check *k)
{
	const struct vdi *v = k->d->state;

	/* The header and the table may lie in one unit, so both can use it. */
	table_check_keep(k, 0, HEADER_SIZE);
	table_check_keep(k, v->table, (uint64_t)v->blocks * 4);
	return 0;
}

static int check_entry(struct table_check *k, uint64_t i, const uint8_t *raw)
{
	struct found *f = k->data;
	const struct vdi *v = k->d->state;
	uint32_t entry = le32(raw);
	uint64_t host;

	if (entry == BLOCK_FREE || entry == BLOCK_ZERO)
		return 0;
	if (find_block(k->d, i, entry, &host) < 0) {
		table_check_fault_set(k);
		return 0;
	}
	table_check_count(k, host, v->block_size);
	table_check_take(k, k->name, i, host, v->block_size);
	if (!k->later) {
		f->used++;
		if (entry + 1ull > f->end)
			f->end = entry + 1ull;
	}
	return 0;
}

/*
 * A program that adds a block to the image gives it the number that the header has as the number of
 * blocks in the file.
 */
static void check_allocated(struct table_check *k, const struct vdi *v)
{
	const struct found *f = k->data;

	k->later = false;
	if (f->end > v->allocated)
		table_check_fault(k,
			"%s: VDI header: allocated blocks: found %u, expected at least %llu: the "
			"next new block would overwrite one that is used",
			k->d->name, v->allocated, (unsigned long long)f->end);
	else if (v->allocated > f->used + k->c->leaks)
		table_check_fault(k, "%s: VDI header: allocated blocks: found %u, expected %llu",
			k->d->name, v->allocated, (unsigned long long)f->used);
}

static int vdi_check(struct disk *d, struct disk_check *c)
{
	const struct vdi *v = d->state;
	struct found found = {0};
	struct table_check k = {.d = d,
		.c = c,
		.fd = d->fd,
		.file_size = v->file_size,
		.name = "VDI block table",
		.table = v->table,
		.entries = v->blocks,
		.entry_size = 4,
		.unit = v->block_size,
		.blocks_at = v->data,
		.block = v->block_size,
		.fixed = check_fixed,
		.entry = check_entry,
		.data = &found};

	/* A unit begins where block number 0 does, so that each block is one unit. */
	k.shift = (v->block_size - v->data % v->block_size) % v->block_size;
	c->clusters = disk_block_count(d, v->block_size);
	int r = table_check_run(&k);
	if (r >= 0)
		check_allocated(&k, v);
	return r;
}

const struct disk_format format_vdi = {
	.name = "vdi",
	.open = vdi_open,
	.close = vdi_close,
	.map = vdi_map,
	.info = vdi_info,
	.check = vdi_check,
};
