/* SPDX-License-Identifier: Apache-2.0 */
/* Reads sparse extents of VMDK images, whose grains are plain or compressed. */
#include <zlib.h>

#include "images/disk/vmdk/internal.h"

#define MAGIC "KDMV"
#define GRAIN_MAX (16u << 20)
/*
 * value of the grain directory's offset that means that only the copy of the header at the end of
 * the file has the offset
 */
#define AT_END UINT64_MAX

enum {
	FLAG_NEWLINE_TEST = 1 << 0,
	FLAG_COPY = 1 << 1, /* there is a copy of the grain directory and the grain tables */
	FLAG_ZERO_GRAINS = 1 << 2,
	FLAG_COMPRESSED = 1 << 16,
	FLAG_MARKERS = 1 << 17,
};

#define COMPRESSION_DEFLATE 1

const char *vmdk_file_of(const struct disk *d, const struct vmdk_extent *e)
{
	return e->name ? e->name : d->name;
}

static int check_header(struct disk *d, const struct vmdk_extent *e, const uint8_t *h)
{
	uint32_t version = le32(h + 4), flags = le32(h + 8);

	if (memcmp(h, MAGIC, 4) != 0)
		return disk_err(d, EINVAL, "extent \"%s\": found no \"" MAGIC "\" at its beginning",
			vmdk_file_of(d, e));
	if (version < 1 || version > 3)
		return disk_err(d, EOPNOTSUPP,
			"extent \"%s\": version: found %u, expected 1, 2 or 3", vmdk_file_of(d, e),
			version);
	if (flags & FLAG_NEWLINE_TEST && memcmp(h + 73, "\n \r\n", 4) != 0)
		return disk_err(d, EINVAL,
			"extent \"%s\": its line ends were changed: it was copied as text, and is "
			"damaged",
			vmdk_file_of(d, e));
	if (flags & FLAG_COMPRESSED &&
		(le16(h + 77) != COMPRESSION_DEFLATE || !(flags & FLAG_MARKERS)))
		return disk_err(d, EOPNOTSUPP,
			"extent \"%s\": compression: found algorithm %u%s, expected 1 (deflate) "
			"with markers",
			vmdk_file_of(d, e), le16(h + 77),
			flags & FLAG_MARKERS ? "" : " without markers");
	return 0;
}

static int check_geometry(struct disk *d, struct vmdk_extent *e, uint64_t capacity, uint64_t grain)
{
	const char *name = vmdk_file_of(d, e);

	if (grain == 0 || grain > GRAIN_MAX / VMDK_SECTOR || (grain & (grain - 1)))
		return disk_err(d, EINVAL,
			"extent \"%s\": grain size: found %llu sectors, expected a power of two up "
			"to %u",
			name, (unsigned long long)grain, GRAIN_MAX / VMDK_SECTOR);
	if (e->entries == 0 || e->entries > VMDK_ENTRIES_MAX)
		return disk_err(d, EINVAL,
			"extent \"%s\": grain table entries: found %u, expected 1 to %u", name,
			e->entries, VMDK_ENTRIES_MAX);
	if (capacity > INT64_MAX / VMDK_SECTOR || capacity == 0)
		return disk_err(d, EINVAL,
			"extent \"%s\": capacity: found %llu sectors, expected 1 to 2^54", name,
			(unsigned long long)capacity);
	e->grain = (uint32_t)grain * VMDK_SECTOR;
	capacity *= VMDK_SECTOR;
	if (e->length == 0)
		e->length = capacity;
	if (e->length > capacity)
		return disk_err(d, EINVAL,
			"extent \"%s\": capacity: found %llu bytes, but the descriptor says %llu",
			name, (unsigned long long)capacity, (unsigned long long)e->length);
	uint64_t covered = (uint64_t)e->grain * e->entries;
	uint64_t tables = e->length / covered + (e->length % covered != 0);
	if (tables > UINT32_MAX || e->directory > INT64_MAX / VMDK_SECTOR ||
		!disk_inside(e->directory * VMDK_SECTOR, tables * 4, e->file_size))
		return disk_err(d, EINVAL,
			"extent \"%s\": grain directory: found it at sector %llu with %llu "
			"entries, "
			"expected it within the file's %llu bytes",
			name, (unsigned long long)e->directory, (unsigned long long)tables,
			(unsigned long long)e->file_size);
	e->directory *= VMDK_SECTOR;
	e->copy = e->copy > INT64_MAX / VMDK_SECTOR ? INT64_MAX : e->copy * VMDK_SECTOR;
	e->tables = (uint32_t)tables;
	return 0;
}

