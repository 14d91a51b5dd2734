/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Maintains persistent dirty bitmaps. A bitmap with the flag "auto" must record every write. So
 * before the first write this code marks the bitmap as in use, collects the changes in memory, and
 * adds them to the bitmap when the image is closed. If the process dies before the image is closed,
 * the mark stays and tells QEMU that the bitmap is incomplete. If a bitmap cannot be maintained,
 * the header declares all bitmaps invalid.
 */
#include "images/disk/qcow2/bitmaps.h"

#define ENTRY_HEAD 24
#define IN_USE 1u
#define AUTO 2u
#define EXTRA_COMPATIBLE 4u
#define MEMORY_MAX (16u << 20)

struct qcow2_tracked_bitmap {
	struct qcow2_bitmap b;
	uint64_t bits; /* number of bits in the bitmap */
	/* the recorded changes: a bit for each granule of the disk that was written */
	uint8_t *new;
};

static int bad(struct disk *d, size_t i, const char *what, uint64_t found, const char *expected)
{
	return disk_err(d, EINVAL, "bitmap directory: entry %zu: %s: found %llu, expected %s", i,
		what, (unsigned long long)found, expected);
}

static int parse_entry(
	struct qcow2 *q, const uint8_t *p, size_t left, size_t i, struct qcow2_bitmap *ret)
{
	if (left < ENTRY_HEAD)
		return bad(q->d, i, "bytes", left, "at least 24");
	*ret = (struct qcow2_bitmap){.table_offset = be64(p),
		.table_size = be32(p + 8),
		.flags = be32(p + 12),
		.type = p[16],
		.granularity_bits = p[17],
		.name_length = be16(p + 18),
		.extra_length = be32(p + 20)};
	uint64_t length = ENTRY_HEAD + (uint64_t)ret->extra_length + ret->name_length;
	if (length > left)
		return bad(q->d, i, "length", length, "less than is left of the directory");
	ret->length = (length + 7) / 8 * 8;
	if (ret->length > left)
		ret->length = left;
	ret->name = (const char *)p + ENTRY_HEAD + ret->extra_length;
	if (ret->table_offset & (q->cluster_size - 1) || ret->table_offset > INT64_MAX / 2)
		return bad(q->d, i, "table's offset", ret->table_offset, "that of a cluster");
	if (ret->table_size > QCOW2_L1_MAX / 8)
		return bad(q->d, i, "table's entries", ret->table_size, "at most 4194304");
	if (ret->granularity_bits > 63)
		return bad(q->d, i, "granularity_bits", ret->granularity_bits, "at most 63");
	return 0;
}

int qcow2_bitmaps_each(struct qcow2 *q,
	int (*f)(void *data, struct qcow2 *q, const struct qcow2_bitmap *b), void *data)
{
	_cleanup_free_ uint8_t *dir = malloc(q->h.bitmaps_size + 1);
	uint64_t at = 0;

	if (!dir)
		return disk_err(q->d, ENOMEM, "no memory");
	int r = disk_read_meta(
		q->d, dir, q->h.bitmaps_size, q->h.bitmaps_offset, "bitmap directory");
	for (uint32_t i = 0; i < q->h.bitmaps && r >= 0; i++) {
		struct qcow2_bitmap b;

		r = parse_entry(q, dir + at, q->h.bitmaps_size - at, i, &b);
		if (r < 0)
			return r;
		b.entry_offset = q->h.bitmaps_offset + at;
		at += b.length;
		r = f(data, q, &b);
	}
	return r;
}

