/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images of base/pack.h for fuzzers: a good image is copied, and the fuzzer's input changes bytes
 * of the copy.
 */
#pragma once
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

#define IMAGE_HEADER 24 /* length in bytes of an image's header: magic, hash and length */

/* Returns a copy that is aligned as pack_read() needs it. The caller frees it. */
static inline char *image_copy(const struct strbuf *image)
{
	char *bytes = aligned_alloc(8, (image->len + 7) & ~(size_t)7);

	if (!bytes)
		abort();
	memcpy(bytes, image->s, image->len);
	return bytes;
}

/*
 * Changes the bytes behind the header of an image of this length. A change is three bytes of the
 * input: two for the place and one for the new value.
 */
static inline void image_change(char *image, size_t len, const uint8_t *changes, size_t size)
{
	for (size_t i = 0; i + 2 < size; i += 3) {
		size_t at = (changes[i] | (size_t)changes[i + 1] << 8) % (len - IMAGE_HEADER);
		image[IMAGE_HEADER + at] = (char)changes[i + 2];
	}
}
