/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CRC-32C (Castagnoli, RFC 3720), which detects bytes that a disk or a copy has changed by
 * accident. The CRC does not protect from an attacker, because an attacker can compute the CRC of
 * changed bytes too.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

/*
 * Continues a CRC: `crc` is the CRC of all bytes before the `len` bytes at `data`, or 0 if there
 * are none before. Returns the CRC of all bytes including those at `data`.
 */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);
