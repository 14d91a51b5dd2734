/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the maps of sparse files, which say which pieces of a file the tar contains. */
#include <stdlib.h>

#include "images/oci/tar_internal.h"

#define OLD_PIECES 4
#define OLD_MORE_PIECES 21
#define MAP_DIGITS 20

static int broken(void)
{
	return err_set(EBADMSG, "the map of a sparse file is broken");
}

int sparse_add(struct tar *t, uint64_t offset, uint64_t len)
{
	if (t->npieces == t->cap) {
		size_t cap = t->cap ? t->cap * 2 : 16;
		struct tar_piece *v = reallocarray(t->pieces, cap, sizeof(*v));
		if (!v)
			return err_set(ENOMEM, "out of memory");
		t->pieces = v;
		t->cap = cap;
	}
	if (t->npieces == TAR_SPARSE_MAX)
		return err_set(E2BIG, "a sparse file has more than %u pieces", TAR_SPARSE_MAX);
	t->pieces[t->npieces++] = (struct tar_piece){offset, len};
	return 0;
}

int sparse_check(const struct tar *t, uint64_t size, uint64_t stored)
{
	uint64_t end = 0, sum = 0;

	if (size > INT64_MAX)
		return broken();
	for (size_t i = 0; i < t->npieces; i++) {
		const struct tar_piece *p = &t->pieces[i];
		if (p->offset < end || p->offset > size || p->len > size - p->offset)
			return broken();
		end = p->offset + p->len;
		sum += p->len;
	}
	return sum == stored ? 0 : broken();
}

static int add_old(struct tar *t, const unsigned char *p, size_t n)
{
	for (size_t i = 0; i < n; i++, p += 24) {
		int64_t offset, len;
		if (p[0] == 0 && p[12] == 0)
			continue;
		if (tar_number(p, 12, &offset) < 0 || tar_number(p + 12, 12, &len) < 0 ||
			offset < 0 || len < 0)
			return broken();
		int r = sparse_add(t, (uint64_t)offset, (uint64_t)len);
		if (r < 0)
			return r;
	}
	return 0;
}

int sparse_read_old(struct tar *t, const unsigned char *header, uint64_t *ret_size)
{
	unsigned char block[TAR_BLOCK_SIZE];
	int64_t size;
	bool more = header[482] != 0;

	if (tar_number(header + 483, 12, &size) < 0 || size < 0)
		return broken();
	*ret_size = (uint64_t)size;
	t->npieces = 0;
	int r = add_old(t, header + 386, OLD_PIECES);
	while (more && r >= 0) {
		ssize_t n = tar_read(t, block, sizeof(block));
		if (n < 0)
			return (int)n;
		if ((size_t)n < sizeof(block))
			return broken();
		r = add_old(t, block, OLD_MORE_PIECES);
		more = block[504] != 0;
	}
	return r;
}

/* A reader of decimal numbers that end in a newline. It reads the entry's data block by block. */
struct digits {
	unsigned char block[TAR_BLOCK_SIZE];
	size_t at;
};

static int next_number(struct tar *t, struct digits *d, uint64_t *ret)
{
	char s[MAP_DIGITS + 1];

	for (size_t n = 0; n < sizeof(s); n++) {
		if (d->at == TAR_BLOCK_SIZE) {
			if (t->padded - t->padding < TAR_BLOCK_SIZE)
				return broken();
			ssize_t got = tar_read(t, d->block, TAR_BLOCK_SIZE);
			if (got < 0)
				return (int)got;
			if ((size_t)got < TAR_BLOCK_SIZE)
				return broken();
			t->padded -= TAR_BLOCK_SIZE;
			d->at = 0;
		}
		s[n] = (char)d->block[d->at++];
		if (s[n] != '\n')
			continue;
		s[n] = '\0';
		return str_to_u64(s, ret) < 0 ? broken() : 0;
	}
	return broken();
}

int sparse_read_map(struct tar *t)
{
	struct digits d = {.at = TAR_BLOCK_SIZE};
	uint64_t count, offset, len;

	t->npieces = 0;
	int r = next_number(t, &d, &count);
	if (r >= 0 && count > TAR_SPARSE_MAX)
		return err_set(E2BIG, "a sparse file has more than %u pieces", TAR_SPARSE_MAX);
	for (uint64_t i = 0; r >= 0 && i < count; i++) {
		r = next_number(t, &d, &offset);
		if (r >= 0)
			r = next_number(t, &d, &len);
		if (r >= 0)
			r = sparse_add(t, offset, len);
	}
	return r;
}
