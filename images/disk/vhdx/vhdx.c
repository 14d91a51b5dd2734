/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens VHDX images: reads the headers, the region table and the metadata. Finds the blocks of the
 * disk through the block allocation table (BAT).
 */
#include "images/disk/vhdx/internal.h"

#define HEADER_SIZE 4096
#define REGION_SIZE (64u << 10)
#define REGION_ENTRIES_MAX 2047
#define METADATA_TABLE (64u << 10)
#define METADATA_ENTRIES_MAX 2047
#define BLOCK_SIZE_MAX (256u << 20)
#define DISK_SIZE_MAX (64ull << 40)
#define FLAG_REQUIRED 4u /* flag of a metadata item that every reader must understand */
#define PARAMETER_HAS_PARENT 2u

static const uint8_t guid_bat[16] = {0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42, 0x9d, 0x64,
	0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08};
static const uint8_t guid_metadata[16] = {0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b, 0xb8,
	0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e};
static const uint8_t guid_parameters[16] = {0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d, 0xb3,
	0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b};
static const uint8_t guid_size[16] = {0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2, 0x11,
	0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8};
static const uint8_t guid_page83[16] = {0xab, 0x12, 0xca, 0xbe, 0xe6, 0xb2, 0x23, 0x45, 0x93, 0xef,
	0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46};
static const uint8_t guid_sector[16] = {0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47, 0xba, 0x47,
	0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f};
static const uint8_t guid_physical[16] = {0xc7, 0x48, 0xa3, 0xcd, 0x5d, 0x44, 0x71, 0x44, 0x9c,
	0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56};

/* Reads the header at the file offset `at`. Returns 1 if the header is valid, else 0. */
static int read_header(struct disk *d, uint64_t at, uint8_t *h)
{
	int r = disk_read_meta(d, h, HEADER_SIZE, at, "VHDX header");

	if (r < 0)
		return r;
	return memcmp(h, "head", 4) == 0 && le32(h + 4) == vhdx_crc(h, HEADER_SIZE, 4);
}

/*
 * Finds the valid header. If both headers are valid, takes the one with the higher sequence number.
 */
static int choose_header(struct disk *d, struct vhdx *v)
{
	uint8_t one[HEADER_SIZE], two[HEADER_SIZE];
	const uint8_t *h = NULL;

	int r = read_header(d, 64u << 10, one);
	if (r > 0)
		h = one;
	if (r >= 0)
		r = read_header(d, 128u << 10, two);
	if (r > 0 && (!h || le64(two + 8) > le64(one + 8)))
		h = two;
	if (r < 0)
		return r;
	if (!h)
		return disk_err(d, EINVAL,
			"VHDX: found no valid header at 64 KiB nor at 128 KiB: the image is "
			"damaged");
	if (le16(h + 66) != 1 || le16(h + 64) != 0)
		return disk_err(d, EOPNOTSUPP,
			"VHDX header: found version %u and log version %u, expected 1 and 0",
			le16(h + 66), le16(h + 64));
	memcpy(v->log_guid, h + 48, sizeof(v->log_guid));
	v->log_size = le32(h + 68);
	v->log_at = le64(h + 72);
	return 0;
}

static int take_region(struct disk *d, struct vhdx *v, const uint8_t *e)
{
	uint64_t at = le64(e + 16), size = le32(e + 24);
	bool bat = memcmp(e, guid_bat, 16) == 0;

	if (!bat && memcmp(e, guid_metadata, 16) != 0) {
		if (le32(e + 28) & 1)
			return disk_err(d, EOPNOTSUPP,
				"VHDX region table: found a required region that is unknown "
				"(%02x%02x%02x%02x-...)",
				e[3], e[2], e[1], e[0]);
		return 0;
	}
	if (at < VHDX_MIB || !disk_inside(at, size, v->file_size))
		return disk_err(d, EINVAL,
			"VHDX region table: %s: found %llu bytes at offset %llu, expected them "
			"within the file's %llu bytes",
			bat ? "BAT" : "metadata", (unsigned long long)size, (unsigned long long)at,
			(unsigned long long)v->file_size);
	*(bat ? &v->bat_at : &v->metadata_at) = at;
	*(bat ? &v->bat_size : &v->metadata_size) = size;
	return 0;
}

/* Reads a copy of the region table. Returns 1 if the copy is valid, else 0. */
static int read_regions(struct disk *d, struct vhdx *v, uint64_t at, uint8_t *t)
{
	int r = vhdx_read_meta(d, t, REGION_SIZE, at, "VHDX region table");

	if (r < 0)
		return r;
	uint32_t n = le32(t + 8);
	if (memcmp(t, "regi", 4) != 0 || le32(t + 4) != vhdx_crc(t, REGION_SIZE, 4) ||
		n > REGION_ENTRIES_MAX)
		return 0;
	for (uint32_t i = 0; i < n && r >= 0; i++)
		r = take_region(d, v, t + 16 + (size_t)i * 32);
	return r < 0 ? r : 1;
}

