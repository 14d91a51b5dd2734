/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VHD, the format of Virtual PC and Hyper-V, which QEMU calls "vpc": fixed, dynamic and
 * differencing images, read-only. Source: Microsoft's "Virtual Hard Disk Image Format
 * Specification", version 1.0.
 *
 * A footer of 512 bytes ends the file. A fixed image is the disk's bytes and the footer. The other
 * kinds begin with a copy of the footer, and then have a header, a table with one 32-bit sector
 * number for each block, and the blocks. Each block begins with a bitmap of its sectors. All
 * numbers are big-endian.
 */
#include "images/disk/vpc.h"

#define BLOCK_SIZE_MAX (256u << 20)
#define CHECKSUM_AT 64        /* offset of the checksum in the VHD footer */
#define HEADER_CHECKSUM_AT 36 /* offset of the checksum in the VHD header */
/*
 * the largest disk size in sectors that Virtual PC's geometry (cylinders, heads, sectors) can
 * describe; a larger disk has only the size field
 */
#define GEOMETRY_MAX (65535ull * 16 * 255)

static uint32_t checksum(const uint8_t *p, size_t len, size_t field)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < len; i++)
		if (i < field || i >= field + 4)
			sum += p[i];
	return ~sum;
}

bool vpc_footer_is_good(const uint8_t *f)
{
	return memcmp(f, "conectix", 8) == 0 &&
	       be32(f + CHECKSUM_AT) == checksum(f, VPC_FOOTER_SIZE, CHECKSUM_AT);
}

/*
 * Reads the footer at the end of the file, or else the copy of the footer at the beginning, because
 * a writer that was killed may have left the file without its end.
 */
static int read_footer(struct disk *d, const struct vpc *v, uint8_t *f)
{
	if (v->file_size < VPC_FOOTER_SIZE)
		return disk_err(d, EINVAL, "VHD: found %llu bytes, expected a footer of %u",
			(unsigned long long)v->file_size, VPC_FOOTER_SIZE);
	int r = disk_read_meta(d, f, VPC_FOOTER_SIZE, v->file_size - VPC_FOOTER_SIZE, "VHD footer");
	if (r < 0 || vpc_footer_is_good(f))
		return r;
	bool seen = memcmp(f, "conectix", 8) == 0;
	r = disk_read_meta(d, f, VPC_FOOTER_SIZE, 0, "VHD footer's copy");
	if (r < 0)
		return r;
	/*
	 * The footer's copy at the beginning of the file is not used if it says that the image is
	 * fixed, because the beginning of a fixed image is disk data, in which the guest may have
	 * written a false footer.
	 */
	if (vpc_footer_is_good(f) && be32(f + 60) != VPC_FIXED)
		return 0;
	if (seen || memcmp(f, "conectix", 8) == 0)
		return disk_err(d, EINVAL,
			"VHD footer: its checksum does not match: the image is "
			"damaged");
	return disk_err(d, EINVAL,
		"VHD footer: found no \"conectix\" in the last 512 bytes: not a VHD image");
}

/*
 * Returns the disk's size in bytes. Virtual PC and QEMU without force_size define the size by the
 * geometry, and every other program by the size field; the creator's name in the footer tells the
 * kinds of images apart. QEMU decides so from version 10 on. QEMU 7.2 uses the geometry of
 * programs that it does not know, such as VirtualBox, and so loses the end of their disks. If the
 * geometry is zero, as hcsshim's tar2ext4 writes it, the size field is used.
 */
static uint64_t disk_bytes(const uint8_t *f)
{
	uint64_t geometry = (uint64_t)be16(f + 56) * f[58] * f[59];
	bool by_geometry = memcmp(f + 28, "vpc ", 4) == 0 || memcmp(f + 28, "qemu", 4) == 0;

	if (!by_geometry || geometry == 0 || geometry == GEOMETRY_MAX)
		return be64(f + 48);
	return geometry * VPC_SECTOR;
}

