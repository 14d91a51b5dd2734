/* SPDX-License-Identifier: Apache-2.0 */
/* Encodes and decodes base64 (RFC 4648, section 4), with padding and without line ends. */
#pragma once
#include "base/str.h"

/* Appends the base64 text of the bytes to *ret. */
int base64_encode(struct strbuf *ret, const void *data, size_t len) must_check;
/*
 * Appends the bytes that the base64 text stands for to *ret. Returns -EINVAL, without a message, if
 * the text is not base64, has no padding, or has bits that no encoder writes.
 */
int base64_decode(struct strbuf *ret, const char *text, size_t len) must_check;
