# SPDX-License-Identifier: Apache-2.0
"""dissect_read.py FORMAT IMAGE PIECE: writes all bytes of a disk image, as the package dissect.hypervisor reads them in pieces of PIECE
bytes, to standard output. A limit of memory keeps a fault of the package from taking the memory of the machine."""
import resource
import sys
from pathlib import Path

from dissect.hypervisor.disk import qcow2, vdi, vhd, vhdx, vmdk

MEMORY = 1 << 30

OPEN = {"qcow2": lambda path: qcow2.QCow2(path).open(), "vdi": lambda path: vdi.VDI(path.open("rb")).open(),
        "vpc": lambda path: vhd.VHD(path.open("rb")), "vhdx": lambda path: vhdx.VHDX(path.open("rb")), "vmdk": vmdk.VMDK}


def main():
    fmt, path, size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    disk = OPEN[fmt](path)
    while piece := disk.read(size):
        sys.stdout.buffer.write(piece)


if __name__ == "__main__":
    main()
