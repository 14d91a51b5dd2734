/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions for fuzzers of images, which are structures that base/pack.h has written as bytes: a
 * fuzzer copies a good image, and its input changes bytes of the copy.
 */
#pragma once
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

#define IMAGE_HEADER 24 /* length in bytes of an image's header: magic, hash and length */

/* Returns a copy of the image that is aligned as pack_read() demands. The caller frees the copy. */
static inline char *image_copy(const struct strbuf *image)
{
	char *bytes = aligned_alloc(8, (image->len + 7) & ~(size_t)7);

	if (!bytes)
		abort();
	memcpy(bytes, image->s, image->len);
	return bytes;
}

/*
 * Changes bytes of an image, `len` bytes long, but none of its header. Each change is three bytes
 * of the fuzzer's input: two for the place and one for the new value.
 */
static inline void image_change(char *image, size_t len, const uint8_t *changes, size_t size)
{
	for (size_t i = 0; i + 2 < size; i += 3) {
		size_t at = (changes[i] | (size_t)changes[i + 1] << 8) % (len - IMAGE_HEADER);
		image[IMAGE_HEADER + at] = (char)changes[i + 2];
	}
}