static int add_facts(void *data, struct qcow2 *q, const struct qcow2_bitmap *b)
{
	struct disk_info *i = data;
	_cleanup_free_ char *name = strndup(b->name, b->name_length);

	if (!name)
		return disk_err(q->d, ENOMEM, "no memory");
	int r = disk_fact_begin(i, NULL, DISK_FACT_OBJECT);
	if (r >= 0)
		r = disk_fact_begin(i, "flags", DISK_FACT_ARRAY);
	if (r >= 0 && b->flags & IN_USE)
		r = disk_fact_text(i, NULL, "in-use");
	if (r >= 0 && b->flags & AUTO)
		r = disk_fact_text(i, NULL, "auto");
	if (r >= 0)
		r = disk_fact_end(i);
	if (r >= 0)
		r = disk_fact_text(i, "name", name);
	if (r >= 0)
		r = disk_fact_number(i, "granularity", 1ull << b->granularity_bits);
	return r < 0 ? r : disk_fact_end(i);
}

int qcow2_bitmap_facts(struct qcow2 *q, struct disk_info *i)
{
	/* The header declares all bitmaps invalid, so that they are as good as not there. */
	if (!q->h.bitmaps || !(q->h.autoclear & QCOW2_BITMAPS))
		return 0;
	int r = disk_fact_begin(i, "bitmaps", DISK_FACT_ARRAY);
	if (r < 0)
		return r;
	r = qcow2_bitmaps_each(q, add_facts, i);
	bool damaged = r == -EINVAL;
	if (r >= 0 || damaged)
		r = disk_fact_end(i);
	if (damaged && r >= 0)
		r = disk_fact_text(i, "bitmaps-problem", err_msg());
	if (damaged)
		err_clear();
	return r;
}

static int declare_stale(struct qcow2 *q)
{
	uint8_t b[8];

	qcow2_bitmaps_release(q);
	put_be64(b, q->h.autoclear & ~QCOW2_BITMAPS);
	int r = qcow2_header_patch(q, QCOW2_AT_AUTOCLEAR, b, sizeof(b));
	if (r >= 0)
		q->h.autoclear &= ~QCOW2_BITMAPS;
	return r;
}

static int write_flags(struct qcow2 *q, const struct qcow2_bitmap *b, uint32_t flags)
{
	uint8_t p[4];

	put_be32(p, flags);
	int r = io_write(q->d->fd, p, sizeof(p), b->entry_offset + 12);
	return r < 0 ? disk_err(q->d, -r, "write the bitmap directory: %s", err_text(-r)) : 0;
}

/*
 * Starts to record changes for the bitmap, if it is an "auto" bitmap. Returns 1 if the changes
 * cannot be recorded.
 */
static int track(void *data, struct qcow2 *q, const struct qcow2_bitmap *b)
{
	size_t *memory = data;
	struct qcow2_tracked_bitmap *t;

	if (!(b->flags & AUTO) || b->flags & IN_USE)
		return 0;
	if (b->type != 1 || b->extra_length || b->granularity_bits < 9 || b->granularity_bits > 31)
		return 1;
	uint64_t bits = (q->d->size + (1ull << b->granularity_bits) - 1) >> b->granularity_bits;
	uint64_t clusters = (bits / 8 + q->cluster_size) / q->cluster_size;
	if (*memory + bits / 8 + 1 > MEMORY_MAX || b->table_size > clusters ||
		(uint64_t)b->table_size * q->cluster_size * 8 < bits)
		return 1;
	*memory += bits / 8 + 1;
	t = realloc(q->tracked, (q->tracked_n + 1) * sizeof(*t));
	if (!t)
		return disk_err(q->d, ENOMEM, "no memory");
	q->tracked = t;
	t += q->tracked_n++;
	*t = (struct qcow2_tracked_bitmap){.b = *b, .bits = bits, .new = calloc(1, bits / 8 + 1)};
	if (!t->new)
		return disk_err(q->d, ENOMEM, "no memory");
	return write_flags(q, b, b->flags | IN_USE);
}

