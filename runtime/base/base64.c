/* SPDX-License-Identifier: Apache-2.0 */
#include "base/base64.h"

#include <stdint.h>

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int base64_encode(struct strbuf *ret, const void *data, size_t len)
{
	const uint8_t *p = data;
	int r = strbuf_reserve(ret, (len + 2) / 3 * 4);

	/* The text gets its NUL even if nothing is added. */
	if (r >= 0)
		r = strbuf_add(ret, "", 0);
	for (size_t i = 0; i < len && r >= 0; i += 3) {
		const size_t n = len - i < 3 ? len - i : 3;
		const uint32_t bits = (uint32_t)p[i] << 16 | (n > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
				      (n > 2 ? p[i + 2] : 0u);
		const char four[] = {letters[bits >> 18], letters[bits >> 12 & 63],
			n > 1 ? letters[bits >> 6 & 63] : '=', n > 2 ? letters[bits & 63] : '='};
		r = strbuf_add(ret, four, sizeof(four));
	}
	return r;
}

/* Returns the six bits that the letter stands for, or -1. */
static int letter_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int base64_decode(struct strbuf *ret, const char *text, size_t len)
{
	int r = len % 4 ? -EINVAL : strbuf_reserve(ret, len / 4 * 3);

	if (r >= 0)
		r = strbuf_add(ret, "", 0);
	for (size_t i = 0; i < len && r >= 0; i += 4) {
		/* Only the last four letters can have padding: one or two of them. */
		const bool last = i + 4 == len;
		const size_t pad = last && text[i + 3] == '=' ? 1 + (text[i + 2] == '=') : 0;
		uint32_t bits = 0;
		for (size_t j = 0; j < 4; j++) {
			const int v = j < 4 - pad ? letter_value(text[i + j]) : 0;
			if (v < 0)
				return -EINVAL;
			bits = bits << 6 | (uint32_t)v;
		}
		if (bits & ((1u << (8 * pad)) - 1))
			return -EINVAL;
		const uint8_t three[] = {
			(uint8_t)(bits >> 16), (uint8_t)(bits >> 8), (uint8_t)bits};
		r = strbuf_add(ret, three, sizeof(three) - pad);
	}
	return r;
}
