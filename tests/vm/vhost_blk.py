#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
vhost_blk.py SOCKET IMAGE: a vhost-user back end for one disk, to be killed at any moment. It takes requests in order
and completes them in another, and keeps which are under way in the memory of INFLIGHT_SHMFD, by which the next one of
its kind goes on (QEMU, docs/interop/vhost-user.rst, "Inflight I/O tracking").

That memory: used index (u16), head of the completion under way (u16), then a byte a head.
"""
import mmap
import os
import select
import socket
import struct
import sys
import time

GET_FEATURES, SET_FEATURES, SET_OWNER, SET_MEM_TABLE, SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE = 1, 2, 3, 5, 8, 9, 10
GET_VRING_BASE, SET_VRING_KICK, SET_VRING_CALL, GET_PROTOCOL, SET_PROTOCOL, GET_QUEUE_NUM = 11, 12, 13, 15, 16, 17
SET_VRING_ENABLE, GET_CONFIG, GET_INFLIGHT_FD, SET_INFLIGHT_FD = 18, 24, 31, 32
FEATURES = 1 << 32 | 1 << 30 | 1 << 9  # VERSION_1, PROTOCOL_FEATURES, BLK_F_FLUSH
PROTOCOL = 1 << 0 | 1 << 3 | 1 << 9 | 1 << 12  # MQ, REPLY_ACK, CONFIG, INFLIGHT_SHMFD
NEXT, SECTOR = 1, 512
IN, OUT, FLUSH = 0, 1, 4


class Disk:
    def __init__(self, sock, image):
        self.sock, self.image = sock, image
        self.regions, self.pending = [], []
        self.kick = self.call = self.inflight = None
        self.running = False

    def memory(self, address, length, column):
        """(mapping, offset in it); column 0: a guest address, 2: the front end's."""
        for map_, *at in self.regions:
            if at[column] <= address and address + length <= at[column] + at[1]:
                return map_, address - at[column]
        raise ValueError(f"no memory at {address:#x}")

    def u16(self, place, index=0):
        return struct.unpack_from("<H", place[0], place[1] + 2 * index)[0]

    def start(self):
        self.desc, self.avail, self.used = (self.memory(a, 2, 2) for a in self.addresses)
        done, at = self.u16(self.used, 1), struct.unpack_from("<HH", self.inflight)
        if at[0] != done:  # killed between the two: the driver has seen it
            self.inflight[4 + at[1]] = 0
            struct.pack_into("<H", self.inflight, 0, done)
        self.pending = [h for h in range(self.size) if self.inflight[4 + h]]
        self.taken = (done + len(self.pending)) & 0xffff
        if self.pending:
            print("under way:", self.pending, flush=True)
        self.running = True

    def has_new(self):
        return self.taken != self.u16(self.avail, 1)

    def chain(self, head):
        while True:
            address, length, flags, following = struct.unpack_from("<QIHH", self.desc[0], self.desc[1] + 16 * head)
            yield *self.memory(address, length, 0), length
            if not flags & NEXT:
                return
            head = following

    def perform(self, head):
        (map_, at, _), *data, (status, status_at, _) = self.chain(head)
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

    def complete(self, head, length):
        done, (map_, at) = self.u16(self.used, 1), self.used
        struct.pack_into("<II", map_, at + 4 + done % self.size * 8, head, length)
        done = (done + 1) & 0xffff
        struct.pack_into("<H", self.inflight, 2, head)
        struct.pack_into("<H", map_, at + 2, done)
        self.inflight[4 + head] = 0
        struct.pack_into("<H", self.inflight, 0, done)
        os.eventfd_write(self.call, 1)

    def step(self):
        """Takes what is new and completes one request."""
        while self.has_new():
            head = self.u16(self.avail, 2 + self.taken % self.size)
            self.inflight[4 + head] = 1
            self.pending.append(head)
            self.taken = (self.taken + 1) & 0xffff
        if self.pending:
            time.sleep(0.01)  # so that there is something under way
            head = self.pending.pop()
            self.complete(head, self.perform(head))

    def answer(self, request, payload, fds):
        """The answer's payload and descriptors, or None."""
        if request in (GET_FEATURES, GET_PROTOCOL, GET_QUEUE_NUM):
            return struct.pack("<Q", {GET_FEATURES: FEATURES, GET_PROTOCOL: PROTOCOL, GET_QUEUE_NUM: 1}[request]), []
        if request == GET_CONFIG:
            config = struct.pack("<Q", os.fstat(self.image).st_size // SECTOR).ljust(len(payload) - 12, b"\0")
            return payload[:12] + config, []
        if request == GET_VRING_BASE:
            self.running = False
            return struct.pack("<II", 0, self.taken), []
        if request == GET_INFLIGHT_FD:
            queues, size = struct.unpack_from("<HH", payload, 16)
            fd = os.memfd_create("inflight")
            os.ftruncate(fd, 4 + size)
            return struct.pack("<QQHHI", 4 + size, 0, queues, size, 0), [fd]
        if request == SET_INFLIGHT_FD:
            self.inflight = mmap.mmap(fds[0], struct.unpack_from("<Q", payload)[0])
        elif request == SET_MEM_TABLE:
            regions = [struct.unpack_from("<QQQQ", payload, 8 + 32 * i) for i in range(len(fds))]
            self.regions = [(mmap.mmap(fd, size, offset=offset), guest, size, user)
                            for fd, (guest, size, user, offset) in zip(fds, regions)]
        elif request == SET_VRING_NUM:
            self.size = struct.unpack_from("<II", payload)[1]
        elif request == SET_VRING_ADDR:
            desc, used, avail = struct.unpack_from("<8xQQQ", payload)
            self.addresses = desc, avail, used
        elif request == SET_VRING_CALL:
            self.call = fds[0]
        elif request == SET_VRING_KICK:
            self.kick = fds[0]
        elif request == SET_VRING_ENABLE:
            self.start()
        return None

    def message(self):
        head, fds, _, _ = socket.recv_fds(self.sock, 12, 8)
        if not head:
            sys.exit(0)
        request, flags, size = struct.unpack("<III", head)
        payload = self.sock.recv(size, socket.MSG_WAITALL) if size else b""
        answer = self.answer(request, payload, fds)
        if answer is None and flags & 8:
            answer = struct.pack("<Q", 0), []
        if answer:
            socket.send_fds(self.sock, [struct.pack("<III", request, 5, len(answer[0])) + answer[0]], answer[1])

    def run(self):
        while True:
            busy = self.running and (self.pending or self.has_new())
            ready, _, _ = select.select([self.sock, *([self.kick] if self.running else [])], [], [], 0 if busy else None)
            if self.sock in ready:
                self.message()
                continue
            if ready:
                os.eventfd_read(self.kick)
            self.step()


def main():
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen()
    Disk(listener.accept()[0], os.open(sys.argv[2], os.O_RDWR)).run()


if __name__ == "__main__":
    main()
