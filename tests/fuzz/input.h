/* SPDX-License-Identifier: Apache-2.0 */
/* A fuzzer's input, taken from its beginning on: past its end there are zeroes, or nothing. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct input {
	const uint8_t *p;
	size_t left;
};

/* A number of so many bytes, little-endian. */
static inline uint32_t take(struct input *in, unsigned bytes)
{
	uint32_t v = 0;

	for (unsigned i = 0; i < bytes && in->left > 0; i++, in->p++, in->left--)
		v |= (uint32_t)*in->p << (8 * i);
	return v;
}

/* As many of len bytes as there are. */
static inline size_t take_bytes(struct input *in, void *to, size_t len)
{
	if (len > in->left)
		len = in->left;
	memcpy(to, in->p, len);
	in->p += len;
	in->left -= len;
	return len;
}
