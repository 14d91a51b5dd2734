/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the table of internal snapshots, checking every number, and converts the snapshots to the
 * on-disk format for writing.
 */
#include "images/disk/qcow2/snapshots.h"

#define ENTRY_HEAD 40
#define EXTRA_SIZE QCOW2_SNAPSHOT_EXTRA
#define TABLE_MAX (64u << 20)

void qcow2_snapshots_release(struct qcow2_snapshots *s)
{
	for (size_t i = 0; i < s->n; i++) {
		free(s->v[i].id);
		free(s->v[i].name);
		free(s->v[i].extra);
	}
	free(s->v);
	*s = (struct qcow2_snapshots){0};
}

static int bad(struct disk *d, size_t i, const char *what, uint64_t found, const char *expected)
{
	return disk_err(d, EINVAL, "snapshot table: entry %zu: %s: found %llu, expected %s", i,
		what, (unsigned long long)found, expected);
}

static int read_text(struct disk *d, uint64_t at, size_t len, char **ret)
{
	char *s = malloc(len + 1);

	*ret = s;
	if (!s)
		return disk_err(d, ENOMEM, "no memory");
	int r = len ? disk_read_meta(d, s, len, at, "snapshot table") : 0;
	s[r < 0 ? 0 : len] = '\0';
	return r;
}

static int read_extra(struct disk *d, struct qcow2_snapshot *s, uint64_t at)
{
	const uint8_t *p;

	s->extra = malloc(s->extra_length + 1);
	if (!s->extra)
		return disk_err(d, ENOMEM, "no memory");
	int r = s->extra_length ? disk_read_meta(d, s->extra, s->extra_length, at, "snapshot table")
				: 0;
	p = s->extra;
	if (r >= 0 && s->extra_length >= 8)
		s->vm_state_size = be64(p);
	if (r >= 0 && s->extra_length >= 16)
		s->disk_size = be64(p + 8);
	s->has_icount = r >= 0 && s->extra_length >= 24;
	if (s->has_icount)
		s->icount = be64(p + 16);
	return r;
}

static int check_l1(struct disk *d, const struct qcow2_snapshot *s, size_t i)
{
	struct qcow2 *q = qcow2_of(d);

	if (s->l1_size > QCOW2_L1_MAX / 8)
		return bad(d, i, "L1 table's entries", s->l1_size, "at most 4194304");
	if (s->l1_offset & (q->cluster_size - 1) || s->l1_offset > INT64_MAX / 2 ||
		(s->l1_size && !s->l1_offset))
		return bad(d, i, "L1 table's offset", s->l1_offset, "that of a cluster");
	if (s->disk_size > INT64_MAX)
		return bad(d, i, "disk size", s->disk_size, "at most 2^63 - 1");
	return 0;
}

static int read_entry(struct disk *d, struct qcow2_snapshot *s, size_t i, uint64_t *at)
{
	struct qcow2 *q = qcow2_of(d);
	uint8_t b[ENTRY_HEAD];

	int r = disk_read_meta(d, b, sizeof(b), *at, "snapshot table");
	if (r < 0)
		return r;
	s->id_length = be16(b + 12);
	s->name_length = be16(b + 14);
	s->l1_offset = be64(b);
	s->l1_size = be32(b + 8);
	s->seconds = be32(b + 16);
	s->nanoseconds = be32(b + 20);
	s->vm_clock_ns = be64(b + 24);
	s->vm_state_size = be32(b + 32);
	s->extra_length = be32(b + 36);
	s->disk_size = q->h.size;
	if (s->extra_length > 1024)
		return bad(d, i, "extra data's length", s->extra_length, "at most 1024");
	*at += ENTRY_HEAD;
	r = read_extra(d, s, *at);
	*at += s->extra_length;
	if (r >= 0)
		r = read_text(d, *at, s->id_length, &s->id);
	*at += s->id_length;
	if (r >= 0)
		r = read_text(d, *at, s->name_length, &s->name);
	*at = (*at + s->name_length + 7) / 8 * 8;
	return r < 0 ? r : check_l1(d, s, i);
}

int qcow2_snapshots_read(struct disk *d, struct qcow2_snapshots *ret)
{
	struct qcow2 *q = qcow2_of(d);
	uint64_t at = q->h.snapshots_offset;

	*ret = (struct qcow2_snapshots){.v = calloc(q->h.snapshots + 1, sizeof(*ret->v))};
	if (!ret->v)
		return disk_err(d, ENOMEM, "no memory");
	for (size_t i = 0; i < q->h.snapshots; i++) {
		ret->n = i + 1;
		int r = read_entry(d, &ret->v[i], i, &at);
		if (r >= 0 && at - q->h.snapshots_offset > TABLE_MAX)
			r = bad(d, i, "its end", at, "a table of at most 64 MiB");
		if (r < 0) {
			qcow2_snapshots_release(ret);
			return r;
		}
	}
	return 0;
}

int qcow2_snapshot_format(const struct qcow2_snapshot *s, struct strbuf *out)
{
	static const uint8_t zeros[8];
	size_t extra = s->extra_length < EXTRA_SIZE ? EXTRA_SIZE : s->extra_length;
	uint8_t b[ENTRY_HEAD] = {0}, x[EXTRA_SIZE] = {0};

	put_be64(b, s->l1_offset);
	put_be32(b + 8, s->l1_size);
	put_be16(b + 12, s->id_length);
	put_be16(b + 14, s->name_length);
	put_be32(b + 16, s->seconds);
	put_be32(b + 20, s->nanoseconds);
	put_be64(b + 24, s->vm_clock_ns);
	put_be32(b + 32, s->vm_state_size > UINT32_MAX ? 0 : (uint32_t)s->vm_state_size);
	put_be32(b + 36, (uint32_t)extra);
	put_be64(x, s->vm_state_size);
	put_be64(x + 8, s->disk_size);
	put_be64(x + 16, s->has_icount ? s->icount : UINT64_MAX);
	int r = strbuf_add(out, b, sizeof(b));
	if (r >= 0)
		r = strbuf_add(out, x, sizeof(x));
	if (r >= 0 && extra > EXTRA_SIZE)
		r = strbuf_add(out, (const char *)s->extra + EXTRA_SIZE, extra - EXTRA_SIZE);
	if (r >= 0)
		r = strbuf_add(out, s->id, s->id_length);
	if (r >= 0)
		r = strbuf_add(out, s->name, s->name_length);
	if (r >= 0 && out->len % 8)
		r = strbuf_add(out, zeros, 8 - out->len % 8);
	return r;
}

/*
 * Returns the number of bytes that the first n entries take in the image file. The number must be
 * computed, because entries have no fixed length.
 */
uint64_t qcow2_snapshots_length(const struct qcow2_snapshots *s, size_t n)
{
	uint64_t length = 0;

	for (size_t i = 0; i < n; i++)
		length += (ENTRY_HEAD + s->v[i].extra_length + s->v[i].id_length +
				  s->v[i].name_length + 7) /
			  8 * 8;
	return length;
}
