/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the header, its extensions and the names in the header, and checks every number. */
#include "images/disk/qcow2/internal.h"

struct parser {
	struct disk *d;
	struct qcow2_header *h;
	uint8_t *cluster; /* first cluster of the file, or less if the file is shorter */
	size_t len;
};

static int bad_number(struct disk *d, const char *field, uint64_t found, const char *expected)
{
	return disk_err(d, EINVAL, "qcow2 header: %s: found %llu (0x%llx), expected %s", field,
		(unsigned long long)found, (unsigned long long)found, expected);
}

/*
 * Checks that a table begins at a cluster boundary behind the header, and that it ends within the
 * limits. An empty table may be anywhere.
 */
static int check_table(struct disk *d, const struct qcow2_header *h, const char *field, uint64_t at,
	uint64_t bytes)
{
	uint64_t cluster = 1ull << h->cluster_bits;

	if (bytes == 0)
		return 0;
	if (at & (cluster - 1))
		return bad_number(d, field, at, "a multiple of the cluster size");
	if (at == 0)
		return bad_number(d, field, at, "a place behind the header");
	if (at > INT64_MAX || bytes > INT64_MAX - at)
		return bad_number(d, field, at, "an offset within the file");
	return 0;
}

static int check_geometry(struct disk *d, const struct qcow2_header *h)
{
	unsigned entry_bits = h->incompatible & QCOW2_EXTENDED_L2 ? 4 : 3;
	/* log2 of the number of bytes of the disk that one L1 entry covers */
	unsigned bits = 2 * h->cluster_bits - entry_bits;
	uint64_t need = h->size >> bits;

	if (h->size & ((1ull << bits) - 1))
		need++;
	if (h->l1_size > QCOW2_L1_MAX / 8)
		return bad_number(d, "l1_size", h->l1_size, "at most 4194304 entries");
	if (h->l1_size < need)
		return disk_err(d, EINVAL,
			"qcow2 header: l1_size: found %u entries, expected at least %llu for a "
			"disk of "
			"%llu bytes",
			h->l1_size, (unsigned long long)need, (unsigned long long)h->size);
	if ((uint64_t)h->table_clusters << h->cluster_bits > QCOW2_TABLE_MAX)
		return bad_number(d, "refcount_table_clusters", h->table_clusters,
			"at most 8 MiB of clusters");
	if (h->table_clusters == 0)
		return bad_number(d, "refcount_table_clusters", 0, "at least 1");
	if (h->snapshots > QCOW2_SNAPSHOTS_MAX)
		return bad_number(d, "nb_snapshots", h->snapshots, "at most 65536");
	int r = check_table(d, h, "l1_table_offset", h->l1_offset, (uint64_t)h->l1_size * 8);
	if (r >= 0)
		r = check_table(d, h, "refcount_table_offset", h->table_offset,
			(uint64_t)h->table_clusters << h->cluster_bits);
	if (r >= 0)
		r = check_table(d, h, "snapshots_offset", h->snapshots_offset, h->snapshots);
	return r;
}

static const char *feature_name(const struct qcow2_header *h, unsigned bit, char *buf, size_t size)
{
	const uint8_t *p = (const uint8_t *)h->features.s;

	for (size_t at = 0; at + 48 <= h->features.len; at += 48)
		if (p[at] == 0 && p[at + 1] == bit) {
			str_quote_end(buf, size, (const char *)p + at + 2,
				strnlen((const char *)p + at + 2, 46));
			return buf;
		}
	snprintf(buf, size, "bit %u, which has no name", bit);
	return buf;
}