static int check_blocks(struct disk *d, const struct vpc *v)
{
	uint64_t needed = disk_block_count(d, v->block_size);

	if (needed > v->blocks)
		return disk_err(d, EINVAL,
			"VHD header: table entries: found %u, expected at least %llu for a disk "
			"of %llu bytes",
			v->blocks, (unsigned long long)needed, (unsigned long long)d->size);
	if (!disk_inside(v->table, (uint64_t)v->blocks * 4, v->file_size))
		return disk_err(d, EINVAL,
			"VHD block table: found the file's end at %llu, expected %u entries at "
			"offset %llu: the image is cut short",
			(unsigned long long)v->file_size, v->blocks, (unsigned long long)v->table);
	return 0;
}

static int read_header(struct disk *d, struct vpc *v, uint64_t at, uint8_t *h)
{
	int r = disk_read_meta(d, h, VPC_HEADER_SIZE, at, "VHD header");

	if (r < 0)
		return r;
	if (memcmp(h, "cxsparse", 8) != 0)
		return disk_err(d, EINVAL, "VHD header at offset %llu: found no \"cxsparse\"",
			(unsigned long long)at);
	if (be32(h + HEADER_CHECKSUM_AT) != checksum(h, VPC_HEADER_SIZE, HEADER_CHECKSUM_AT))
		return disk_err(d, EINVAL,
			"VHD header at offset %llu: its checksum does not match: the image is "
			"damaged",
			(unsigned long long)at);
	v->header = at;
	v->table = be64(h + 16);
	v->blocks = be32(h + 28);
	v->block_size = be32(h + 32);
	memcpy(v->parent_uuid, h + 40, sizeof(v->parent_uuid));
	if (v->block_size < VPC_SECTOR || v->block_size > BLOCK_SIZE_MAX ||
		(v->block_size & (v->block_size - 1)))
		return disk_err(d, EINVAL,
			"VHD header: block size: found %u, expected a power of two from %u to %u",
			v->block_size, VPC_SECTOR, BLOCK_SIZE_MAX);
	v->bitmap_size =
		(v->block_size / VPC_SECTOR / 8 + VPC_SECTOR - 1) / VPC_SECTOR * VPC_SECTOR;
	if (v->bitmap_size == 0)
		v->bitmap_size = VPC_SECTOR;
	return check_blocks(d, v);
}

static void put_utf8(char **out, uint32_t c)
{
	char *p = *out;

	if (c < 0x80) {
		*p++ = (char)c;
	} else if (c < 0x800) {
		*p++ = (char)(0xc0 | c >> 6);
		*p++ = (char)(0x80 | (c & 0x3f));
	} else if (c < 0x10000) {
		*p++ = (char)(0xe0 | c >> 12);
		*p++ = (char)(0x80 | (c >> 6 & 0x3f));
		*p++ = (char)(0x80 | (c & 0x3f));
	} else {
		*p++ = (char)(0xf0 | c >> 18);
		*p++ = (char)(0x80 | (c >> 12 & 0x3f));
		*p++ = (char)(0x80 | (c >> 6 & 0x3f));
		*p++ = (char)(0x80 | (c & 0x3f));
	}
	*out = p;
}

/*
 * Converts a relative Windows path in UTF-16 to a Unix path, which the caller frees. Returns NULL
 * if the text is empty, an absolute path, or invalid UTF-16.
 */
static char *unix_name(const uint8_t *p, size_t len, uint16_t (*get)(const void *))
{
	char *name = malloc(len / 2 * 3 + 1), *out = name;

	for (size_t i = 0; name && i + 1 < len; i += 2) {
		uint32_t c = get(p + i);

		if (c == 0)
			break;
		if (c >= 0xd800 && c < 0xdc00 && i + 3 < len && get(p + i + 2) >= 0xdc00 &&
			get(p + i + 2) < 0xe000) {
			c = 0x10000 + ((c & 0x3ff) << 10) + (get(p + i + 2) & 0x3ff);
			i += 2;
		} else if ((c >= 0xd800 && c < 0xe000) || c == ':') {
			out = name;
			break;
		}
		put_utf8(&out, c == '\\' ? '/' : c);
	}
	if (name)
		*out = '\0';
	if (name && (!*name || *name == '/')) {
		free(name);
		return NULL;
	}
	return name;
}