static int find_regions(struct disk *d, struct vhdx *v)
{
	_cleanup_free_ uint8_t *t = malloc(REGION_SIZE);

	if (!t)
		return disk_err(d, ENOMEM, "no memory");
	int r = read_regions(d, v, 192u << 10, t);
	if (r == 0)
		r = read_regions(d, v, 256u << 10, t);
	if (r == 0 || (r > 0 && (!v->bat_at || !v->metadata_at)))
		return disk_err(d, EINVAL,
			"VHDX: found no valid region table with a BAT and metadata: the image is "
			"damaged");
	return r;
}

/* The contents of the metadata. `seen` has a bit for each metadata item that was read. */
struct metadata {
	enum { SEEN_PARAMETERS = 1, SEEN_SIZE = 2, SEEN_SECTOR = 4, SEEN_ALL = 7 } seen;
	uint32_t parameters;
};

static int read_item(struct disk *d, const uint8_t *e, uint8_t *value, size_t size)
{
	struct vhdx *v = vhdx_of(d);
	uint64_t at = le32(e + 16), length = le32(e + 20);

	if (length < size || at < METADATA_TABLE || !disk_inside(at, length, v->metadata_size))
		return disk_err(d, EINVAL,
			"VHDX metadata: item: found %llu bytes at offset %llu, expected at least "
			"%zu within the region's %llu bytes",
			(unsigned long long)length, (unsigned long long)at, size,
			(unsigned long long)v->metadata_size);
	return vhdx_read_meta(d, value, size, v->metadata_at + at, "VHDX metadata item");
}

static int take_item(struct disk *d, struct metadata *m, const uint8_t *e)
{
	struct vhdx *v = vhdx_of(d);
	uint8_t value[8] = {0};
	int r = 0;

	if (memcmp(e, guid_parameters, 16) == 0) {
		r = read_item(d, e, value, 8);
		v->block_size = le32(value);
		m->parameters = le32(value + 4);
		m->seen |= SEEN_PARAMETERS;
	} else if (memcmp(e, guid_size, 16) == 0) {
		r = read_item(d, e, value, 8);
		d->size = le64(value);
		m->seen |= SEEN_SIZE;
	} else if (memcmp(e, guid_sector, 16) == 0) {
		r = read_item(d, e, value, 4);
		v->sector_size = le32(value);
		m->seen |= SEEN_SECTOR;
	} else if (memcmp(e, guid_page83, 16) != 0 && memcmp(e, guid_physical, 16) != 0 &&
		   le32(e + 24) & FLAG_REQUIRED && !(m->parameters & PARAMETER_HAS_PARENT)) {
		r = disk_err(d, EOPNOTSUPP,
			"VHDX metadata: found a required item that is unknown "
			"(%02x%02x%02x%02x-...)",
			e[3], e[2], e[1], e[0]);
	}
	return r;
}

static int read_metadata(struct disk *d, struct metadata *m)
{
	struct vhdx *v = vhdx_of(d);
	_cleanup_free_ uint8_t *t = malloc(METADATA_TABLE);

	if (!t)
		return disk_err(d, ENOMEM, "no memory");
	int r = vhdx_read_meta(d, t, METADATA_TABLE, v->metadata_at, "VHDX metadata table");
	if (r < 0)
		return r;
	uint32_t n = le16(t + 10);
	if (memcmp(t, "metadata", 8) != 0 || n > METADATA_ENTRIES_MAX)
		return disk_err(d, EINVAL,
			"VHDX metadata table at offset %llu: found no \"metadata\", or more than "
			"%d entries",
			(unsigned long long)v->metadata_at, METADATA_ENTRIES_MAX);
	for (uint32_t i = 0; i < n && r >= 0; i++)
		r = take_item(d, m, t + 32 + (size_t)i * 32);
	return r;
}

