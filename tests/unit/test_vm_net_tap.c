/* SPDX-License-Identifier: Apache-2.0 */
/* Tests the network device on a real tap between two network namespaces. The tests need root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <arpa/inet.h>
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
#include "unit/rig/net_device.h"
#include "unit/rig/virtio.h"

struct wire {
	int before, box, peer;
	struct net_tap tap;
	struct nic t;
	int udp; /* a UDP socket in `peer`, bound to 10.9.0.1 port 7777 */
};

/*
 * Waits until the interface has this state. A kernel thread notices some time later that the link
 * of an interface has come up, and frames that are sent before that are lost.
 */
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
	/*
	 * The test switches IPv6 off, so that the kernel sends no frames of its own between the two
	 * namespaces.
	 */
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
	memcpy(o.mac, nic_mac, 6);
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

/*
 * Sends a datagram of `len` bytes from the guest. The guest leaves the checksum incomplete, so the
 * host must complete it.
 */
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
	memcpy(d.eth.ether_shost, nic_mac, 6);
	inet_pton(AF_INET, "10.9.0.2", &d.ip.saddr);
	inet_pton(AF_INET, "10.9.0.1", &d.ip.daddr);
	d.ip.tot_len = htons((uint16_t)(sizeof(d.ip) + sizeof(d.udp) + len));
	d.ip.check = (uint16_t)~sum((char *)&d + HEADER + 14, 20, 0);
	d.udp.len = htons((uint16_t)(sizeof(d.udp) + len));
	d.udp.check =
		sum((char *)&d + HEADER + 14 + 12, 8, (uint32_t)htons(IPPROTO_UDP) + d.udp.len);
	memcpy(at(&w->t.g, DATA, sizeof(d)), &d, sizeof(d));
	for (uint32_t i = 0; i < len; i++)
		*(uint8_t *)at(&w->t.g, 0x200000 + i, 1) = frame_byte(i);
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
		assert_int_equal(got[i], frame_byte(offset + i));
}

static void peer_sends(struct wire *w, size_t len, int segment)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(5)};
	uint8_t data[65536];

	for (size_t i = 0; i < len; i++)
		data[i] = frame_byte(i);
	inet_pton(AF_INET, "10.9.0.2", &a.sin_addr);
	if (setsockopt(w->udp, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof(segment)) < 0)
		fail_msg("UDP_SEGMENT: %s", strerror(errno));
	assert_int_equal(sendto(w->udp, data, len, 0, (void *)&a, sizeof(a)), len);
}

/* Waits until the guest gets a datagram, and skips other frames, such as ARP. */
static struct datagram guest_gets(struct wire *w, unsigned *ret_first, uint32_t *ret_len)
{
	struct vring_used *u = used(&w->t.g, RX);
	/* number of used buffers that the guest has read since the last bring_up() */
	static uint16_t seen;
	struct datagram d;

	if (u->idx == 0)
		seen = 0;
	for (int tries = 0; tries < 200; tries++) {
		struct pollfd p = {w->t.n.dev.event_fd, POLLIN, 0};

		poll(&p, 1, 10);
		(void)nic_serve_event(&w->t);
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
	/*
	 * If the driver has negotiated no offloads, it must get plain frames with complete
	 * checksums.
	 */
	bring_up(&w.t.g, MERGEABLE);
	for (unsigned i = 0; i < 8; i++)
		nic_give_buffer(&w.t, i, 4096);
	kick(&w.t.g, RX);
	peer_sends(&w, 500, 0);
	d = guest_gets(&w, &first, &len);
	assert_int_equal(d.h.flags, 0);
	assert_int_equal(d.h.num_buffers, 1);
	assert_int_equal(len, sizeof(d) + 500);
	/*
	 * The header of this frame has an invalid type, so the kernel refuses the frame. The device
	 * must drop it and go on with the next frame.
	 */
	guest_sends(&w, 100, 0x55);
	assert_int_equal(w.t.n.tx_dropped, 1);
	assert_false(is_broken(&w.t.g));
	/*
	 * If the driver has negotiated offloads, both the host and the guest leave the checksums of
	 * their frames incomplete.
	 */
	bring_up(&w.t.g, MERGEABLE | 1ULL << VIRTIO_NET_F_CSUM | 1ULL << VIRTIO_NET_F_GUEST_CSUM);
	for (unsigned i = 0; i < 8; i++)
		nic_give_buffer(&w.t, i, 4096);
	kick(&w.t.g, RX);
	guest_sends(&w, 100, 0);
	peer_gets(&w, 100, 0);
	peer_sends(&w, 700, 0);
	d = guest_gets(&w, &first, &len);
	assert_int_equal(d.h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	wire_release(&w);
}

/*
 * Checks large frames: in each direction one frame of 30 kB, which lies in several buffers of the
 * guest, must carry many datagrams.
 */
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
		nic_give_buffer(&w.t, i, 4096);
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
			frame_byte(i - sizeof(d)));
	}
	wire_release(&w);
}

/*
 * Checks that the guest's link goes down when the tap is deleted, and that the event loop does not
 * spin then.
 */
static void lost_tap(void **state)
{
	struct wire w;
	uint16_t status = 1;

	need_root();
	wire_init(&w);
	bring_up(&w.t.g, 1ULL << VIRTIO_NET_F_STATUS);
	nic_give_buffer(&w.t, 0, 4096);
	kick(&w.t.g, RX);
	run_shell("ip link del tap0");
	assert_true(nic_serve_event(&w.t));
	assert_false(nic_serve_event(&w.t));
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
		cmocka_unit_test(on_a_tap),
		cmocka_unit_test(large_frames),
		cmocka_unit_test(lost_tap),
	};

	/*
	 * The argument of the program chooses tests by name, because all tests together take long
	 * on the test host.
	 */
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("vm_net", tests, NULL, NULL);
}
