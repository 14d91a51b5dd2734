#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""unpack_kernel.py BZIMAGE OUT: writes the ELF kernel that a bzImage carries.

The fields are those of Documentation/arch/x86/boot.rst: setup_sects (0x1f1), the magic "HdrS" (0x202), the
protocol version (0x206), payload_offset and payload_length (0x248, 0x24c; protocol 2.08). QEMU enters the
ELF through its PVH note.
"""

import bz2
import gzip
import lzma
import struct
import subprocess
import sys


def payload(image: bytes) -> bytes:
    if image[0x202:0x206] != b"HdrS" or struct.unpack_from("<H", image, 0x206)[0] < 0x208:
        raise SystemExit("unpack_kernel: not a bzImage of boot protocol 2.08 or later")
    start = (image[0x1F1] + 1) * 512
    offset, length = struct.unpack_from("<II", image, 0x248)
    data = image[start + offset : start + offset + length]
    if len(data) != length:
        raise SystemExit("unpack_kernel: the file ends before its payload does")
    return data


def unpack(data: bytes) -> bytes:
    if data[:2] == b"\x1f\x8b":
        return gzip.decompress(data[:-4])  # the last four bytes are the unpacked size
    if data[:6] == b"\xfd7zXZ\0":
        return lzma.LZMADecompressor().decompress(data)
    if data[:3] == b"]\0\0":
        return lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(data)
    if data[:3] == b"BZh":
        return bz2.decompress(data)
    for magic, program in ((b"\x28\xb5\x2f\xfd", "zstd"), (b"\x02\x21\x4c\x18", "lz4")):
        if data[:4] == magic:
            return subprocess.run([program, "-dc"], input=data[:-4], stdout=subprocess.PIPE, check=True).stdout
    raise SystemExit(f"unpack_kernel: unknown compression (starts with {data[:6].hex()})")


def main() -> None:
    with open(sys.argv[1], "rb") as source:
        elf = unpack(payload(source.read()))
    if elf[:4] != b"\x7fELF":
        raise SystemExit("unpack_kernel: what was unpacked is not an ELF file")
    with open(sys.argv[2], "wb") as out:
        out.write(elf)


main()
