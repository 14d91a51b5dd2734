/* SPDX-License-Identifier: Apache-2.0 */
/* Checks the block allocation table (BAT) of a VHDX image. */
#include "images/disk/check.h"
#include "images/disk/vhdx/internal.h"

enum { ROUND_PRESENT, ROUND_KEPT, ROUNDS };

static int check_fixed(struct table_check *k)
{
	const struct vhdx *v = vhdx_of(k->d);

	table_check_take(k, "VHDX headers", 0, 0, VHDX_MIB);
	if (!disk_inside(v->log_at, v->log_size, v->file_size))
		table_check_fault(k,
			"%s: VHDX header: log: found %llu bytes at offset %llu, expected them "
			"within the file's %llu bytes",
			k->d->name, (unsigned long long)v->log_size, (unsigned long long)v->log_at,
			(unsigned long long)v->file_size);
	table_check_take(k, "VHDX log", 0, v->log_at, v->log_size);
	table_check_take(k, "VHDX metadata", 0, v->metadata_at, v->metadata_size);
	table_check_take(k, "VHDX BAT", 0, v->bat_at, v->bat_size);
	return 0;
}

/*
 * Checks the entry of a block of the disk. A block that was discarded may keep its place in the
 * file, which is then neither a leak nor, if another block has it by now, a fault.
 */
static void check_block(struct table_check *k, uint64_t i, uint64_t block, uint64_t entry)
{
	const struct vhdx *v = vhdx_of(k->d);
	uint64_t host = entry & VHDX_OFFSET;

	if (k->round == ROUND_KEPT && (entry & VHDX_STATE) <= VHDX_UNMAPPED && host)
		table_check_keep(k, host, v->block_size);
	if (k->round == ROUND_KEPT || (entry & VHDX_STATE) <= VHDX_UNMAPPED)
		return;
	if (vhdx_find_block(k->d, k->table + i * 8, entry,
		    disk_block_bytes(k->d, block, v->block_size), &host) < 0) {
		table_check_fault_set(k);
		return;
	}
	table_check_count(k, host, v->block_size);
	table_check_take(k, k->name, i, host, v->block_size);
}

/* Checks an entry of a sector bitmap, which only differencing images need. */
static void check_bitmap(struct table_check *k, uint64_t i, uint64_t entry)
{
	uint64_t host;

	if (k->round == ROUND_KEPT || (entry & VHDX_STATE) == VHDX_NOT_PRESENT)
		return;
	if (vhdx_find_block(k->d, k->table + i * 8, entry, VHDX_MIB, &host) < 0)
		table_check_fault_set(k);
	else
		table_check_take(k, k->name, i, host, VHDX_MIB);
}

static int check_entry(struct table_check *k, uint64_t i, const uint8_t *raw)
{
	uint64_t group = vhdx_of(k->d)->chunk_ratio + 1;

	if (i % group == group - 1)
		check_bitmap(k, i, le64(raw));
	else
		check_block(k, i, i - i / group, le64(raw));
	return 0;
}

int vhdx_check(struct disk *d, struct disk_check *c)
{
	const struct vhdx *v = vhdx_of(d);
	struct table_check k = {.d = d,
		.c = c,
		.fd = d->fd,
		.file_size = v->file_size,
		.name = "VHDX BAT",
		.table = v->bat_at,
		.entry_size = 8,
		.read = vhdx_read_meta,
		.unit = VHDX_MIB,
		.block = v->block_size,
		.skip_begin = true,
		.fixed = check_fixed,
		.entry = check_entry,
		.rounds = ROUNDS};

	c->clusters = disk_block_count(d, v->block_size);
	k.entries = c->clusters ? c->clusters + (c->clusters - 1) / v->chunk_ratio : 0;
	return table_check_run(&k);
}