static int check_crypt(struct disk *d, const struct qcow2_header *h)
{
	if (h->crypt > QCOW2_CRYPT_LUKS)
		return bad_number(d, "crypt_method", h->crypt, "0, 1 (AES) or 2 (LUKS)");
	if (h->crypt == QCOW2_CRYPT_AES && !d->alone)
		return disk_err(d, EOPNOTSUPP,
			"the image is encrypted by an old method (crypt_method: AES), which "
			"caisson does not read: decrypt it with qemu-img convert");
	if (h->crypt == QCOW2_CRYPT_LUKS && !h->crypto_length)
		return disk_err(d, EINVAL,
			"qcow2 header: found no extension 0x0537be77 with the place of the LUKS "
			"header, expected one, because crypt_method is 2 (LUKS)");
	if (h->crypt != QCOW2_CRYPT_LUKS && h->crypto_length)
		return bad_number(d, "crypt_method", h->crypt,
			"2 (LUKS), because the header has the extension 0x0537be77");
	return 0;
}

/*
 * Refuses images with unknown incompatible features. The caller has read the extensions before,
 * because one of them contains the names of the features, which the error message uses.
 */
static int check_features(struct disk *d, const struct qcow2_header *h)
{
	uint64_t unknown = h->incompatible & ~QCOW2_INCOMPATIBLE_KNOWN;
	char name[64];

	if (unknown)
		return disk_err(d, EOPNOTSUPP,
			"qcow2 header: incompatible_features: found \"%s\", which caisson does not "
			"know: "
			"open the image with the program that made it",
			feature_name(h, (unsigned)__builtin_ctzll(unknown), name, sizeof(name)));
	int r = check_crypt(d, h);
	if (r < 0)
		return r;
	bool has_type = h->compression != QCOW2_ZLIB;
	if (has_type != !!(h->incompatible & QCOW2_COMPRESSION))
		return disk_err(d, EINVAL,
			"qcow2 header: compression_type: found %d, expected %s as the incompatible "
			"feature bit 3 says",
			h->compression, has_type ? "0 (zlib)" : "another than 0 (zlib)");
	if ((h->incompatible & QCOW2_EXTENDED_L2) && h->cluster_bits < 14)
		return bad_number(
			d, "cluster_bits", h->cluster_bits, "at least 14 with extended L2");
	if ((h->autoclear & QCOW2_RAW_DATA) && !(h->incompatible & QCOW2_DATA_FILE))
		return disk_err(d, EINVAL,
			"qcow2 header: autoclear_features: found bit 1 (raw external data) without "
			"an "
			"external data file");
	return 0;
}

static int parse_v3(struct parser *p)
{
	struct qcow2_header *h = p->h;
	const uint8_t *b = p->cluster;

	if (p->len < QCOW2_HEADER_V3)
		return disk_err(p->d, EINVAL, "qcow2 header: found %zu bytes, expected at least %d",
			p->len, QCOW2_HEADER_V3);
	h->incompatible = be64(b + 72);
	h->compatible = be64(b + 80);
	h->autoclear = be64(b + 88);
	h->refcount_order = be32(b + 96);
	h->header_length = be32(b + 100);
	if (h->refcount_order > 6)
		return bad_number(p->d, "refcount_order", h->refcount_order, "at most 6");
	if (h->header_length < QCOW2_HEADER_V3 || h->header_length % 8 || h->header_length > p->len)
		return bad_number(p->d, "header_length", h->header_length,
			"a multiple of 8, from 104 to the cluster size");
	if (h->header_length > QCOW2_HEADER_V3) {
		unsigned type = b[104];

		if (type > QCOW2_ZSTD)
			return bad_number(p->d, "compression_type", type, "0 (zlib) or 1 (zstd)");
		h->compression = type;
		h->additional_length = h->header_length - 105;
		h->additional = malloc(h->additional_length);
		if (!h->additional)
			return disk_err(p->d, ENOMEM, "no memory");
		memcpy(h->additional, b + 105, h->additional_length);
	}
	return 0;
}

