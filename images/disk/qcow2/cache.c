/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cache of limited size for slices of tables. The clock algorithm selects the slot to reuse: a
 * slice that was used since the clock hand last passed stays for another round. If the slice in the
 * selected slot is dirty, all dirty slices are written at once, because each writing needs syncs,
 * and writing all slices at once needs them only once.
 */
#include <sys/mman.h>

#include "images/disk/qcow2/internal.h"

#define NONE UINT32_MAX
#define SLOTS_MIN 32

int qcow2_cache_init(struct qcow2 *q, struct qcow2_cache *c, const char *what, size_t bytes)
{
	size_t hashes = 64;

	c->what = what;
	c->slice = q->cluster_size < QCOW2_SLICE ? (size_t)q->cluster_size : QCOW2_SLICE;
	c->n = bytes / c->slice < SLOTS_MIN ? SLOTS_MIN : bytes / c->slice;
	while (hashes < c->n)
		hashes *= 2;
	c->mask = hashes - 1;
	c->slots = calloc(c->n, sizeof(*c->slots));
	c->heads = malloc(hashes * sizeof(*c->heads));
	/*
	 * The cache is allocated by mmap(2), because pages of the mapping that are never used take
	 * no memory.
	 */
	c->data = mmap(
		NULL, c->n * c->slice, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (c->data == MAP_FAILED)
		c->data = NULL;
	if (!c->slots || !c->heads || !c->data)
		return disk_err(q->d, ENOMEM, "no memory for a cache of %zu bytes", bytes);
	memset(c->heads, 0xff, hashes * sizeof(*c->heads));
	return 0;
}

void qcow2_cache_release(struct qcow2_cache *c)
{
	if (c->data)
		munmap(c->data, c->n * c->slice);
	free(c->slots);
	free(c->heads);
}

static uint32_t *head_of(struct qcow2_cache *c, uint64_t offset)
{
	return &c->heads[(offset / c->slice * 0x9e3779b97f4a7c15ull >> 20) & c->mask];
}

static uint32_t find(struct qcow2_cache *c, uint64_t offset)
{
	uint32_t i = *head_of(c, offset);

	while (i != NONE && c->slots[i].offset != offset)
		i = c->slots[i].next;
	return i;
}

static void unlink_slot(struct qcow2_cache *c, uint32_t i)
{
	uint32_t *p = head_of(c, c->slots[i].offset);

	while (*p != i)
		p = &c->slots[*p].next;
	*p = c->slots[i].next;
	if (c->slots[i].dirty)
		c->dirty--;
	c->slots[i] = (struct qcow2_slot){0};
}

static int write_slot(struct qcow2 *q, struct qcow2_cache *c, size_t i)
{
	struct qcow2_slot *s = &c->slots[i];

	int r = io_write(q->d->fd, c->data + i * c->slice, c->slice, s->offset);
	if (r < 0)
		return disk_err(q->d, -r, "write the %s at offset %llu: %s", c->what,
			(unsigned long long)s->offset, err_text(-r));
	s->dirty = false;
	c->dirty--;
	return 0;
}

int qcow2_cache_write(struct qcow2 *q, struct qcow2_cache *c)
{
	for (size_t i = 0; i < c->n && c->dirty; i++) {
		if (!c->slots[i].dirty)
			continue;
		int r = qcow2_guard(q, c->slots[i].offset, 0, c->what);
		if (r >= 0)
			r = write_slot(q, c, i);
		if (r < 0)
			return r;
	}
	return 0;
}

static int take_slot(struct qcow2 *q, struct qcow2_cache *c, uint32_t *ret)
{
	for (;;) {
		struct qcow2_slot *s = &c->slots[c->hand];
		uint32_t i = (uint32_t)c->hand;

		c->hand = (c->hand + 1) % c->n;
		if (s->offset && s->used) {
			s->used = false;
			continue;
		}
		if (s->offset && s->dirty) {
			/*
			 * If the slices of L2 tables are written, qcow2_flush_tables() writes the
			 * refcounts before them, because the refcounts of new clusters must be on
			 * the disk before L2 tables refer to these clusters.
			 */
			int r = c == &q->l2 ? qcow2_flush_tables(q) : qcow2_cache_write(q, c);
			if (r < 0)
				return r;
		}
		if (s->offset)
			unlink_slot(c, i);
		*ret = i;
		return 0;
	}
}

int qcow2_cache_get(struct qcow2 *q, struct qcow2_cache *c, uint64_t offset, uint8_t **ret)
{
	uint32_t i = find(c, offset);

	if (i == NONE) {
		int r = take_slot(q, c, &i);
		if (r < 0)
			return r;
		r = disk_read_meta(q->d, c->data + i * c->slice, c->slice, offset, c->what);
		if (r < 0)
			return r;
		struct qcow2_slot *s = &c->slots[i];
		uint32_t *head = head_of(c, offset);
		s->offset = offset;
		s->next = *head;
		*head = i;
	}
	c->slots[i].used = true;
	*ret = c->data + i * c->slice;
	return 0;
}

void qcow2_cache_dirty(struct qcow2_cache *c, const uint8_t *p)
{
	struct qcow2_slot *s = &c->slots[(size_t)(p - c->data) / c->slice];

	if (!s->dirty)
		c->dirty++;
	s->dirty = true;
}

void qcow2_cache_forget(struct qcow2_cache *c, uint64_t offset, uint64_t length)
{
	for (uint64_t at = offset; at < offset + length; at += c->slice) {
		uint32_t i = find(c, at);

		if (i != NONE)
			unlink_slot(c, i);
	}
}
