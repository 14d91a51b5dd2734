# SPDX-License-Identifier: Apache-2.0
"""A kernel that has only Xen's PVH entry. It writes its command line and its initramfs to the serial port, and resets the
machine by a triple fault."""
import struct

LOAD = 0x200000


def pvh_kernel(bits=64, hangs=False):
    """Returns an ELF whose only entry is XEN_ELFNOTE_PHYS32_ENTRY. The code is 32-bit, as PVH starts it, with EBX at the start
    information. With `hangs` it halts the CPU forever in place of the reset."""
    message = b"PVH: "
    text = LOAD + 0x100
    put_string = bytes.fromhex("66baf803 ac 84c0 7403 ee ebf8 c3")  # mov dx,0x3f8; lodsb; test al,al; jz; out; jmp; ret
    start = len(put_string)

    def call(at):
        return b"\xe8" + struct.pack("<i", -(at + 5))

    code = put_string + b"\xbc" + struct.pack("<I", LOAD + 0x10000)  # mov esp: PVH gives no stack
    for piece in (b"\xbe" + struct.pack("<I", text), None, bytes.fromhex("8b7318"), None, b"\xbe" + struct.pack("<I", text + 16), None):
        code += call(len(code)) if piece is None else piece  # the message, the command line, " + "
    code += bytes.fromhex("837b0c00 7414 8b4310 8b30")  # without modules: to the end; esi: the first module's address
    code += call(len(code))
    code += b"\xbe" + struct.pack("<I", text + 24)
    code += call(len(code))
    if hangs:
        code += bytes.fromhex("fa f4 ebfc")  # cli; hlt; jmp to the cli
    code += b"\x0f\x01\x1d" + struct.pack("<I", text + 32) + b"\xcc"  # an empty IDT and a breakpoint: a triple fault
    entry = LOAD
    body = (code.ljust(0x100, b"\0") + message.ljust(16, b"\0") + b" + ".ljust(8, b"\0") + b" end\r\n".ljust(8, b"\0")).ljust(0x200, b"\0")
    assert len(code) < 0x100
    note = struct.pack("<III", 4, 4, 18) + b"Xen\0" + struct.pack("<I", entry + start)
    if bits == 64:
        head = struct.pack("<4sBBBB8xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 2, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
        where = lambda kind, offset, at, size: struct.pack("<IIQQQQQQ", kind, 7, offset, at, at, size, size, 4)
    else:
        head = struct.pack("<4sBBBB8xHHIIIIIHHHHHH", b"\x7fELF", 1, 1, 1, 0, 2, 3, 1, 0, 52, 0, 0, 52, 32, 2, 0, 0, 0)
        where = lambda kind, offset, at, size: struct.pack("<IIIIIIII", kind, offset, at, at, size, size, 7, 4)
    table = where(1, 0x1000, LOAD, len(body)) + where(4, 0x800, 0, len(note))
    return (head + table).ljust(0x800, b"\0") + note.ljust(0x800, b"\0") + body