static int copy_text(
	struct parser *p, const char *field, const uint8_t *from, size_t len, char **ret)
{
	if (memchr(from, 0, len))
		return disk_err(p->d, EINVAL, "qcow2 header: %s: found a NUL in the text", field);
	if (*ret)
		return disk_err(p->d, EINVAL, "qcow2 header: %s: found it twice", field);
	*ret = strndup((const char *)from, len);
	return *ret ? 0 : disk_err(p->d, ENOMEM, "no memory");
}

static int parse_bitmaps(struct parser *p, const uint8_t *at, size_t len)
{
	struct qcow2_header *h = p->h;

	if (len != 24)
		return bad_number(p->d, "bitmaps extension's length", len, "24");
	h->bitmaps = be32(at);
	h->bitmaps_size = be64(at + 8);
	h->bitmaps_offset = be64(at + 16);
	if (h->bitmaps == 0 || h->bitmaps > QCOW2_BITMAPS_MAX)
		return bad_number(p->d, "nb_bitmaps", h->bitmaps, "1 to 65535");
	if (be32(at + 4))
		return bad_number(p->d, "bitmaps extension's reserved field", be32(at + 4), "0");
	if (h->bitmaps_size > (64u << 20))
		return bad_number(p->d, "bitmap_directory_size", h->bitmaps_size, "at most 64 MiB");
	return check_table(p->d, h, "bitmap_directory_offset", h->bitmaps_offset, h->bitmaps_size);
}

/*
 * Parses the header extension that says where the LUKS header is. Accepts up to QCOW2_CRYPTO_MAX
 * bytes, which is more than any header of LUKS version 1 with all its key slots has.
 */
static int parse_crypto(struct parser *p, const uint8_t *at, size_t len)
{
	struct qcow2_header *h = p->h;

	if (len != 16)
		return bad_number(p->d, "LUKS extension's length", len, "16");
	if (h->crypto_length)
		return disk_err(p->d, EINVAL, "qcow2 header: found the LUKS extension twice");
	h->crypto_offset = be64(at);
	h->crypto_length = be64(at + 8);
	if (h->crypto_length == 0 || h->crypto_length > QCOW2_CRYPTO_MAX)
		return bad_number(
			p->d, "LUKS header's length", h->crypto_length, "1 byte to 16 MiB");
	return check_table(p->d, h, "LUKS header's offset", h->crypto_offset, h->crypto_length);
}

static int parse_extension(struct parser *p, uint32_t type, const uint8_t *head, size_t len)
{
	const uint8_t *data = head + 8;

	switch (type) {
	case QCOW2_EXT_BACKING_FORMAT:
		return copy_text(p, "backing format", data, len, &p->h->backing_format);
	case QCOW2_EXT_DATA_FILE:
		return copy_text(p, "data file", data, len, &p->h->data_file);
	case QCOW2_EXT_FEATURES:
		return strbuf_add(&p->h->features, data, len);
	case QCOW2_EXT_BITMAPS:
		return parse_bitmaps(p, data, len);
	case QCOW2_EXT_CRYPTO:
		return parse_crypto(p, data, len);
	default:
		return strbuf_add(&p->h->unknown, head, 8 + (len + 7) / 8 * 8);
	}
}

static int parse_extensions(struct parser *p, size_t end)
{
	size_t at = p->h->header_length;

	while (at + 8 <= end) {
		uint32_t type = be32(p->cluster + at), len = be32(p->cluster + at + 4);

		if (type == QCOW2_EXT_END)
			return 0;
		/*
		 * The length is rounded up to 8 bytes, because the padding counts too: the backing
		 * file's name may begin right behind the padding.
		 */
		if (len > end - at - 8 || (len + 7) / 8 * 8 > end - at - 8)
			return disk_err(p->d, EINVAL,
				"qcow2 header: extension 0x%08x at %zu: found %u bytes, expected "
				"it to "
				"end before %zu",
				type, at, len, end);
		int r = parse_extension(p, type, p->cluster + at, len);
		if (r < 0)
			return r;
		at += 8 + (size_t)(len + 7) / 8 * 8;
	}
	return 0;
}

