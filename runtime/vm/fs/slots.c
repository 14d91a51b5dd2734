/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives numbers to the objects that the guest knows (nodes and open files), and finds the objects
 * by these numbers.
 */
#include "vm/fs/fs.h"

#include <stdlib.h>

/*
 * Enlarges the table so that it has a slot number i. Returns -ENFILE if the table may not be so
 * large.
 */
static int reach_slot(struct fs_slots *t, uint32_t i)
{
	uint32_t capacity = t->capacity ? t->capacity : 256;

	if (i > t->max)
		return -ENFILE;
	while (i >= capacity)
		capacity *= 2;
	if (capacity > t->capacity) {
		struct fs_slot *slot = reallocarray(t->slot, capacity, sizeof(*slot));

		if (!slot)
			return -ENOMEM;
		t->slot = slot;
		t->capacity = capacity;
	}
	if (t->used == 0)
		t->used = 1;
	for (; t->used <= i; t->used++)
		t->slot[t->used] = (struct fs_slot){0};
	return 0;
}

int fs_slots_add(struct fs_slots *t, void *object, uint64_t *ret_id)
{
	uint32_t i = t->free;

	if (i) {
		t->free = t->slot[i].next_free;
	} else {
		i = t->used ? t->used : 1;
		int e = reach_slot(t, i);
		if (e < 0)
			return e;
	}
	t->slot[i].object = object;
	*ret_id = (uint64_t)t->slot[i].generation << 32 | i;
	return 0;
}

void *fs_slots_get(const struct fs_slots *t, uint64_t id)
{
	uint32_t i = (uint32_t)id;

	if (i == 0 || i >= t->used || t->slot[i].generation != id >> 32)
		return NULL;
	return t->slot[i].object;
}

void fs_slots_remove(struct fs_slots *t, uint64_t id)
{
	uint32_t i = (uint32_t)id;

	if (!fs_slots_get(t, id))
		return;
	t->slot[i].object = NULL;
	/*
	 * A slot whose generation counter wraps around stays empty for ever, so that no number is
	 * used again.
	 */
	if (++t->slot[i].generation == 0)
		return;
	t->slot[i].next_free = t->free;
	t->free = i;
}

int fs_slots_put(struct fs_slots *t, uint64_t id, void *object)
{
	uint32_t i = (uint32_t)id;

	if (i == 0)
		return -ENFILE;
	int e = reach_slot(t, i);
	if (e < 0)
		return e;
	if (t->slot[i].object)
		return -EEXIST;
	t->slot[i].object = object;
	t->slot[i].generation = (uint32_t)(id >> 32);
	return 0;
}

int fs_slots_reach(struct fs_slots *t, uint32_t used)
{
	return used > 1 ? reach_slot(t, used - 1) : 0;
}

void fs_slots_settle(struct fs_slots *t, uint32_t generation)
{
	uint32_t newest = generation;

	for (uint32_t i = 1; i < t->used; i++)
		if (t->slot[i].object && t->slot[i].generation > newest)
			newest = t->slot[i].generation;
	t->free = 0;
	for (uint32_t i = t->used; i-- > 1;) {
		/*
		 * Once the generation UINT32_MAX was used, no slot is made free any more, because
		 * the next generation would wrap around and repeat numbers.
		 */
		if (t->slot[i].object || newest == UINT32_MAX)
			continue;
		t->slot[i].generation = newest + 1;
		t->slot[i].next_free = t->free;
		t->free = i;
	}
}

void fs_slots_release(struct fs_slots *t)
{
	free(t->slot);
	t->slot = NULL;
	t->used = t->capacity = t->free = 0;
}
