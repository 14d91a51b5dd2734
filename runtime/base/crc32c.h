/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CRC-32C (Castagnoli, RFC 3720), which detects bytes that a disk or a copy has changed by
 * accident. The CRC does not protect from an attacker, because an attacker can compute it too.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

/*
 * Returns the CRC of all bytes so far. The `len` bytes at `data` follow bytes whose CRC is `crc`.
 * For the first bytes `crc` is 0.
 */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);
