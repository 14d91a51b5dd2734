/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocates memory in an arena: many small allocations that are released together. The parsed
 * config.json and the plan have an arena each. The memory is zeroed. A function that runs out of
 * memory sets a message and returns NULL.
 */
#pragma once
#include "base/err.h"

struct arena_block;

struct arena {
	struct arena_block *head; /* list of the arena's blocks of memory, the newest first */
};

void arena_release(struct arena *a);
#define _cleanup_arena_ __attribute__((cleanup(arena_release), unused))

void *arena_alloc(struct arena *a, size_t size) must_check;
/*
 * Allocates zeroed memory for an array of `count` elements of `size` bytes. Returns NULL with a
 * message if count * size overflows or no memory is left.
 */
void *arena_array(struct arena *a, size_t count, size_t size) must_check;
char *arena_strdup(struct arena *a, const char *s) must_check;
char *arena_strndup(struct arena *a, const char *s, size_t len) must_check;
char *arena_printf(struct arena *a, const char *fmt, ...) must_check printf_like(2, 3);
