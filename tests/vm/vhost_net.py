#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""vhost_net.py SOCKET ADDRESS: a vhost-user back end for a network device, behind which there is one host, a gateway
that answers ARP and ping. It offers hardly any feature, as passt does, and counts queues in pairs, as DPDK does."""
import socket
import struct
import sys

import vhost_user as v

TO_GUEST, FROM_GUEST = 0, 1
HEADER = 12  # struct virtio_net_hdr_v1, whose last two bytes say how many buffers a frame has
MAC = bytes.fromhex("02caca000002")
ARP, IPV4 = b"\x08\x06", b"\x08\x00"
ICMP, ECHO_REQUEST, ECHO_REPLY = 1, 8, 0


def checksum(data):
    data += b"\0" * (len(data) % 2)
    n = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while n >> 16:
        n = (n & 0xffff) + (n >> 16)
    return ~n & 0xffff


class Gateway(v.BackEnd):
    rings = 2

    def __init__(self, sock, address):
        super().__init__(sock)
        self.address = socket.inet_aton(address)

    def queues(self):
        return 1

    def is_busy(self):
        return self.ring[FROM_GUEST].has_new()

    def work(self):
        ring = self.ring[FROM_GUEST]
        while ring.has_new():
            head = ring.take()
            frame = b"".join(map_[at:at + length] for map_, at, length in ring.chain(head))[HEADER:]
            ring.set_used(ring.write_used(head, 0))
            answer = self.react(frame[:6], frame[6:12], frame[12:14], frame[14:])
            if answer:
                self.send(frame[6:12] + MAC + frame[12:14] + answer)
        ring.interrupt()

    def react(self, to, guest, kind, data):
        """Returns the answer to a frame, or None."""
        if kind == ARP and data[6:8] == b"\0\1" and data[24:28] == self.address:
            return data[:6] + b"\0\2" + MAC + self.address + guest + data[14:18]
        if kind == IPV4 and to == MAC and data[0] == 0x45 and data[9] == ICMP and data[20] == ECHO_REQUEST:
            length = struct.unpack_from("!H", data, 2)[0]
            icmp = struct.pack("!BBH", ECHO_REPLY, 0, 0) + data[24:length]
            icmp = icmp[:2] + struct.pack("!H", checksum(icmp)) + icmp[4:]
            head = data[:8] + b"\x40\x01\0\0" + data[16:20] + data[12:16]
            return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + icmp
        return None

    def send(self, frame):
        ring = self.ring[TO_GUEST]
        if not ring.has_new():
            return  # there is no room, and a wire would lose the frame too
        head, rest = ring.take(), bytes(HEADER - 2) + b"\1\0" + frame
        length = len(rest)
        for map_, at, room in ring.chain(head):
            map_[at:at + len(rest[:room])] = rest[:room]
            rest = rest[room:]
        ring.set_used(ring.write_used(head, length))
        ring.interrupt()


if __name__ == "__main__":
    Gateway(v.accept(sys.argv[1]), sys.argv[2]).run()