static int begin(struct qcow2 *q)
{
	size_t memory = 0;

	q->bitmaps_off = true;
	if (!q->h.bitmaps || !(q->h.autoclear & QCOW2_BITMAPS))
		return 0;
	int r = qcow2_bitmaps_each(q, track, &memory);
	/*
	 * If the bitmap directory is damaged, all bitmaps are declared invalid, as if a bitmap
	 * could not be maintained, because only QEMU can repair the directory.
	 */
	if (r == 1 || r == -EINVAL) {
		err_clear();
		return declare_stale(q);
	}
	return r < 0 ? r : qcow2_sync(q);
}

int qcow2_bitmaps_touch(struct qcow2 *q, uint64_t offset, uint64_t length)
{
	int r = q->bitmaps_off || length == 0 ? 0 : begin(q);

	for (size_t i = 0; i < q->tracked_n && length > 0; i++) {
		struct qcow2_tracked_bitmap *t = &q->tracked[i];
		uint64_t last = (offset + length - 1) >> t->b.granularity_bits;

		for (uint64_t n = offset >> t->b.granularity_bits; n <= last && n < t->bits; n++)
			t->new[n / 8] |= (uint8_t)(1u << (n % 8));
	}
	return r;
}

/*
 * Adds the recorded changes to the cluster of the bitmap that entry i of the bitmap's table refers
 * to.
 */
static int store_cluster(
	struct qcow2 *q, const struct qcow2_tracked_bitmap *t, uint64_t i, uint8_t *buf)
{
	uint64_t bytes = t->bits / 8 + 1, at = i * q->cluster_size, host;
	uint64_t here = bytes - at < q->cluster_size ? bytes - at : q->cluster_size;
	uint64_t entry_at = t->b.table_offset + i * 8;
	uint8_t entry[8];
	bool any = false;

	for (uint64_t n = 0; n < here && !any; n++)
		any = t->new[at + n] != 0;
	if (!any)
		return 0;
	int r = disk_read_meta(q->d, entry, sizeof(entry), entry_at, "bitmap table");
	if (r < 0)
		return r;
	uint64_t old = be64(entry);
	host = old & QCOW2_OFFSET;
	/*
	 * Nothing is added if the bitmap table's entry says that all bits of this cluster are set.
	 */
	if (!host && old & 1)
		return 0;
	memset(buf, 0, q->cluster_size);
	if (host)
		r = disk_read_meta(q->d, buf, q->cluster_size, host, "bitmap");
	else
		r = qcow2_alloc_table(q, 1, &host);
	for (uint64_t n = 0; n < here; n++)
		buf[n] |= t->new[at + n];
	if (r >= 0 && old & QCOW2_OFFSET)
		r = qcow2_guard(q, host, q->cluster_size, "a bitmap");
	if (r >= 0)
		r = io_write(q->d->fd, buf, q->cluster_size, host);
	if (r >= 0)
		r = qcow2_flush_all(q);
	put_be64(entry, host);
	return r < 0 ? r : io_write(q->d->fd, entry, sizeof(entry), entry_at);
}

int qcow2_bitmaps_store(struct qcow2 *q)
{
	_cleanup_free_ uint8_t *buf = q->tracked_n ? malloc(q->cluster_size) : NULL;
	int r = q->tracked_n && !buf ? -ENOMEM : 0;

	for (size_t k = 0; k < q->tracked_n && r >= 0; k++) {
		const struct qcow2_tracked_bitmap *t = &q->tracked[k];
		uint64_t clusters = t->bits / 8 / q->cluster_size + 1;

		for (uint64_t i = 0; i < clusters && i < t->b.table_size && r >= 0; i++)
			r = store_cluster(q, t, i, buf);
	}
	if (r >= 0 && q->tracked_n)
		r = qcow2_sync(q);
	for (size_t k = 0; k < q->tracked_n && r >= 0; k++)
		r = write_flags(q, &q->tracked[k].b, q->tracked[k].b.flags);
	return r;
}

void qcow2_bitmaps_release(struct qcow2 *q)
{
	for (size_t i = 0; i < q->tracked_n; i++)
		free(q->tracked[i].new);
	free(q->tracked);
	q->tracked = NULL;
	q->tracked_n = 0;
}
