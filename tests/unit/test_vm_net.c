/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network device behind the mmio transport, asked well and badly: over a datagram socket that
 * stands for a tap, and over a real tap between two network namespaces (root only).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/socket.h>

#include "netsetup/net_tap.h"
#include "unit/rig/net.h"
#include "unit/rig/virtio.h"
#include "vm/virtio/virtio_net.h"

#define RX 0
#define TX 1
#define HEADER 12
#define MERGEABLE (1ULL << VIRTIO_NET_F_MRG_RXBUF)
#define BUFFER(i) (DATA + 0x10000UL * (i))
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#define GSO_UDP_L4 5 /* virtio_net.h of Linux 6.2 */
#define USO (7ULL << 54)

static const uint8_t mac[6] = {2, 0, 0, 0, 0, 0x0a};

struct nic {
	struct rig g;
	struct virtio_net n;
	int tap, wire; /* the device's end and the test's */
};

static void nic_init(struct nic *t, uint64_t features)
{
	struct virtio_net_options o = {.mtu = 1500};
	int pair[2];

	assert_int_equal(
		socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	t->tap = o.tap = pair[0];
	t->wire = pair[1];
	memcpy(o.mac, mac, 6);
	rig_memory(&t->g);
	assert_int_equal(virtio_net_init(&t->n, &t->g.memory, &o), 0);
	rig_attach(&t->g, &t->n.dev);
	bring_up(&t->g, features);
}

static void nic_release(struct nic *t)
{
	virtio_net_release(&t->n);
	rig_release(&t->g);
	fd_close(&t->tap);
	fd_close(&t->wire);
}

/* What the event loop does; whether there was anything to do. */
static bool turn(struct nic *t)
{
	struct pollfd p = {t->n.dev.event_fd, POLLIN, 0};

	if (poll(&p, 1, 0) == 0)
		return false;
	assert_int_equal(t->n.dev.ops->event(&t->n.dev), 0);
	return true;
}

static uint8_t pattern(size_t i)
{
	return (uint8_t)(i * 7 + (i >> 8));
}

/* The host sends a frame: a header of zeroes and a pattern. */
static void from_wire(struct nic *t, size_t len)
{
	_cleanup_free_ uint8_t *frame = calloc(1, len);

	for (size_t i = HEADER; i < len; i++)
		frame[i] = pattern(i);
	memset(frame + 10, 0xee, len > 12 ? 2 : 0); /* as the kernel leaves num_buffers: unset */
	assert_int_equal(send(t->wire, frame, len, 0), len);
}

static void give_buffer(struct nic *t, unsigned i, uint32_t len)
{
	put_desc(desc(&t->g, RX, i), BUFFER(i), len, WRITE, 0);
	offer(&t->g, RX, i);
}

/* The frame of len bytes is in used buffers first, first + 1, ... of `each` bytes. */
static void assert_frame(struct nic *t, unsigned first, size_t len, size_t each)
{
	size_t count = (len + each - 1) / each;
	const struct vring_used *u = used(&t->g, RX);

	for (size_t i = 0; i < len; i++) {
		const struct vring_used_elem *e = &u->ring[(first + i / each) % t->g.size];
		uint8_t got = *(uint8_t *)at(&t->g, BUFFER(e->id) + i % each, 1);
		uint8_t want = i >= HEADER ? pattern(i) : i == 10 ? (uint8_t)count : 0;

		if (got != want)
			fail_msg("byte %zu of %zu: %u, expected %u", i, len, got, want);
	}
	for (size_t k = 0; k < count; k++)
		assert_int_equal(u->ring[(first + k) % t->g.size].len,
			k + 1 < count ? each : len - k * each);
}

static void configuration(void **state)
{
	struct nic t;
	uint8_t got[6];

	nic_init(&t, 0);
	for (unsigned i = 0; i < 6; i++)
		vm_bus_read(&t.g.bus, VIRTIO_MMIO_CONFIG + i, &got[i], 1);
	assert_memory_equal(got, mac, 6);
	uint16_t mtu = 0, status = 0;
	vm_bus_read(&t.g.bus, VIRTIO_MMIO_CONFIG + 6, &status, 2);
	vm_bus_read(&t.g.bus, VIRTIO_MMIO_CONFIG + 10, &mtu, 2);
	assert_int_equal(status, VIRTIO_NET_S_LINK_UP);
	assert_int_equal(mtu, 1500);
	/* No tap, no offloads. */
	set(&t.g, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	uint32_t f = get(&t.g, VIRTIO_MMIO_DEVICE_FEATURES);
	assert_int_equal(f & 0x00ffffff, 1U << VIRTIO_NET_F_MAC | 1U << VIRTIO_NET_F_MTU |
						 1U << VIRTIO_NET_F_STATUS |
						 1U << VIRTIO_NET_F_MRG_RXBUF);
	assert_false(negotiate(&t.g, V1 | 1ULL << VIRTIO_NET_F_GUEST_TSO4));
	struct virtio_net n;
	assert_int_equal(
		virtio_net_init(&n, &t.g.memory, &(struct virtio_net_options){.mtu = 67}), -EINVAL);
	assert_non_null(strstr(err_msg(), "MTU 67"));
	nic_release(&t);
}

static void send_chain(struct nic *t, unsigned d, uint32_t first, uint32_t second)
{
	for (uint32_t i = 0; i < first + second; i++)
		*(uint8_t *)at(&t->g, DATA + i, 1) = pattern(i);
	put_desc(desc(&t->g, TX, d), DATA, first, second ? NEXT : 0, d + 1);
	if (second)
		put_desc(desc(&t->g, TX, d + 1), DATA + first, second, 0, 0);
	offer(&t->g, TX, d);
}

static void transmit(void **state)
{
	struct nic t;
	uint8_t got[2048];

	nic_init(&t, 0);
	/* Wherever the driver cuts it. */
	for (uint32_t cut = 1; cut < 60; cut += 11) {
		send_chain(&t, 0, cut, 72 - cut);
		kick(&t.g, TX);
		assert_int_equal(recv(t.wire, got, sizeof(got), 0), 72);
		for (size_t i = 0; i < 72; i++)
			assert_int_equal(got[i], pattern(i));
	}
	uint16_t done = used(&t.g, TX)->idx;
	/* Nothing but a header, and more than a frame can have: dropped, no harm done. */
	send_chain(&t, 0, HEADER, 0);
	put_desc(desc(&t.g, TX, 2), 0x200000, 70000, 0, 0);
	offer(&t.g, TX, 2);
	kick(&t.g, TX);
	assert_int_equal(recv(t.wire, got, sizeof(got), 0), -1);
	assert_int_equal(used(&t.g, TX)->idx, done + 2);
	assert_int_equal(t.n.tx_dropped, 2);
	assert_false(is_broken(&t.g));
	/* One signal a turn. */
	unsigned interrupts = t.g.interrupts;
	for (int i = 0; i < 4; i++)
		send_chain(&t, 0, 64, 0);
	kick(&t.g, TX);
	assert_int_equal(t.g.interrupts, interrupts + 1);
	nic_release(&t);
}

static void transmit_bad(void **state)
{
	struct nic t;

	nic_init(&t, 0);
	send_chain(&t, 0, HEADER - 1, 0);
	kick(&t.g, TX);
	assert_true(is_broken(&t.g));
	assert_non_null(strstr(t.n.dev.broken, "net: queue 1: a frame of 11 bytes to send"));
	bring_up(&t.g, 0);
	send_chain(&t, 0, 64, 64);
	desc(&t.g, TX, 1)->flags = WRITE;
	kick(&t.g, TX);
	assert_true(is_broken(&t.g));
	assert_false(turn(&t));
	nic_release(&t);
}

/* The tap takes no more: the request stays, and goes when there is place. */
static void transmit_full(void **state)
{
	struct nic t;
	uint8_t got[256];
	int sent = 0, came = 0;

	nic_init(&t, 0);
	while (!t.n.tx_full && sent < 10000) {
		send_chain(&t, 0, 100, 0);
		kick(&t.g, TX);
		sent++;
	}
	assert_true(t.n.tx_full);
	uint16_t done = used(&t.g, TX)->idx;
	assert_int_equal((uint16_t)(avail(&t.g, TX)->idx - done), 1);
	assert_false(turn(&t));
	while (recv(t.wire, got, sizeof(got), 0) == 100)
		came++;
	assert_true(turn(&t));
	assert_int_equal(recv(t.wire, got, sizeof(got), 0), 100);
	assert_int_equal(came + 1, sent);
	assert_false(t.n.tx_full);
	assert_int_equal((uint16_t)(used(&t.g, TX)->idx - done), 1);
	assert_false(turn(&t));
	nic_release(&t);
}

static void receive(void **state)
{
	struct nic t;

	nic_init(&t, 0);
	from_wire(&t, 100);
	assert_true(turn(&t));  /* finds no buffer, */
	assert_false(turn(&t)); /* and does not spin */
	assert_int_equal(used(&t.g, RX)->idx, 0);
	give_buffer(&t, 0, 2000);
	kick(&t.g, RX);
	assert_int_equal(used(&t.g, RX)->idx, 1);
	assert_frame(&t, 0, 100, 2000);
	/* Longer than the one buffer it may have: dropped, the buffer is used for the next. */
	give_buffer(&t, 1, 200);
	kick(&t.g, RX);
	from_wire(&t, 201);
	from_wire(&t, 200);
	from_wire(&t, HEADER - 1); /* no frame */
	while (turn(&t))
		;
	assert_int_equal(used(&t.g, RX)->idx, 2);
	assert_frame(&t, 1, 200, 200);
	give_buffer(&t, 2, 200);
	kick(&t.g, RX);
	assert_int_equal(t.n.rx_dropped, 2);
	assert_int_equal(used(&t.g, RX)->idx, 2);
	nic_release(&t);
}

static void receive_bad(void **state)
{
	struct nic t;

	nic_init(&t, 0);
	give_buffer(&t, 0, HEADER - 1);
	kick(&t.g, RX);
	assert_true(is_broken(&t.g));
	assert_non_null(strstr(t.n.dev.broken, "queue 0: a receive buffer of 11 bytes"));
	bring_up(&t.g, MERGEABLE);
	put_desc(desc(&t.g, RX, 0), DATA, 100, NEXT, 1);
	put_desc(desc(&t.g, RX, 1), DATA, 100, WRITE, 0);
	offer(&t.g, RX, 0);
	kick(&t.g, RX);
	assert_true(is_broken(&t.g));
	from_wire(&t, 100);
	(void)turn(&t);
	assert_false(turn(&t)); /* a broken device waits for nothing */
	nic_release(&t);
}

static void receive_merged(void **state)
{
	struct nic t;

	nic_init(&t, MERGEABLE);
	for (unsigned i = 0; i < 5; i++)
		give_buffer(&t, i, 100);
	kick(&t.g, RX);
	unsigned interrupts = t.g.interrupts;
	from_wire(&t, 250);
	from_wire(&t, 40);
	assert_true(turn(&t));
	assert_int_equal(used(&t.g, RX)->idx, 4);
	assert_frame(&t, 0, 250, 100);
	assert_frame(&t, 3, 40, 100);
	assert_int_equal(t.g.interrupts, interrupts + 1);
	/* Buffers run out in the middle of a frame: the rest of it waits for more. */
	give_buffer(&t, 5, 100);
	kick(&t.g, RX);
	from_wire(&t, 340);
	assert_true(turn(&t));
	assert_int_equal(used(&t.g, RX)->idx, 4);
	assert_false(turn(&t));
	give_buffer(&t, 6, 100);
	kick(&t.g, RX);
	assert_int_equal(used(&t.g, RX)->idx, 4);
	give_buffer(&t, 7, 100);
	kick(&t.g, RX);
	assert_int_equal(used(&t.g, RX)->idx, 8);
	assert_frame(&t, 4, 340, 100);
	/* More than the whole queue can hold: dropped; what comes next is not. */
	for (unsigned i = 0; i < 8; i++)
		give_buffer(&t, i, 100);
	kick(&t.g, RX);
	from_wire(&t, 801);
	from_wire(&t, 800);
	while (turn(&t))
		;
	assert_int_equal(t.n.rx_dropped, 1);
	assert_int_equal(used(&t.g, RX)->idx, 16);
	assert_frame(&t, 8, 800, 100);
	/* Longer than the MTU allows, so that more buffers are taken than for any other frame. */
	bring_up(&t.g, MERGEABLE);
	for (unsigned i = 0; i < 8; i++)
		give_buffer(&t, i, 400);
	kick(&t.g, RX);
	from_wire(&t, 3000);
	assert_true(turn(&t));
	assert_int_equal(used(&t.g, RX)->idx, 8);
	assert_frame(&t, 0, 3000, 400);
	nic_release(&t);
}

/* Buffers in more pieces than one read can have, and pieces that cut the header. */
static void receive_many_parts(void **state)
{
	struct nic t;
	struct vring_desc *table;

	nic_init(&t, MERGEABLE | INDIRECT);
	table = at(&t.g, 0x300000, 1024 * 16);
	for (unsigned i = 0; i < 1024; i++)
		put_desc(&table[i], BUFFER(0) + i, 1, WRITE | (i < 1023 ? NEXT : 0), i + 1);
	for (unsigned k = 0; k < 3; k++) {
		put_desc(desc(&t.g, RX, k), 0x300000, 1024 * 16, TABLE, 0);
		offer(&t.g, RX, k);
	}
	kick(&t.g, RX);
	from_wire(&t, 900);
	assert_true(turn(&t));
	assert_int_equal(used(&t.g, RX)->idx, 1);
	for (unsigned i = HEADER; i < 900; i++)
		assert_int_equal(*(uint8_t *)at(&t.g, BUFFER(0) + i, 1), pattern(i));
	assert_int_equal(*(uint8_t *)at(&t.g, BUFFER(0) + 10, 1), 1);
	/* What is left of it does not hold this one: dropped. */
	from_wire(&t, 1100);
	from_wire(&t, 100);
	while (turn(&t))
		;
	assert_int_equal(t.n.rx_dropped, 1);
	assert_int_equal(used(&t.g, RX)->idx, 2);
	assert_false(is_broken(&t.g));
	nic_release(&t);
}

/* Buffers and the half of a frame that the device holds are forgotten, the wire is emptied. */
static void reset_and_quiesce(void **state)
{
	struct nic t;

	nic_init(&t, MERGEABLE);
	for (unsigned i = 0; i < 3; i++)
		give_buffer(&t, i, 100);
	from_wire(&t, 340);
	assert_true(turn(&t));
	from_wire(&t, 60);
	bring_up(&t.g, MERGEABLE);
	assert_false(turn(&t));
	give_buffer(&t, 4, 100);
	kick(&t.g, RX);
	assert_int_equal(used(&t.g, RX)->idx, 0);
	from_wire(&t, 80);
	assert_true(turn(&t));
	assert_frame(&t, 0, 80, 100);
	/* Buffers held go back into the queue, in their order. */
	give_buffer(&t, 5, 100);
	give_buffer(&t, 6, 100);
	kick(&t.g, RX);
	uint16_t next = t.n.dev.queues[RX].next_avail;
	assert_int_equal(next, 3);
	t.n.dev.ops->quiesce(&t.n.dev, RX);
	assert_int_equal(t.n.dev.queues[RX].next_avail, 1);
	from_wire(&t, 90);
	assert_true(turn(&t));
	assert_int_equal(used(&t.g, RX)->ring[1].id, 5);
	assert_frame(&t, 1, 90, 100);
	/* No driver: nothing is read. */
	set(&t.g, VIRTIO_MMIO_STATUS, 0);
	from_wire(&t, 90);
	assert_false(turn(&t));
	nic_release(&t);
}

/* --- a real tap --- */

struct wire {
	int before, box, peer;
	struct net_tap tap;
	struct nic t;
	int udp; /* in peer, on 10.9.0.1 port 7777 */
};

/* Carriers are noticed by a kernel thread, in its time; a frame sent before is lost. */
#define UNTIL_UP(dev, state) \
	"for i in $(seq 100); do ip link show " dev " | grep -q '" state \
	"' && exit 0; sleep 0.1; " \
	"done; exit 1"

static void wire_init(struct wire *w)
{
	struct net_interface i = {.name = "eth0", .mtu = 1500, .up = true};
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(7777)};
	char command[512];

	w->before = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	w->peer = net_namespace_new();
	/* Nothing on the wire but what the test sends. */
	run_shell("echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6");
	w->box = net_namespace_new();
	snprintf(command, sizeof(command),
		"ip link add eth0 address 02:00:00:00:00:0a type veth peer name p0 address "
		"02:00:00:00:00:01 netns /proc/%d/fd/%d && ip link set eth0 up",
		getpid(), w->peer);
	run_shell(command);
	if (net_tap_open(&i, &w->tap) < 0)
		fail_msg("%s", err_msg());
	net_namespace_enter(w->peer);
	run_shell("ip addr add 10.9.0.1/24 dev p0 && ip link set p0 up && ip neigh add 10.9.0.2 "
		  "lladdr "
		  "02:00:00:00:00:0a dev p0");
	run_shell(UNTIL_UP("p0", "state UP"));
	w->udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	inet_pton(AF_INET, "10.9.0.1", &a.sin_addr);
	assert_int_equal(bind(w->udp, (void *)&a, sizeof(a)), 0);
	setsockopt(w->udp, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_sec = 2},
		sizeof(struct timeval));
	assert_int_equal(setns(w->box, CLONE_NEWNET), 0);
	run_shell(UNTIL_UP("eth0", "state UP"));
	run_shell(UNTIL_UP("tap0", "qdisc [^n]"));
	struct virtio_net_options o = {.tap = w->tap.fd, .mtu = 1500, .offloads = w->tap.offloads};
	memcpy(o.mac, mac, 6);
	w->t = (struct nic){.tap = -EBADF, .wire = -EBADF};
	rig_memory(&w->t.g);
	assert_int_equal(virtio_net_init(&w->t.n, &w->t.g.memory, &o), 0);
	rig_attach(&w->t.g, &w->t.n.dev);
}

