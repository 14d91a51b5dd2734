/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the readers of subuid(5), of what getsubids(1) prints, and of nsswitch.conf(5). A range
 * must have ids, all below 2^32 - 1, and a map at most 339 lines.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/subids.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_map(const char *map)
{
	unsigned inside, first, count, expected = 1, lines = 0;
	int used;

	for (; *map; map += used, lines++) {
		if (sscanf(map, "%u %u %u\n%n", &inside, &first, &count, &used) != 3 ||
			inside != expected || count == 0 || count > UINT32_MAX - first)
			abort();
		expected += count;
	}
	if (lines > 339)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf map = {0};
	const char *text = arena_strndup(&a, (const char *)data, size), *pos = text;
	uint32_t first, count;

	if (!text)
		return 0;
	while (subids_next(&pos, "anna", 1000, &first, &count))
		if (count == 0 || count > UINT32_MAX - first)
			abort();
	(void)subids_names_source(text);
	err_clear();
	if (subids_add_printed(text, &map) < 0 && !*err_msg())
		abort();
	check_map(strbuf_str(&map));
	return 0;
}