/* Finds the parent's relative path among the header's eight parent locators. */
static int find_locator(struct disk *d, struct vpc *v, const uint8_t *h)
{
	uint8_t text[2048];

	for (const uint8_t *l = h + 576; l < h + 576 + 8 * 24 && !v->parent; l += 24) {
		uint32_t len = be32(l + 8);

		if (memcmp(l, "W2ru", 4) != 0 || len > sizeof(text))
			continue;
		int r = disk_read_meta(d, text, len, be64(l + 16), "VHD parent locator");
		if (r < 0)
			return r;
		v->parent = unix_name(text, len, le16);
	}
	return 0;
}

static int open_parent(
	struct disk *d, struct vpc *v, const struct disk_options *o, const uint8_t *h)
{
	int r = find_locator(d, v, h);

	if (r < 0)
		return r;
	/*
	 * If no locator has a relative path, the parent is searched in the image's folder, by the
	 * name in the header.
	 */
	if (!v->parent)
		v->parent = unix_name(h + 64, 512, be16);
	if (!v->parent)
		return disk_err(d, EINVAL,
			"VHD header: parent: found no relative path and no file name, expected one "
			"in a differencing image");
	r = disk_open_backing(d, o, v->parent, "vpc");
	if (r < 0 || !d->backing)
		return r;
	const struct vpc *parent = d->backing->state;
	if (memcmp(parent->uuid, v->parent_uuid, sizeof(parent->uuid)) != 0)
		return disk_err(d, EINVAL,
			"VHD header: parent UUID: \"%s\" has another one: it is not the file "
			"that this image was made from",
			v->parent);
	return 0;
}

static int vpc_open(struct disk *d, const struct disk_options *o)
{
	struct vpc *v = calloc(1, sizeof(*v));
	uint8_t f[VPC_FOOTER_SIZE], h[VPC_HEADER_SIZE];

	d->state = v;
	if (!v)
		return disk_err(d, ENOMEM, "no memory");
	int r = disk_file_size(d, &v->file_size);
	if (r >= 0)
		r = read_footer(d, v, f);
	if (r < 0)
		return r;
	v->type = be32(f + 60);
	d->size = disk_bytes(f);
	memcpy(v->uuid, f + 68, sizeof(v->uuid));
	if (d->size % VPC_SECTOR || d->size > INT64_MAX)
		return disk_err(d, EINVAL,
			"VHD footer: size: found %llu, expected a multiple of %u below 2^63",
			(unsigned long long)d->size, VPC_SECTOR);
	if (v->type == VPC_FIXED && d->size > v->file_size - VPC_FOOTER_SIZE)
		return disk_err(d, EINVAL,
			"VHD footer: size: found %llu, but the file has only %llu bytes before "
			"its footer: the image is cut short",
			(unsigned long long)d->size,
			(unsigned long long)(v->file_size - VPC_FOOTER_SIZE));
	if (v->type == VPC_FIXED)
		return 0;
	if (v->type != VPC_DYNAMIC && v->type != VPC_DIFFERENCING)
		return disk_err(d, EOPNOTSUPP,
			"VHD footer: disk type: found %u, expected 2 (fixed), 3 (dynamic) or "
			"4 (differencing)",
			v->type);
	r = read_header(d, v, be64(f + 16), h);
	if (r >= 0 && v->type == VPC_DIFFERENCING)
		r = open_parent(d, v, o, h);
	return r;
}

static void vpc_close(struct disk *d)
{
	struct vpc *v = d->state;

	if (v)
		free(v->parent);
	free(v);
}

/*
 * Counts the sectors from `first` on that have the same bit in the sector bitmap, and sets *ret_bit
 * to that bit.
 */
static int bitmap_run(
	struct disk *d, uint64_t bitmap, uint32_t first, uint32_t n, uint32_t *ret_n, bool *ret_set)
{
	uint8_t raw[VPC_SECTOR];
	uint32_t byte = first / 8, bytes = (first + n + 7) / 8 - byte, i = 0;

