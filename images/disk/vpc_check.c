/* SPDX-License-Identifier: Apache-2.0 */
/* Checks the footers and the block table of a VHD image. */
#include "images/disk/check.h"
#include "images/disk/vpc.h"

static int check_fixed(struct table_check *k)
{
	const struct vpc *v = k->d->state;

	table_check_take(k, "VHD footer's copy", 0, 0, VPC_FOOTER_SIZE);
	table_check_take(k, "VHD header", 0, v->header, VPC_HEADER_SIZE);
	table_check_take(k, "VHD block table", 0, v->table, (uint64_t)v->blocks * 4);
	if (v->has_footer)
		table_check_take(
			k, "VHD footer", 0, v->file_size - VPC_FOOTER_SIZE, VPC_FOOTER_SIZE);
	return 0;
}

static int check_entry(struct table_check *k, uint64_t i, const uint8_t *raw)
{
	const struct vpc *v = k->d->state;
	uint64_t host;

	if (be32(raw) == VPC_UNUSED)
		return 0;
	if (vpc_find_block(k->d, i, be32(raw), &host) < 0) {
		table_check_fault_set(k);
		return 0;
	}
	table_check_count(k, host, v->bitmap_size + v->block_size);
	table_check_take(
		k, k->name, i, host, v->bitmap_size + disk_block_bytes(k->d, i, v->block_size));
	return 0;
}

/* Checks both copies of the footer, of which the image could be opened with one alone. */
static int check_footers(struct table_check *k)
{
	struct vpc *v = k->d->state;
	uint8_t f[VPC_FOOTER_SIZE];

	int r = disk_read_meta(
		k->d, f, VPC_FOOTER_SIZE, v->file_size - VPC_FOOTER_SIZE, "VHD footer");
	v->has_footer = r >= 0 && vpc_footer_is_good(f);
	if (r >= 0 && !v->has_footer)
		table_check_fault(k,
			"%s: VHD footer: the last 512 bytes of the file are none, so that other "
			"programs may refuse the image",
			k->d->name);
	if (r < 0 || v->type == VPC_FIXED)
		return r;
	r = disk_read_meta(k->d, f, VPC_FOOTER_SIZE, 0, "VHD footer's copy");
	if (r >= 0 && !vpc_footer_is_good(f))
		table_check_fault(k,
			"%s: VHD footer's copy: the first 512 bytes of the file are none",
			k->d->name);
	return r;
}

int vpc_check(struct disk *d, struct disk_check *c)
{
	const struct vpc *v = d->state;
	struct table_check k = {.d = d,
		.c = c,
		.fd = d->fd,
		.file_size = v->file_size,
		.name = "VHD block table",
		.table = v->table,
		.entries = v->blocks,
		.entry_size = 4,
		.unit = VPC_SECTOR,
		.block = (uint64_t)v->bitmap_size + v->block_size,
		.fixed = check_fixed,
		.entry = check_entry};

	int r = check_footers(&k);
	c->end = v->file_size;
	if (r < 0 || v->type == VPC_FIXED)
		return r;
	c->end = 0;
	c->clusters = disk_block_count(d, v->block_size);
	return table_check_run(&k);
}
