/* SPDX-License-Identifier: Apache-2.0 */
/* Checks the grain directory and the grain tables of the sparse extents of a VMDK image. */
#include "images/disk/check.h"
#include "images/disk/vmdk/internal.h"

static uint64_t grains_of(const struct vmdk_extent *e)
{
	return e->length / e->grain + (e->length % e->grain != 0);
}

/* Checks a compressed grain, of which only its marker says how long it is. */
static int check_packed(struct table_check *k, uint64_t grain, uint64_t host)
{
	const struct vmdk_extent *e = k->data;
	uint64_t sector, expected = grain * (e->grain / VMDK_SECTOR);
	uint32_t size;

	if (table_check_skips(k, host, VMDK_MARKER + vmdk_packed_max(e)))
		return 0;
	if (vmdk_read_marker(k->d, e, host, &size, &sector) < 0) {
		table_check_fault_set(k);
		return 0;
	}
	if (size == 0 || sector != expected)
		table_check_fault(k,
			"%s: extent \"%s\": grain at offset %llu: its marker has %u bytes for "
			"sector %llu, expected some for sector %llu",
			k->d->name, vmdk_file_of(k->d, e), (unsigned long long)host, size,
			(unsigned long long)sector, (unsigned long long)expected);
	k->c->compressed += !k->later;
	/* What follows a grain begins at a sector. */
	uint64_t length = (VMDK_MARKER + (uint64_t)size + VMDK_SECTOR - 1) / VMDK_SECTOR;
	table_check_count(k, host, length * VMDK_SECTOR);
	table_check_take(k, "VMDK grain table", grain, host, length * VMDK_SECTOR);
	return 0;
}

static int check_grain(struct table_check *k, uint64_t grain, uint32_t entry)
{
	const struct vmdk_extent *e = k->data;
	uint64_t host = (uint64_t)entry * VMDK_SECTOR, left = e->length - grain * e->grain;

	if (entry == 0 || (entry == 1 && e->zero_grains))
		return 0;
	if (left > e->grain)
		left = e->grain;
	if (vmdk_check_grain(k->d, e, grain, host, left) < 0) {
		table_check_fault_set(k);
		return 0;
	}
	if (e->compressed)
		return check_packed(k, grain, host);
	table_check_count(k, host, e->grain);
	table_check_take(k, "VMDK grain table", grain, host, left);
	return 0;
}

/*
 * Checks the place of the grain table that entry number i of the grain directory, or of its copy,
 * names. Returns the number of its entries that are for grains of the disk, or 0 if there is no
 * table.
 */
static uint32_t check_table(struct table_check *k, const char *what, uint64_t i, uint32_t entry)
{
	const struct vmdk_extent *e = k->data;
	uint64_t first = i * e->entries, all = grains_of(e), at = (uint64_t)entry * VMDK_SECTOR;
	uint32_t n = e->entries;

	if (entry == 0 || first >= all)
		return 0;
	if (n > all - first)
		n = (uint32_t)(all - first);
	if (vmdk_check_table(k->d, e, i, at, (uint64_t)n * 4) < 0) {
		table_check_fault_set(k);
		return 0;
	}
	table_check_take(k, what, i, at, (uint64_t)n * 4);
	return n;
}

static int check_entry(struct table_check *k, uint64_t i, const uint8_t *raw)
{
	const struct vmdk_extent *e = k->data;
	uint8_t table[VMDK_ENTRIES_MAX * 4];
	uint32_t n = check_table(k, k->name, i, le32(raw));

	int r = n ? disk_read_meta_of(k->d, k->fd, table, (size_t)n * 4,
			    (uint64_t)le32(raw) * VMDK_SECTOR, "VMDK grain table")
		  : 0;
	for (uint32_t j = 0; j < n && r >= 0; j++)
		r = check_grain(k, i * e->entries + j, le32(table + (size_t)j * 4));
	return r;
}

/* Takes the places of the copies of the grain tables, which are read only if a table is damaged. */
static int check_copy(struct table_check *k)
{
	const struct vmdk_extent *e = k->data;
	uint64_t size = (uint64_t)e->tables * 4;
	uint8_t raw[4096];
	int r = 0;

	if (!disk_inside(e->copy, size, e->file_size)) {
		table_check_fault(k,
			"%s: extent \"%s\": copy of the grain directory: found it at offset %llu, "
			"expected it within the file's %llu bytes",
			k->d->name, vmdk_file_of(k->d, e), (unsigned long long)e->copy,
			(unsigned long long)e->file_size);
		return 0;
	}
	table_check_take(k, "copy of the VMDK grain directory", 0, e->copy, size);
	for (uint64_t done = 0; done < size && r >= 0; done += sizeof(raw)) {
		size_t n = size - done < sizeof(raw) ? size - done : sizeof(raw);

		r = disk_read_meta_of(k->d, k->fd, raw, n, e->copy + done, k->name);
		for (size_t j = 0; j < n && r >= 0; j += 4)
			check_table(k, "copy of the VMDK grain directory", (done + j) / 4,
				le32(raw + j));
	}
	return r;
}

static int check_fixed(struct table_check *k)
{
	const struct vmdk_extent *e = k->data;

	table_check_take(k, "VMDK header", 0, 0, VMDK_HEADER);
	table_check_take(k, "VMDK descriptor", 0, e->descriptor, e->descriptor_size);
	table_check_take(k, k->name, 0, e->directory, (uint64_t)e->tables * 4);
	return e->copy && e->copy != e->directory ? check_copy(k) : 0;
}

static int check_extent(struct disk *d, struct disk_check *c, struct vmdk_extent *e)
{
	struct table_check k = {.d = d,
		.c = c,
		.fd = e->fd,
		.file_size = e->file_size,
		.name = "VMDK grain directory",
		.table = e->directory,
		.entries = e->tables,
		.entry_size = 4,
		.unit = VMDK_SECTOR,
		.blocks_at = e->overhead,
		.block = e->grain,
		.fixed = check_fixed,
		.entry = check_entry,
		.data = e};

	c->clusters += grains_of(e);
	return table_check_run(&k);
}

int vmdk_check(struct disk *d, struct disk_check *c)
{
	struct vmdk *v = d->state;
	int r = 0;

	for (size_t i = 0; i < v->n && r >= 0; i++) {
		struct vmdk_extent *e = &v->extents[i];

		if (e->kind != VMDK_ZERO && e->fd < 0)
			r = disk_err(d, EPERM,
				"its extents are files of their own: allow them with --backing, "
				"such as --backing on");
		else if (e->kind == VMDK_SPARSE)
			r = check_extent(d, c, e);
	}
	return r;
}
