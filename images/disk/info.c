/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collects the facts that `caisson disk info` prints: those that every format has, and a list of
 * facts that only the image's format has.
 */
#include <sys/stat.h>

#include "images/disk/format.h"

static int add_fact(struct disk_info *i, const char *key, struct disk_fact fact)
{
	struct disk_fact *f = arena_alloc(&i->arena, sizeof(*f));

	if (!f)
		return -ENOMEM;
	*f = fact;
	f->key = key;
	*i->facts_end = f;
	i->facts_end = &f->next;
	return 0;
}

int disk_fact_text(struct disk_info *i, const char *key, const char *text)
{
	const char *copy = arena_strdup(&i->arena, text);

	if (!copy)
		return -ENOMEM;
	return add_fact(i, key, (struct disk_fact){.type = DISK_FACT_TEXT, .text = copy});
}

int disk_fact_number(struct disk_info *i, const char *key, uint64_t number)
{
	return add_fact(i, key, (struct disk_fact){.type = DISK_FACT_NUMBER, .number = number});
}

int disk_fact_bool(struct disk_info *i, const char *key, bool value)
{
	return add_fact(i, key, (struct disk_fact){.type = DISK_FACT_BOOL, .number = value});
}

int disk_fact_begin(struct disk_info *i, const char *key, enum disk_fact_type type)
{
	return add_fact(i, key, (struct disk_fact){.type = type});
}

int disk_fact_end(struct disk_info *i)
{
	return add_fact(i, NULL, (struct disk_fact){.type = DISK_FACT_END});
}

void disk_info_release(struct disk_info *i)
{
	arena_release(&i->arena);
}

int disk_get_info(struct disk *d, struct disk_info *ret)
{
	struct stat st;

	*ret = (struct disk_info){.format = d->format->name, .size = d->size};
	ret->facts_end = &ret->facts;
	if (fstat(d->fd, &st) < 0)
		return err_sys("%s: stat", d->name);
	ret->used = (uint64_t)st.st_blocks * 512;
	return d->format->info ? d->format->info(d, ret) : 0;
}