static void wire_release(struct wire *w)
{
	nic_release(&w->t);
	assert_int_equal(net_tap_close(&w->tap), 0);
	assert_int_equal(setns(w->before, CLONE_NEWNET), 0);
	close(w->udp);
	close(w->box);
	close(w->peer);
	close(w->before);
}

struct datagram {
	struct virtio_net_hdr_v1 h;
	struct ether_header eth;
	struct iphdr ip;
	struct udphdr udp;
} __attribute__((packed));

static uint16_t sum(const void *data, size_t len, uint32_t start)
{
	uint16_t word;

	for (size_t i = 0; i + 1 < len; i += 2) {
		memcpy(&word, (const char *)data + i, 2);
		start += word;
	}
	while (start >> 16)
		start = (start & 0xffff) + (start >> 16);
	return (uint16_t)start;
}

/* The guest sends a datagram of `len` bytes whose checksum is left to the host. */
static void guest_sends(struct wire *w, uint32_t len, uint8_t gso_type)
{
	static const uint8_t far[6] = {2, 0, 0, 0, 0, 1};
	struct datagram d = {
		.h = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
			.gso_type = gso_type,
			.hdr_len = sizeof(d) - HEADER,
			.gso_size = gso_type ? 1000 : 0,
			.csum_start = 34,
			.csum_offset = 6},
		.eth.ether_type = htons(ETHERTYPE_IP),
		.ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP},
		.udp = {.source = htons(5), .dest = htons(7777)},
	};

	memcpy(d.eth.ether_dhost, far, 6);
	memcpy(d.eth.ether_shost, mac, 6);
	inet_pton(AF_INET, "10.9.0.2", &d.ip.saddr);
	inet_pton(AF_INET, "10.9.0.1", &d.ip.daddr);
	d.ip.tot_len = htons((uint16_t)(sizeof(d.ip) + sizeof(d.udp) + len));
	d.ip.check = (uint16_t)~sum((char *)&d + HEADER + 14, 20, 0);
	d.udp.len = htons((uint16_t)(sizeof(d.udp) + len));
	d.udp.check =
		sum((char *)&d + HEADER + 14 + 12, 8, (uint32_t)htons(IPPROTO_UDP) + d.udp.len);
	memcpy(at(&w->t.g, DATA, sizeof(d)), &d, sizeof(d));
	for (uint32_t i = 0; i < len; i++)
		*(uint8_t *)at(&w->t.g, 0x200000 + i, 1) = pattern(i);
	put_desc(desc(&w->t.g, TX, 0), DATA, sizeof(d), NEXT, 1);
	put_desc(desc(&w->t.g, TX, 1), 0x200000, len, 0, 0);
	offer(&w->t.g, TX, 0);
	kick(&w->t.g, TX);
}

