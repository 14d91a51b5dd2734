/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives numbers to the objects that the guest knows (nodes and open files), and finds the objects
 * by these numbers.
 */
#include "vm/fs/fs.h"

#include <stdlib.h>

int fs_slots_add(struct fs_slots *t, void *object, uint64_t *ret_id)
{
	uint32_t i = t->free;

	if (i) {
		t->free = t->slot[i].next_free;
	} else {
		i = t->used ? t->used : 1;
		if (i > t->max)
			return -ENFILE;
		if (i >= t->capacity) {
			uint32_t capacity = t->capacity ? t->capacity * 2 : 256;
			struct fs_slot *slot = reallocarray(t->slot, capacity, sizeof(*slot));

			if (!slot)
				return -ENOMEM;
			t->slot = slot;
			t->capacity = capacity;
		}
		t->slot[i] = (struct fs_slot){0};
		t->used = i + 1;
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

void fs_slots_release(struct fs_slots *t)
{
	free(t->slot);
	t->slot = NULL;
	t->used = t->capacity = t->free = 0;
}
