/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the header, its extensions and the names in the header, or single fields of it. */
#include "images/disk/qcow2/internal.h"

static int add_extension(struct strbuf *out, uint32_t type, const void *data, size_t len)
{
	static const uint8_t zeros[8];
	uint8_t head[8];

	put_be32(head, type);
	put_be32(head + 4, (uint32_t)len);
	int r = strbuf_add(out, head, sizeof(head));
	if (r >= 0 && len)
		r = strbuf_add(out, data, len);
	if (r >= 0 && len % 8)
		r = strbuf_add(out, zeros, 8 - len % 8);
	return r;
}

static int add_bitmaps(struct strbuf *out, const struct qcow2_header *h)
{
	uint8_t b[24] = {0};

	put_be32(b, h->bitmaps);
	put_be64(b + 8, h->bitmaps_size);
	put_be64(b + 16, h->bitmaps_offset);
	return add_extension(out, QCOW2_EXT_BITMAPS, b, sizeof(b));
}

static int add_crypto(struct strbuf *out, const struct qcow2_header *h)
{
	uint8_t b[16];

	put_be64(b, h->crypto_offset);
	put_be64(b + 8, h->crypto_length);
	return add_extension(out, QCOW2_EXT_CRYPTO, b, sizeof(b));
}

static int add_extensions(struct strbuf *out, const struct qcow2_header *h)
{
	int r = 0;

	if (h->backing_format)
		r = add_extension(out, QCOW2_EXT_BACKING_FORMAT, h->backing_format,
			strlen(h->backing_format));
	if (r >= 0 && h->data_file)
		r = add_extension(out, QCOW2_EXT_DATA_FILE, h->data_file, strlen(h->data_file));
	if (r >= 0 && h->crypto_length)
		r = add_crypto(out, h);
	if (r >= 0 && h->features.len)
		r = add_extension(out, QCOW2_EXT_FEATURES, h->features.s, h->features.len);
	if (r >= 0 && h->bitmaps)
		r = add_bitmaps(out, h);
	if (r >= 0 && h->unknown.len)
		r = strbuf_add(out, h->unknown.s, h->unknown.len);
	return r < 0 ? r : add_extension(out, QCOW2_EXT_END, NULL, 0);
}

static void put_fixed(uint8_t *b, const struct qcow2_header *h)
{
	put_be32(b, QCOW2_MAGIC);
	put_be32(b + 4, h->version);
	put_be32(b + 20, h->cluster_bits);
	put_be64(b + 24, h->size);
	put_be32(b + 32, h->crypt);
	put_be32(b + 36, h->l1_size);
	put_be64(b + 40, h->l1_offset);
	put_be64(b + 48, h->table_offset);
	put_be32(b + 56, h->table_clusters);
	put_be32(b + 60, h->snapshots);
	put_be64(b + 64, h->snapshots_offset);
	put_be64(b + 72, h->incompatible);
	put_be64(b + 80, h->compatible);
	put_be64(b + 88, h->autoclear);
	put_be32(b + 96, h->refcount_order);
	put_be32(b + 100, h->header_length);
	b[104] = (uint8_t)h->compression;
}

int qcow2_header_format(struct disk *d, const struct qcow2_header *h, struct strbuf *out)
{
	uint8_t fixed[105] = {0};
	size_t len = h->header_length < sizeof(fixed) ? h->header_length : sizeof(fixed);

	put_fixed(fixed, h);
	int r = strbuf_add(out, fixed, len);
	if (r >= 0 && h->header_length > sizeof(fixed))
		r = strbuf_add(out, h->additional, h->additional_length);
	if (r >= 0)
		r = add_extensions(out, h);
	if (r >= 0 && h->backing) {
		put_be64(out->s + 8, out->len);
		put_be32(out->s + 16, (uint32_t)strlen(h->backing));
		r = strbuf_add(out, h->backing, strlen(h->backing));
	}
	if (r >= 0 && out->len > (size_t)1 << h->cluster_bits)
		return disk_err(d, ENOSPC,
			"qcow2 header: its fields and names need %zu bytes, and the cluster size "
			"is %llu: "
			"use a shorter backing file name, or larger clusters",
			out->len, 1ull << h->cluster_bits);
	return r;
}

int qcow2_header_write(struct qcow2 *q)
{
	_cleanup_strbuf_ struct strbuf out = {0};
	static const uint8_t zeros[512];

	int r = qcow2_header_format(q->d, &q->h, &out);
	/*
	 * The header is padded with zeros up to the end of its cluster, so that nothing of a longer
	 * old header is left.
	 */
	while (r >= 0 && out.len < q->cluster_size)
		r = strbuf_add(&out, zeros,
			q->cluster_size - out.len < sizeof(zeros) ? q->cluster_size - out.len
								  : sizeof(zeros));
	if (r >= 0)
		r = qcow2_sync(q);
	if (r < 0)
		return r;
	r = io_write(q->d->fd, out.s, out.len, 0);
	if (r < 0)
		return disk_err(q->d, -r, "write the qcow2 header: %s", err_text(-r));
	return qcow2_sync(q);
}

int qcow2_header_patch(struct qcow2 *q, unsigned at, const void *bytes, size_t len)
{
	int r = qcow2_sync(q);

	if (r < 0)
		return r;
	r = io_write(q->d->fd, bytes, len, at);
	if (r < 0)
		return disk_err(
			q->d, -r, "write the qcow2 header at offset %u: %s", at, err_text(-r));
	return qcow2_sync(q);
}

int qcow2_mark_dirty(struct qcow2 *q, bool dirty)
{
	uint64_t value = dirty ? q->h.incompatible | QCOW2_DIRTY : q->h.incompatible & ~QCOW2_DIRTY;
	uint8_t b[8];

	if (q->h.version < 3 || value == q->h.incompatible)
		return 0;
	put_be64(b, value);
	int r = qcow2_header_patch(q, QCOW2_AT_INCOMPATIBLE, b, sizeof(b));
	if (r >= 0)
		q->h.incompatible = value;
	return r;
}