static void peer_gets(struct wire *w, size_t len, size_t offset)
{
	uint8_t got[65536];

	assert_int_equal(recv(w->udp, got, sizeof(got), 0), len);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(got[i], pattern(offset + i));
}

static void peer_sends(struct wire *w, size_t len, int segment)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(5)};
	uint8_t data[65536];

	for (size_t i = 0; i < len; i++)
		data[i] = pattern(i);
	inet_pton(AF_INET, "10.9.0.2", &a.sin_addr);
	if (setsockopt(w->udp, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof(segment)) < 0)
		fail_msg("UDP_SEGMENT: %s", strerror(errno));
	assert_int_equal(sendto(w->udp, data, len, 0, (void *)&a, sizeof(a)), len);
}

/* Waits for a datagram; whatever else the kernel says, as by ARP, is passed over. */
static struct datagram guest_gets(struct wire *w, unsigned *ret_first, uint32_t *ret_len)
{
	struct vring_used *u = used(&w->t.g, RX);
	static uint16_t seen; /* reset by the caller's bring_up() */
	struct datagram d;

	if (u->idx == 0)
		seen = 0;
	for (int tries = 0; tries < 200; tries++) {
		struct pollfd p = {w->t.n.dev.event_fd, POLLIN, 0};

		poll(&p, 1, 10);
		(void)turn(&w->t);
		while (seen != u->idx) {
			const struct vring_used_elem *e = &u->ring[seen % w->t.g.size];

			memcpy(&d, at(&w->t.g, BUFFER(e->id), sizeof(d)), sizeof(d));
			*ret_first = seen;
			*ret_len = e->len;
			seen = (uint16_t)(seen + d.h.num_buffers);
			if (d.eth.ether_type == htons(ETHERTYPE_IP) && d.ip.protocol == IPPROTO_UDP)
				return d;
		}
	}
	fail_msg("no datagram has come");
	return d;
}

