#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""vhost_blk.py SOCKET IMAGE: a vhost-user back end for one disk, which tests kill at any moment. It completes requests
in another order than they come in, and records those under way in the memory of INFLIGHT_SHMFD, from which the next
process continues (QEMU, docs/interop/vhost-user.rst, "Inflight I/O tracking"). The memory has the used index (u16),
the head of the completion under way (u16), and then a byte for each head.
"""
import mmap
import os
import struct
import sys
import time

import vhost_user as v

FLUSH_FEATURE, SECTOR = 1 << 9, 512
IN, OUT, FLUSH = 0, 1, 4


class Queue(v.Ring):
    """A disk that takes requests and holds them in `pending`."""

    def __init__(self, back):
        super().__init__(back)
        self.pending = []

    def start(self):
        super().start()
        inflight = self.back.inflight
        done, at = self.u16(self.used, 1), struct.unpack_from("<HH", inflight)
        if at[0] != done:  # killed between the two writes, so the driver has seen it
            inflight[4 + at[1]] = 0
            struct.pack_into("<H", inflight, 0, done)
        self.pending = [h for h in range(self.size) if inflight[4 + h]]
        self.taken = (done + len(self.pending)) & 0xffff
        if self.pending:
            print("under way:", self.pending, flush=True)

    def complete(self, head, length):
        inflight = self.back.inflight
        done = self.write_used(head, length)
        struct.pack_into("<H", inflight, 2, head)
        self.set_used(done)
        inflight[4 + head] = 0
        struct.pack_into("<H", inflight, 0, done)
        self.interrupt()


class Disk(v.BackEnd):
    features = v.BackEnd.features | FLUSH_FEATURE
    protocol = v.BackEnd.protocol | v.CONFIG | v.INFLIGHT_SHMFD

    def __init__(self, sock, image):
        super().__init__(sock)
        self.image, self.inflight = image, None
        self.queue = Queue(self)
        self.ring = [self.queue]

    def perform(self, head):
        (map_, at, _), *data, (status, status_at, _) = self.queue.chain(head)
        kind, sector = struct.unpack_from("<I4xQ", map_, at)
        place, read = sector * SECTOR, 0
        for map_, at, length in data:
            if kind == IN:
                map_[at:at + length] = os.pread(self.image, length, place)
                read += length
            elif kind == OUT:
                os.pwrite(self.image, map_[at:at + length], place)
            place += length
        if kind == FLUSH:
            os.fdatasync(self.image)
        status[status_at] = 0 if kind in (IN, OUT, FLUSH) else 2
        return read + 1

    def is_busy(self):
        return self.queue.running and (self.queue.pending or self.queue.has_new())

    def work(self):
        """Takes all new requests and completes one."""
        queue = self.queue
        while queue.has_new():
            head = queue.take()
            self.inflight[4 + head] = 1
            queue.pending.append(head)
        if queue.pending:
            time.sleep(0.01)  # leaves some requests under way
            head = queue.pending.pop()
            queue.complete(head, self.perform(head))

    def answer(self, request, payload, fds):
        if request == v.GET_CONFIG:
            config = struct.pack("<Q", os.fstat(self.image).st_size // SECTOR).ljust(len(payload) - 12, b"\0")
            return payload[:12] + config, []
        if request == v.GET_INFLIGHT_FD:
            queues, size = struct.unpack_from("<HH", payload, 16)
            fd = os.memfd_create("inflight")
            os.ftruncate(fd, 4 + size)
            return struct.pack("<QQHHI", 4 + size, 0, queues, size, 0), [fd]
        if request == v.SET_INFLIGHT_FD:
            self.inflight = mmap.mmap(fds[0], struct.unpack_from("<Q", payload)[0])
            return None
        return super().answer(request, payload, fds)


if __name__ == "__main__":
    Disk(v.accept(sys.argv[1]), os.open(sys.argv[2], os.O_RDWR)).run()