/*
 * Reads the copy of the header at the end of the file. Only this copy contains the offset of the
 * grain directory in a file that was written as a stream, because the program that writes a stream
 * knows the offset only at the end.
 */
static int read_footer(struct disk *d, const struct vmdk_extent *e, uint8_t *h)
{
	if (e->file_size < 3 * VMDK_SECTOR)
		return disk_err(d, EINVAL, "extent \"%s\": found no footer: the image is cut short",
			vmdk_file_of(d, e));
	int r = disk_read_meta_of(
		d, e->fd, h, VMDK_HEADER, e->file_size - 2 * VMDK_SECTOR, "VMDK footer");
	if (r >= 0 && (memcmp(h, MAGIC, 4) != 0 || le64(h + 56) == AT_END))
		return disk_err(d, EINVAL,
			"extent \"%s\": found no footer 1024 bytes before its end: the image is "
			"cut "
			"short",
			vmdk_file_of(d, e));
	return r < 0 ? r : check_header(d, e, h);
}

int vmdk_sparse_open(struct disk *d, struct vmdk_extent *e)
{
	uint8_t h[VMDK_HEADER];

	int r = disk_read_meta_of(d, e->fd, h, sizeof(h), 0, "VMDK header");
	if (r >= 0)
		r = check_header(d, e, h);
	if (r < 0)
		return r;
	uint64_t at = le64(h + 28), size = le64(h + 36);
	if (at > INT64_MAX / VMDK_SECTOR || size > INT64_MAX / VMDK_SECTOR)
		return disk_err(d, EINVAL,
			"extent \"%s\": descriptor: found it at sector %llu, expected it in the "
			"file",
			vmdk_file_of(d, e), (unsigned long long)at);
	e->descriptor = at * VMDK_SECTOR;
	e->descriptor_size = at ? size * VMDK_SECTOR : 0;
	if (le64(h + 56) == AT_END)
		r = read_footer(d, e, h);
	if (r < 0)
		return r;
	e->kind = VMDK_SPARSE;
	e->zero_grains = le32(h + 8) & FLAG_ZERO_GRAINS;
	e->compressed = le32(h + 8) & FLAG_COMPRESSED;
	e->entries = le32(h + 44);
	e->directory = le64(h + 56);
	e->copy = le32(h + 8) & FLAG_COPY ? le64(h + 48) : 0;
	e->overhead =
		le64(h + 64) > INT64_MAX / VMDK_SECTOR ? e->file_size : le64(h + 64) * VMDK_SECTOR;
	return check_geometry(d, e, le64(h + 12), le64(h + 20));
}

int vmdk_check_table(
	struct disk *d, const struct vmdk_extent *e, uint64_t i, uint64_t table, uint64_t length)
{
	if (!disk_inside(table, length, e->file_size))
		return disk_err(d, EIO,
			"extent \"%s\": grain directory entry %llu: found a table at sector %llu, "
			"expected it within the file's %llu bytes",
			vmdk_file_of(d, e), (unsigned long long)i,
			(unsigned long long)(table / VMDK_SECTOR),
			(unsigned long long)e->file_size);
	return 0;
}

/*
 * Reads the grain table's entry of the grain. Sets *ret to the grain's file offset; 0: the grain
 * has no data.
 */
static int find_grain(
	struct disk *d, const struct vmdk_extent *e, uint64_t grain, uint64_t *ret, bool *ret_table)
{
	uint64_t at = e->directory + grain / e->entries * 4, table, within;
	uint8_t raw[4];

	*ret = 0;
	int r = disk_read_meta_of(d, e->fd, raw, sizeof(raw), at, "VMDK grain directory");
	*ret_table = r >= 0 && le32(raw) != 0;
	if (!*ret_table)
		return r;
	table = (uint64_t)le32(raw) * VMDK_SECTOR;
	within = grain % e->entries * 4;
	r = vmdk_check_table(d, e, grain / e->entries, table, within + 4);
	if (r < 0)
		return r;
	r = disk_read_meta_of(d, e->fd, raw, sizeof(raw), table + within, "VMDK grain table");
	*ret = (uint64_t)le32(raw) * VMDK_SECTOR;
	return r;
}

int vmdk_check_grain(
	struct disk *d, const struct vmdk_extent *e, uint64_t grain, uint64_t host, uint64_t length)
{
	if (!disk_inside(host, e->compressed ? VMDK_MARKER : length, e->file_size))
		return disk_err(d, EIO,
			"extent \"%s\": grain %llu: found it at offset %llu, expected it within "
			"the "
			"file's %llu bytes",
			vmdk_file_of(d, e), (unsigned long long)grain, (unsigned long long)host,
			(unsigned long long)e->file_size);
	return 0;
}