static int check_metadata(struct disk *d, const struct metadata *m)
{
	struct vhdx *v = vhdx_of(d);

	if (m->seen != SEEN_ALL)
		return disk_err(d, EINVAL,
			"VHDX metadata: expected block size, disk size and sector size, found not "
			"all of them");
	if (m->parameters & PARAMETER_HAS_PARENT)
		return disk_err(d, EOPNOTSUPP,
			"a differencing VHDX image, which is not supported: merge it with its "
			"parent first");
	if (v->block_size < VHDX_MIB || v->block_size > BLOCK_SIZE_MAX ||
		(v->block_size & (v->block_size - 1)))
		return disk_err(d, EINVAL,
			"VHDX metadata: block size: found %u, expected a power of two from 1 MiB "
			"to 256 MiB",
			v->block_size);
	if (v->sector_size != 512 && v->sector_size != 4096)
		return disk_err(d, EINVAL,
			"VHDX metadata: logical sector size: found %u, expected 512 or 4096",
			v->sector_size);
	if (d->size > DISK_SIZE_MAX || d->size % v->sector_size)
		return disk_err(d, EINVAL,
			"VHDX metadata: disk size: found %llu bytes, expected whole sectors of %u, "
			"at most 64 TiB",
			(unsigned long long)d->size, v->sector_size);
	/* One sector bitmap block describes 2^23 sectors ([MS-VHDX] 2.5). */
	v->chunk_ratio = (1ull << 23) * v->sector_size / v->block_size;
	uint64_t blocks = disk_block_count(d, v->block_size);
	uint64_t entries = blocks ? blocks + (blocks - 1) / v->chunk_ratio : 0;
	if (v->bat_size / 8 < entries)
		return disk_err(d, EINVAL,
			"VHDX BAT: found room for %llu entries, expected %llu for a disk of %llu "
			"bytes",
			(unsigned long long)(v->bat_size / 8), (unsigned long long)entries,
			(unsigned long long)d->size);
	return 0;
}

static int vhdx_open(struct disk *d, const struct disk_options *o)
{
	struct vhdx *v = calloc(1, sizeof(*v));
	struct metadata m = {0};
	uint8_t id[8];

	d->state = v;
	if (!v)
		return disk_err(d, ENOMEM, "no memory");
	int r = disk_read_meta(d, id, sizeof(id), 0, "VHDX identifier");
	if (r >= 0 && memcmp(id, "vhdxfile", 8) != 0)
		r = disk_err(d, EINVAL, "found no \"vhdxfile\" at its beginning: not a VHDX image");
	if (r >= 0)
		r = disk_file_size(d, &v->file_size);
	if (r >= 0)
		r = choose_header(d, v);
	if (r >= 0)
		r = vhdx_read_log(d);
	if (r >= 0)
		r = find_regions(d, v);
	if (r >= 0)
		r = read_metadata(d, &m);
	return r < 0 ? r : check_metadata(d, &m);
}

static void vhdx_close(struct disk *d)
{
	struct vhdx *v = vhdx_of(d);

	if (!v)
		return;
	for (size_t i = 0; i < v->n_pages; i++)
		free(v->pages[i].bytes);
	free(v->pages);
	free(v);
}

int vhdx_find_block(struct disk *d, uint64_t at, uint64_t entry, uint64_t used, uint64_t *ret)
{
	const struct vhdx *v = vhdx_of(d);
	uint64_t state = entry & VHDX_STATE, host = entry & VHDX_OFFSET;

	*ret = host;
	if (state != VHDX_PRESENT || host < VHDX_MIB || !disk_inside(host, used, v->file_size))
		return disk_err(d, EIO,
			"VHDX BAT: entry at offset %llu: found state %llu and offset %llu, "
			"expected "
			"a block within the file's %llu bytes",
			(unsigned long long)at, (unsigned long long)state, (unsigned long long)host,
			(unsigned long long)v->file_size);
	return 0;
}

static int vhdx_map(struct disk *d, uint64_t offset, uint64_t length, struct disk_extent *ret)
{
	const struct vhdx *v = vhdx_of(d);
	uint64_t block = offset / v->block_size, start = block * v->block_size;
	uint64_t used = disk_block_bytes(d, block, v->block_size), host;
	uint64_t at = v->bat_at + (block + block / v->chunk_ratio) * 8;
	uint8_t raw[8];

	int r = vhdx_read_meta(d, raw, sizeof(raw), at, "VHDX BAT");
	if (r < 0)
		return r;
	if (start + used - offset < length)
		ret->length = start + used - offset;
	uint64_t state = le64(raw) & VHDX_STATE;
	if (state <= VHDX_UNMAPPED) {
		ret->kind = state == VHDX_NOT_PRESENT ? DISK_HOLE : DISK_ZERO;
		return 0;
	}
	r = vhdx_find_block(d, at, le64(raw), used, &host);
	if (r < 0)
		return r;
	ret->kind = DISK_DATA;
	ret->fd = d->fd;
	ret->host = host + (offset - start);
	return 0;
}

static int vhdx_info(struct disk *d, struct disk_info *info)
{
	const struct vhdx *v = vhdx_of(d);

	info->cluster_size = v->block_size;
	info->dirty = v->n_pages > 0;
	return disk_fact_number(info, "logical-sector-size", v->sector_size);
}

const struct disk_format format_vhdx = {
	.name = "vhdx",
	.open = vhdx_open,
	.close = vhdx_close,
	.map = vhdx_map,
	.info = vhdx_info,
	.check = vhdx_check,
};
