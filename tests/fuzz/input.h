/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the fuzzer's input from its beginning to its end. Past the end numbers are 0, and there are
 * no more bytes.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct input {
	const uint8_t *p;
	size_t left;
};

/* Takes the next `bytes` bytes as a little-endian number. */
static inline uint32_t take(struct input *in, unsigned bytes)
{
	uint32_t v = 0;

	for (unsigned i = 0; i < bytes && in->left > 0; i++, in->p++, in->left--)
		v |= (uint32_t)*in->p << (8 * i);
	return v;
}

/* Takes up to len bytes. Returns the number of bytes that it has taken. */
static inline size_t take_bytes(struct input *in, void *to, size_t len)
{
	if (len > in->left)
		len = in->left;
	memcpy(to, in->p, len);
	in->p += len;
	in->left -= len;
	return len;
}