static int parse_backing(struct parser *p, size_t *ret_end)
{
	uint64_t at = be64(p->cluster + 8);
	uint32_t len = be32(p->cluster + 16);

	*ret_end = p->len;
	if (at == 0)
		return 0;
	if (len > QCOW2_NAME_MAX)
		return bad_number(p->d, "backing_file_size", len, "at most 1023 bytes");
	if (at < p->h->header_length || at > p->len || len > p->len - at)
		return bad_number(p->d, "backing_file_offset", at, "a place in the first cluster");
	*ret_end = (size_t)at;
	return len ? copy_text(p, "backing file", p->cluster + at, len, &p->h->backing) : 0;
}

static int parse_fixed(struct parser *p)
{
	struct qcow2_header *h = p->h;
	const uint8_t *b = p->cluster;

	h->version = be32(b + 4);
	h->cluster_bits = be32(b + 20);
	h->size = be64(b + 24);
	h->crypt = be32(b + 32);
	h->l1_size = be32(b + 36);
	h->l1_offset = be64(b + 40);
	h->table_offset = be64(b + 48);
	h->table_clusters = be32(b + 56);
	h->snapshots = be32(b + 60);
	h->snapshots_offset = be64(b + 64);
	h->header_length = QCOW2_HEADER_V2;
	h->refcount_order = 4;
	if (h->version != 2 && h->version != 3)
		return bad_number(p->d, "version", h->version, "2 or 3");
	if (h->cluster_bits < 9 || h->cluster_bits > 21)
		return bad_number(p->d, "cluster_bits", h->cluster_bits, "9 to 21");
	if (h->size > INT64_MAX)
		return bad_number(p->d, "size", h->size, "at most 2^63 - 1 bytes");
	return 0;
}

static int read_first(struct parser *p, size_t want)
{
	uint64_t size;
	int r = disk_file_size(p->d, &size);

	if (r < 0)
		return r;
	p->len = size < want ? (size_t)size : want;
	free(p->cluster);
	p->cluster = malloc(want);
	if (!p->cluster)
		return disk_err(p->d, ENOMEM, "no memory");
	if (p->len < QCOW2_HEADER_V2)
		return disk_err(p->d, EINVAL,
			"qcow2 header: found a file of %llu bytes, expected at least %d",
			(unsigned long long)size, QCOW2_HEADER_V2);
	r = disk_read_meta(p->d, p->cluster, p->len, 0, "qcow2 header");
	if (r >= 0 && be32(p->cluster) != QCOW2_MAGIC)
		return disk_err(p->d, EINVAL,
			"qcow2 header: found 0x%08x at offset 0, expected 0x514649fb: this is no "
			"qcow2 "
			"image: name its real format",
			be32(p->cluster));
	return r;
}

static int parse(struct parser *p)
{
	size_t end;

	int r = read_first(p, 512);
	if (r >= 0)
		r = parse_fixed(p);
	if (r >= 0)
		r = read_first(p, (size_t)1 << p->h->cluster_bits);
	if (r >= 0 && p->h->version == 3)
		r = parse_v3(p);
	if (r >= 0)
		r = parse_backing(p, &end);
	if (r >= 0)
		r = parse_extensions(p, end);
	if (r >= 0)
		r = check_features(p->d, p->h);
	return r < 0 ? r : check_geometry(p->d, p->h);
}

int qcow2_header_read(struct disk *d, struct qcow2_header *h)
{
	struct parser p = {.d = d, .h = h};
	int r = parse(&p);

	free(p.cluster);
	return r;
}

void qcow2_header_release(struct qcow2_header *h)
{
	free(h->additional);
	free(h->backing);
	free(h->backing_format);
	free(h->data_file);
	strbuf_release(&h->features);
	strbuf_release(&h->unknown);
}
