# SPDX-License-Identifier: Apache-2.0
"""CRC-32C, which VHDX images and snapshots of machines have."""


def entry(i):
    for _ in range(8):
        i = i >> 1 ^ (0x82f63b78 if i & 1 else 0)
    return i


TABLE = [entry(i) for i in range(256)]


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xff] ^ crc >> 8
    return crc ^ 0xffffffff