static void need_root(void)
{
	if (geteuid() != 0) {
		print_message("skipped: network namespaces can be made by root only\n");
		skip();
	}
}

static void on_a_tap(void **state)
{
	struct wire w;
	struct datagram d;
	unsigned first;
	uint32_t len;

	need_root();
	wire_init(&w);
	/* A driver that wants no offloads gets plain frames, sums included. */
	bring_up(&w.t.g, MERGEABLE);
	for (unsigned i = 0; i < 8; i++)
		give_buffer(&w.t, i, 4096);
	kick(&w.t.g, RX);
	peer_sends(&w, 500, 0);
	d = guest_gets(&w, &first, &len);
	assert_int_equal(d.h.flags, 0);
	assert_int_equal(d.h.num_buffers, 1);
	assert_int_equal(len, sizeof(d) + 500);
	/* The kernel refuses a header that makes no sense; the device goes on. */
	guest_sends(&w, 100, 0x55);
	assert_int_equal(w.t.n.tx_dropped, 1);
	assert_false(is_broken(&w.t.g));
	/* With them, sums are left open on both sides. */
	bring_up(&w.t.g, MERGEABLE | 1ULL << VIRTIO_NET_F_CSUM | 1ULL << VIRTIO_NET_F_GUEST_CSUM);
	for (unsigned i = 0; i < 8; i++)
		give_buffer(&w.t, i, 4096);
	kick(&w.t.g, RX);
	guest_sends(&w, 100, 0);
	peer_gets(&w, 100, 0);
	peer_sends(&w, 700, 0);
	d = guest_gets(&w, &first, &len);
	assert_int_equal(d.h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	wire_release(&w);
}

/* One frame for many datagrams, both ways: 30 kB in merged buffers. */
static void large_frames(void **state)
{
	struct wire w;
	struct datagram d;
	unsigned first;
	uint32_t len;

	need_root();
	wire_init(&w);
	if (!(w.tap.offloads & 0x60)) {
		wire_release(&w);
		print_message("skipped: this kernel's taps know no UDP segmentation (Linux 6.2)\n");
		skip();
	}
	bring_up(&w.t.g,
		MERGEABLE | USO | 1ULL << VIRTIO_NET_F_CSUM | 1ULL << VIRTIO_NET_F_GUEST_CSUM);
	for (unsigned i = 0; i < 8; i++)
		give_buffer(&w.t, i, 4096);
	kick(&w.t.g, RX);
	guest_sends(&w, 2500, GSO_UDP_L4);
	peer_gets(&w, 1000, 0);
	peer_gets(&w, 1000, 1000);
	peer_gets(&w, 500, 2000);
	peer_sends(&w, 20000, 1000);
	d = guest_gets(&w, &first, &len);
	assert_int_equal(d.h.gso_type, GSO_UDP_L4);
	assert_int_equal(d.h.gso_size, 1000);
	assert_int_equal(d.h.num_buffers, 5);
	for (size_t i = sizeof(d); i < sizeof(d) + 20000; i++) {
		const struct vring_used_elem *e =
			&used(&w.t.g, RX)->ring[(first + i / 4096) % w.t.g.size];

		assert_int_equal(*(uint8_t *)at(&w.t.g, BUFFER(e->id) + i % 4096, 1),
			pattern(i - sizeof(d)));
	}
	wire_release(&w);
}

/* Somebody deletes the tap: for the guest the link is down, and nothing spins. */
static void lost_tap(void **state)
{
	struct wire w;
	uint16_t status = 1;

	need_root();
	wire_init(&w);
	bring_up(&w.t.g, 1ULL << VIRTIO_NET_F_STATUS);
	give_buffer(&w.t, 0, 4096);
	kick(&w.t.g, RX);
	run_shell("ip link del tap0");
	assert_true(turn(&w.t));
	assert_false(turn(&w.t));
	vm_bus_read(&w.t.g.bus, VIRTIO_MMIO_CONFIG + 6, &status, 2);
	assert_int_equal(status, 0);
	assert_true(get(&w.t.g, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
	guest_sends(&w, 100, 0);
	assert_int_equal(used(&w.t.g, TX)->idx, 1);
	wire_release(&w);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(configuration),
		cmocka_unit_test(transmit),
		cmocka_unit_test(transmit_bad),
		cmocka_unit_test(transmit_full),
		cmocka_unit_test(receive),
		cmocka_unit_test(receive_bad),
		cmocka_unit_test(receive_merged),
		cmocka_unit_test(receive_many_parts),
		cmocka_unit_test(reset_and_quiesce),
		cmocka_unit_test(on_a_tap),
		cmocka_unit_test(large_frames),
		cmocka_unit_test(lost_tap),
	};

	if (argc > 1) /* a pattern such as "*tap*": the test host is slow */
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("vm_net", tests, NULL, NULL);
}
