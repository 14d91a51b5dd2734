# SPDX-License-Identifier: Apache-2.0
"""Implements what vhost-user back ends have in common (QEMU, docs/interop/vhost-user.rst): messages, guest memory and
rings. It serves the tests' own back ends, so it is simple and trusts the front end."""
import mmap
import os
import select
import socket
import struct
import sys

GET_FEATURES, SET_FEATURES, SET_OWNER, SET_MEM_TABLE, SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE = 1, 2, 3, 5, 8, 9, 10
GET_VRING_BASE, SET_VRING_KICK, SET_VRING_CALL, GET_PROTOCOL, SET_PROTOCOL, GET_QUEUE_NUM = 11, 12, 13, 15, 16, 17
SET_VRING_ENABLE, GET_CONFIG, GET_INFLIGHT_FD, SET_INFLIGHT_FD = 18, 24, 31, 32
VERSION_1, PROTOCOL_FEATURES = 1 << 32, 1 << 30
MQ, REPLY_ACK, CONFIG, INFLIGHT_SHMFD = 1 << 0, 1 << 3, 1 << 9, 1 << 12  # bits of the protocol features
NEXT, NO_FD = 1, 0x100


class Ring:
    def __init__(self, back):
        self.back = back
        self.kick = self.call = None
        self.enabled = self.running = False
        self.taken = 0

    @staticmethod
    def u16(place, index=0):
        return struct.unpack_from("<H", place[0], place[1] + 2 * index)[0]

    def start(self):
        self.desc, self.avail, self.used = (self.back.memory(a, 2, 2) for a in self.addresses)
        self.running = True

    def has_new(self):
        return self.running and self.taken != self.u16(self.avail, 1)

    def take(self):
        head = self.u16(self.avail, 2 + self.taken % self.size)
        self.taken = (self.taken + 1) & 0xffff
        return head

    def chain(self, head):
        """Returns (mapping, offset, length) of each part of a chain."""
        while True:
            address, length, flags, following = struct.unpack_from("<QIHH", self.desc[0], self.desc[1] + 16 * head)
            yield *self.back.memory(address, length, 0), length
            if not flags & NEXT:
                return
            head = following

    def write_used(self, head, length):
        """Returns the value of the used index that gives the chain back to the driver, for set_used()."""
        done, (map_, at) = self.u16(self.used, 1), self.used
        struct.pack_into("<II", map_, at + 4 + done % self.size * 8, head, length)
        return (done + 1) & 0xffff

    def set_used(self, done):
        struct.pack_into("<H", self.used[0], self.used[1] + 2, done)

    def interrupt(self):
        if self.call is not None:
            os.eventfd_write(self.call, 1)


class BackEnd:
    """The base of back ends. A derived class has `features` and `protocol`, queues() and work(), and answers of its
    own."""
    features, protocol, rings = VERSION_1 | PROTOCOL_FEATURES, MQ | REPLY_ACK, 1

    def __init__(self, sock):
        self.sock, self.regions, self.owned = sock, [], False
        self.ring = [Ring(self) for _ in range(self.rings)]

    def queues(self):
        return self.rings

    def memory(self, address, length, column):
        """Translates an address to (mapping, offset). Column 0: an address of the guest; 2: of the front end."""
        for map_, *at in self.regions:
            if at[column] <= address and address + length <= at[column] + at[1]:
                return map_, address - at[column]
        raise ValueError(f"no memory at {address:#x}")

    def set_memory(self, payload, fds):
        regions = [struct.unpack_from("<QQQQ", payload, 8 + 32 * i) for i in range(len(fds))]
        self.regions = [(mmap.mmap(fd, size, offset=offset), guest, size, user)
                        for fd, (guest, size, user, offset) in zip(fds, regions)]

    def set_ring(self, request, payload, fds):
        number = struct.unpack_from("<I", payload)[0]
        ring = self.ring[number & 0xff]
        if request == SET_VRING_NUM:
            ring.size = struct.unpack_from("<II", payload)[1]
        elif request == SET_VRING_BASE:
            ring.taken = struct.unpack_from("<II", payload)[1]
        elif request == SET_VRING_ADDR:
            desc, used, avail = struct.unpack_from("<8xQQQ", payload)
            ring.addresses = desc, avail, used
        elif request == SET_VRING_CALL:
            ring.call = None if number & NO_FD else fds[0]
        elif request == SET_VRING_KICK:
            ring.kick = fds[0]
        elif request == SET_VRING_ENABLE:
            ring.enabled = bool(struct.unpack_from("<II", payload)[1])
        if ring.enabled and ring.kick is not None and not ring.running:
            ring.start()

    def answer(self, request, payload, fds):
        """Returns the answer's payload and descriptors, or None."""
        if request in (GET_FEATURES, GET_PROTOCOL, GET_QUEUE_NUM):
            value = {GET_FEATURES: self.features, GET_PROTOCOL: self.protocol, GET_QUEUE_NUM: self.queues()}[request]
            return struct.pack("<Q", value), []
        if request == GET_VRING_BASE:
            number = struct.unpack_from("<I", payload)[0]
            ring = self.ring[number]
            ring.running, ring.kick = False, None
            return struct.pack("<II", number, ring.taken), []
        if request == SET_MEM_TABLE:
            self.set_memory(payload, fds)
        elif request == SET_OWNER:
            # Servers that use the Rust crate vhost end a connection that gets a second one.
            if self.owned:
                sys.exit(1)
            self.owned = True
        elif request in (SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ENABLE):
            self.set_ring(request, payload, fds)
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

    def is_busy(self):
        return any(r.has_new() for r in self.ring)

    def run(self):
        while True:
            kicks = [r.kick for r in self.ring if r.running]
            ready, _, _ = select.select([self.sock, *kicks], [], [], 0 if self.is_busy() else None)
            if self.sock in ready:
                self.message()
                continue
            for kick in ready:
                os.eventfd_read(kick)
            self.work()


def accept(path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    return listener.accept()[0]
