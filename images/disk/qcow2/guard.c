/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refuses to write data to places in the file where tables are, because entries of a damaged image
 * may lead there. If an L2 entry referred to a refcount block, for example, the guest could
 * otherwise write refcounts.
 */
#include <stdarg.h>

#include "images/disk/qcow2/internal.h"

int qcow2_damaged(struct qcow2 *q, const char *fmt, ...)
{
	uint64_t value = q->h.incompatible | QCOW2_CORRUPT;
	char text[512];
	uint8_t b[8];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/*
	 * The corrupt bit is set in the header, to warn other programs. If writing the bit fails,
	 * the caller still gets the error that says what is damaged.
	 */
	if (q->d->write && !q->broken && q->h.version >= 3) {
		put_be64(b, value);
		if (io_write(q->d->fd, b, sizeof(b), QCOW2_AT_INCOMPATIBLE) >= 0)
			q->h.incompatible = value;
	}
	q->broken = true;
	return disk_err(q->d, EIO,
		"the image is damaged: %s: nothing is written any more; `caisson disk check` tells "
		"more",
		text);
}

int qcow2_refuse_damaged(struct qcow2 *q)
{
	return disk_err(q->d, EIO,
		"the image is damaged: nothing is written any more; `caisson disk check` tells "
		"more");
}

static bool overlaps(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a < b + b_len && b < a + a_len;
}

int qcow2_guard(struct qcow2 *q, uint64_t host, uint64_t length, const char *what)
{
	const struct qcow2_header *h = &q->h;
	uint64_t first = host & ~(q->cluster_size - 1);
	const char *hit = NULL;
	/*
	 * Length 0 means that the caller writes an L2 table or a refcount block. These are
	 * themselves protected tables, so only an overlap with the header and the other tables is
	 * an error.
	 */
	bool table = length == 0;

	if (table)
		length = 1;
	if (overlaps(host, length, 0, q->cluster_size))
		hit = "header";
	else if (overlaps(host, length, h->l1_offset, (uint64_t)h->l1_size * 8))
		hit = "L1 table";
	else if (overlaps(host, length, h->table_offset,
			 (uint64_t)h->table_clusters << h->cluster_bits))
		hit = "refcount table";
	else if (h->snapshots && overlaps(host, length, h->snapshots_offset, q->cluster_size))
		hit = "snapshot table";
	else if (h->crypto_length && overlaps(host, length, h->crypto_offset, h->crypto_length))
		hit = "LUKS header";
	for (uint64_t at = first; !hit && !table && at < host + length; at += q->cluster_size)
		if (qcow2_set_has(&q->tables, at))
			hit = "L2 tables or refcount blocks";
	if (!hit)
		return 0;
	return qcow2_damaged(
		q, "%s at offset %llu lies on the %s", what, (unsigned long long)host, hit);
}

static int add_table(struct qcow2 *q, uint64_t at, const char *what, size_t i)
{
	if (at & (q->cluster_size - 1))
		return qcow2_damaged(q, "%s %zu at offset %llu does not begin at a cluster", what,
			i, (unsigned long long)at);
	int r = qcow2_guard(q, at, q->cluster_size, what);
	return r < 0 ? r : qcow2_set_add(&q->tables, at);
}

int qcow2_guard_build(struct qcow2 *q)
{
	int r = 0;

	for (size_t i = 0; i < q->table_n && r >= 0; i++)
		if (q->table[i])
			r = add_table(q, q->table[i], "refcount block", i);
	for (size_t i = 0; i < q->h.l1_size && r >= 0; i++)
		/*
		 * An L2 table without the COPIED flag is not added to the protected tables, because
		 * nothing is written to such a table: it is copied before it is changed.
		 */
		if (q->l1[i] & QCOW2_COPIED)
			r = add_table(q, q->l1[i] & QCOW2_OFFSET, "L2 table", i);
	return r;
}
