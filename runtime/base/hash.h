/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Computes the hash FNV-1a of 64 bits. It finds accidental differences, and is no protection from
 * attackers.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define HASH_START UINT64_C(0xcbf29ce484222325) /* the hash of no bytes */

/* Continues `seed`, the hash of the bytes before p, with the bytes at p. */
static inline uint64_t hash_add(uint64_t seed, const char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		seed = (seed ^ (unsigned char)p[i]) * UINT64_C(0x100000001b3);
	return seed;
}