int vmdk_sparse_map(
	struct disk *d, const struct vmdk_extent *e, uint64_t offset, struct disk_extent *ret)
{
	uint64_t grain = offset / e->grain, within = offset % e->grain, host;
	uint64_t covered = e->grain - within;
	bool table;

	int r = find_grain(d, e, grain, &host, &table);
	if (r < 0)
		return r;
	/*
	 * The grain directory has no grain table for these grains, so none of the grains has data.
	 */
	if (!table)
		covered += (e->entries - 1 - grain % e->entries) * (uint64_t)e->grain;
	if (covered > e->length - offset)
		covered = e->length - offset;
	if (covered < ret->length)
		ret->length = covered;
	if (host == VMDK_SECTOR && e->zero_grains) {
		ret->kind = DISK_ZERO;
		return 0;
	}
	ret->kind = host == 0 ? DISK_HOLE : e->compressed ? DISK_PACKED : DISK_DATA;
	if (host == 0)
		return 0;
	r = vmdk_check_grain(d, e, grain, host, within + covered);
	if (r < 0)
		return r;
	if (!e->compressed) {
		ret->fd = e->fd;
		ret->host = host + within;
	}
	return 0;
}

static int inflate_grain(const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len)
{
	/*
	 * The cast removes const, because zlib's pointer to the input is not const. That does no
	 * harm, because zlib only reads its input.
	 */
	z_stream z = {.next_in = (uint8_t *)(uintptr_t)in,
		.avail_in = (unsigned)in_len,
		.next_out = out,
		.avail_out = (unsigned)out_len};

	if (inflateInit(&z) != Z_OK)
		return -ENOMEM;
	int r = inflate(&z, Z_FINISH);
	unsigned left = z.avail_out;
	inflateEnd(&z);
	return left || (r != Z_STREAM_END && r != Z_BUF_ERROR) ? -EIO : 0;
}

int vmdk_read_marker(struct disk *d, const struct vmdk_extent *e, uint64_t host, uint32_t *ret_size,
	uint64_t *ret_sector)
{
	uint8_t marker[VMDK_MARKER];

	int r = disk_read_meta_of(d, e->fd, marker, sizeof(marker), host, "VMDK grain marker");
	if (r < 0)
		return r;
	*ret_sector = le64(marker);
	*ret_size = le32(marker + 8);
	if (*ret_size > vmdk_packed_max(e) ||
		!disk_inside(host + VMDK_MARKER, *ret_size, e->file_size))
		return disk_err(d, EIO,
			"extent \"%s\": grain at offset %llu: found %u compressed bytes, expected "
			"at most %u within the file",
			vmdk_file_of(d, e), (unsigned long long)host, *ret_size,
			vmdk_packed_max(e));
	return 0;
}

/* Decompresses the first out_len bytes of the grain that is at the file offset `host`. */
static int unpack_grain(
	struct disk *d, const struct vmdk_extent *e, uint64_t host, uint8_t *out, size_t out_len)
{
	uint64_t sector;
	uint32_t size;

	int r = vmdk_read_marker(d, e, host, &size, &sector);
	if (r < 0)
		return r;
	_cleanup_free_ uint8_t *in = malloc(size + 1);
	if (!in)
		return disk_err(d, ENOMEM, "no memory");
	r = disk_read_meta_of(d, e->fd, in, size, host + VMDK_MARKER, "VMDK grain");
	if (r < 0)
		return r;
	r = inflate_grain(in, size, out, out_len);
	if (r < 0)
		return disk_err(d, -r,
			"extent \"%s\": grain at offset %llu: found no deflate data for the whole "
			"grain: the image is damaged",
			vmdk_file_of(d, e), (unsigned long long)host);
	return 0;
}

int vmdk_sparse_unpack(
	struct disk *d, const struct vmdk_extent *e, uint64_t offset, void *buf, size_t len)
{
	uint64_t grain = offset / e->grain, within = offset % e->grain, host;
	bool table;

	int r = find_grain(d, e, grain, &host, &table);
	if (r < 0)
		return r;
	/*
	 * The request is for the whole grain, so it is decompressed into the caller's buffer
	 * directly.
	 */
	if (within == 0 && len == e->grain)
		return unpack_grain(d, e, host, buf, len);
	_cleanup_free_ uint8_t *out = malloc(within + len);
	if (!out)
		return disk_err(d, ENOMEM, "no memory");
	r = unpack_grain(d, e, host, out, within + len);
	if (r >= 0)
		memcpy(buf, out + within, len);
	return r;
}
