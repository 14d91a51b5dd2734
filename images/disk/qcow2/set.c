/* SPDX-License-Identifier: Apache-2.0 */
/* A set of file offsets of clusters, stored as a hash table with open addressing. */
#include "images/disk/qcow2/internal.h"

static size_t slot_of(const struct qcow2_set *s, uint64_t offset)
{
	size_t i = (size_t)((offset >> 9) * 0x9e3779b97f4a7c15ull >> 17) & (s->cap - 1);

	while (s->v[i] && s->v[i] != offset)
		i = (i + 1) & (s->cap - 1);
	return i;
}

static int grow(struct qcow2_set *s)
{
	struct qcow2_set bigger = {.cap = s->cap ? s->cap * 2 : 64, .n = s->n};

	bigger.v = calloc(bigger.cap, sizeof(*bigger.v));
	if (!bigger.v)
		return err_set(ENOMEM, "no memory");
	for (size_t i = 0; i < s->cap; i++)
		if (s->v[i])
			bigger.v[slot_of(&bigger, s->v[i])] = s->v[i];
	free(s->v);
	*s = bigger;
	return 0;
}

int qcow2_set_add(struct qcow2_set *s, uint64_t offset)
{
	if ((s->n + 1) * 2 > s->cap) {
		int r = grow(s);
		if (r < 0)
			return r;
	}
	size_t i = slot_of(s, offset);
	if (s->v[i])
		return 1;
	s->v[i] = offset;
	s->n++;
	return 0;
}

bool qcow2_set_has(const struct qcow2_set *s, uint64_t offset)
{
	return s->n > 0 && s->v[slot_of(s, offset)] != 0;
}

void qcow2_set_remove(struct qcow2_set *s, uint64_t offset)
{
	if (!qcow2_set_has(s, offset))
		return;
	size_t i = slot_of(s, offset);
	s->v[i] = 0;
	s->n--;
	/*
	 * The entries that follow in the array are inserted a second time, up to the next empty
	 * place, because the removed entry may have forced some of them out of their own place.
	 */
	for (i = (i + 1) & (s->cap - 1); s->v[i]; i = (i + 1) & (s->cap - 1)) {
		uint64_t v = s->v[i];

		s->v[i] = 0;
		s->v[slot_of(s, v)] = v;
	}
}

void qcow2_set_release(struct qcow2_set *s)
{
	free(s->v);
	*s = (struct qcow2_set){0};
}