	if (bytes > sizeof(raw))
		bytes = sizeof(raw);
	int r = disk_read_meta(d, raw, bytes, bitmap + byte, "VHD sector bitmap");
	if (r < 0)
		return r;
	first %= 8;
	if (n > bytes * 8 - first)
		n = bytes * 8 - first;
	*ret_set = raw[first / 8] & 0x80 >> first % 8;
	while (i < n && !!(raw[(first + i) / 8] & 0x80 >> (first + i) % 8) == *ret_set)
		i++;
	*ret_n = i;
	return 0;
}

/*
 * Finds how far the sectors of a block are of one kind. In a differencing image, a clear bit means
 * that the sector is in the parent. In a dynamic image the bits are ignored, as in QEMU, because
 * some programs do not set the bits of blocks that they fill.
 */
static int map_sectors(struct disk *d, uint64_t bitmap, uint32_t within, struct disk_extent *ret)
{
	uint32_t first = within / VPC_SECTOR,
		 last = (uint32_t)((within + ret->length - 1) / VPC_SECTOR), n;
	bool set;

	int r = bitmap_run(d, bitmap, first, last - first + 1, &n, &set);
	if (r < 0)
		return r;
	uint64_t length = (uint64_t)n * VPC_SECTOR - within % VPC_SECTOR;
	if (length < ret->length)
		ret->length = length;
	if (!set) {
		ret->kind = DISK_HOLE;
		ret->fd = -EBADF;
		ret->host = DISK_NO_HOST;
	}
	return 0;
}

int vpc_find_block(struct disk *d, uint64_t block, uint32_t entry, uint64_t *ret)
{
	const struct vpc *v = d->state;

	*ret = (uint64_t)entry * VPC_SECTOR;
	if (!disk_inside(
		    *ret, v->bitmap_size + disk_block_bytes(d, block, v->block_size), v->file_size))
		return disk_err(d, EIO,
			"VHD block table: entry %llu at offset %llu: found a block at offset %llu, "
			"expected it within the file's %llu bytes",
			(unsigned long long)block, (unsigned long long)(v->table + block * 4),
			(unsigned long long)*ret, (unsigned long long)v->file_size);
	return 0;
}

static int map_block(struct disk *d, uint64_t offset, struct disk_extent *ret)
{
	const struct vpc *v = d->state;
	uint64_t block = offset / v->block_size, start = block * v->block_size;
	uint64_t used = disk_block_bytes(d, block, v->block_size), host;
	uint8_t raw[4];

	int r = disk_read_meta(d, raw, sizeof(raw), v->table + block * 4, "VHD block table");
	if (r < 0)
		return r;
	if (start + used - offset < ret->length)
		ret->length = start + used - offset;
	if (be32(raw) == VPC_UNUSED) {
		ret->kind = DISK_HOLE;
		return 0;
	}
	r = vpc_find_block(d, block, be32(raw), &host);
	if (r < 0)
		return r;
	ret->kind = DISK_DATA;
	ret->fd = d->fd;
	ret->host = host + v->bitmap_size + (offset - start);
	return v->type == VPC_DIFFERENCING ? map_sectors(d, host, (uint32_t)(offset - start), ret)
					   : 0;
}

static int vpc_map(struct disk *d, uint64_t offset, uint64_t length, struct disk_extent *ret)
{
	const struct vpc *v = d->state;

	if (v->type != VPC_FIXED)
		return map_block(d, offset, ret);
	ret->kind = DISK_DATA;
	ret->fd = d->fd;
	ret->host = offset;
	return 0;
}

static int vpc_info(struct disk *d, struct disk_info *info)
{
	static const char *const names[] = {
		[VPC_FIXED] = "fixed",
		[VPC_DYNAMIC] = "dynamic",
		[VPC_DIFFERENCING] = "differencing",
	};
	const struct vpc *v = d->state;

	info->cluster_size = v->block_size;
	if (v->parent) {
		info->backing = v->parent;
		info->backing_format = "vpc";
	}
	return disk_fact_text(info, "create-type", names[v->type]);
}

const struct disk_format format_vpc = {
	.name = "vpc",
	.open = vpc_open,
	.close = vpc_close,
	.map = vpc_map,
	.info = vpc_info,
	.check = vpc_check,
};
