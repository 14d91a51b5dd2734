/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "unit/rig/net_wire.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "unit/rig/net.h"
#include "unit/rig/virtio.h"

/* where the guest has the headers and the payload of a frame that it sends */
#define FRAME 0x300000
#define PAYLOAD 0x310000

void wire_need_root(void)
{
	if (geteuid() != 0) {
		print_message("skipped: network namespaces can be made by root only\n");
		skip();
	}
}

/*
 * Waits until the interface has this state. A kernel thread notices some time later that the link
 * of an interface has come up, and frames that are sent before that are lost.
 */
#define UNTIL_UP(dev, state) \
	"for i in $(seq 100); do ip link show " dev " | grep -q '" state \
	"' && exit 0; sleep 0.1; " \
	"done; exit 1"

void wire_connect(struct wire *w, unsigned queues)
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
	if (net_tap_open(&i, queues, &w->tap) < 0)
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
	w->t = (struct nic){.tap = -EBADF, .wire = -EBADF};
	rig_memory(&w->t.g);
	for (unsigned q = 0; q < VIRTIO_QUEUES_MAX; q++)
		w->kicks[q] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	w->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

/* Passes the guest's kicks on, as KVM and the machine's event loop do. */
static void pass_kick(void *ctx, unsigned queue)
{
	struct wire *w = ctx;

	if (queue < w->t.n.dev.remote_queues)
		eventfd_write(w->kicks[queue], 1);
	else
		(void)virtio_kick(&w->t.n.dev, queue);
}

void wire_plug(struct wire *w, bool in_kernel)
{
	struct virtio_net_options o = {.pairs = w->tap.queues,
		.in_kernel = in_kernel,
		.mtu = 1500,
		.offloads = w->tap.offloads};

	if (in_kernel)
		assert_true(net_tap_open_vhost(&w->tap));
	memcpy(o.mac, nic_mac, 6);
	memcpy(o.taps, w->tap.fds, sizeof(o.taps));
	memcpy(o.vhost, w->tap.vhost, sizeof(o.vhost));
	if (virtio_net_init(&w->t.n, &w->t.g.memory, &o) < 0)
		fail_msg("%s", err_msg());
	w->t.n.dev.kicks = w->kicks;
	w->t.n.dev.call = w->call;
	rig_attach(&w->t.g, &w->t.n.dev);
	w->t.g.mmio.kick = pass_kick;
	w->t.g.mmio.kick_ctx = w;
}

void wire_unplug(struct wire *w)
{
	struct ifreq q = {.ifr_flags = IFF_ATTACH_QUEUE};

	/* A new device expects that all queues of the tap are attached, as they are at first. */
	for (unsigned i = w->t.n.active; i < w->tap.queues; i++)
		assert_int_equal(ioctl(w->tap.fds[i], TUNSETQUEUE, &q), 0);
	virtio_net_release(&w->t.n);
	virtio_release(&w->t.n.dev);
	for (unsigned i = 0; i < w->tap.queues; i++)
		fd_close(&w->tap.vhost[i]);
	w->t.g.bus = (struct vm_bus){0};
}

void wire_init(struct wire *w)
{
	wire_connect(w, 1);
	wire_plug(w, false);
}

void wire_release(struct wire *w)
{
	wire_unplug(w);
	vm_memory_release(&w->t.g.memory);
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		close(w->kicks[i]);
	close(w->call);
	assert_int_equal(net_tap_close(&w->tap), 0);
	assert_int_equal(setns(w->before, CLONE_NEWNET), 0);
	close(w->udp);
	close(w->box);
	close(w->peer);
	close(w->before);
}

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

void wire_guest_sends(struct wire *w, unsigned pair, uint32_t len, uint8_t gso_type)
{
	const unsigned tx = 2 * pair + 1;
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
	memcpy(at(&w->t.g, FRAME, sizeof(d)), &d, sizeof(d));
	for (uint32_t i = 0; i < len; i++)
		*(uint8_t *)at(&w->t.g, PAYLOAD + i, 1) = frame_byte(i);
	put_desc(desc(&w->t.g, tx, 0), FRAME, sizeof(d), NEXT, 1);
	put_desc(desc(&w->t.g, tx, 1), PAYLOAD, len, 0, 0);
	offer(&w->t.g, tx, 0);
	kick(&w->t.g, tx);
}

void wire_peer_gets(struct wire *w, size_t len, size_t offset)
{
	uint8_t got[65536];

	assert_int_equal(recv(w->udp, got, sizeof(got), 0), len);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(got[i], frame_byte(offset + i));
}

void wire_peer_sends(struct wire *w, size_t len, int segment)
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

struct datagram wire_guest_gets(
	struct wire *w, unsigned pair, unsigned *ret_first, uint32_t *ret_len)
{
	struct vring_used *u = used(&w->t.g, 2 * pair);
	uint16_t *seen = &w->seen[pair];
	struct datagram d;

	for (int tries = 0; tries < 200; tries++) {
		struct pollfd p = {w->t.n.dev.event_fd, POLLIN, 0};

		poll(&p, 1, 10);
		(void)nic_serve_event(&w->t);
		while (*seen != __atomic_load_n(&u->idx, __ATOMIC_ACQUIRE)) {
			const struct vring_used_elem *e = &u->ring[*seen % w->t.g.size];

			memcpy(&d, at(&w->t.g, BUFFER(8 * pair + e->id), sizeof(d)), sizeof(d));
			assert_true(d.h.num_buffers > 0);
			*ret_first = *seen;
			*ret_len = e->len;
			*seen = (uint16_t)(*seen + d.h.num_buffers);
			if (d.eth.ether_type == htons(ETHERTYPE_IP) && d.ip.protocol == IPPROTO_UDP)
				return d;
		}
	}
	fail_msg("no datagram has come");
	return d;
}

void wire_bring_up(struct wire *w, uint64_t features)
{
	bring_up(&w->t.g, features);
	for (unsigned pair = 0; pair < w->tap.queues; pair++) {
		w->seen[pair] = 0;
		for (unsigned i = 0; i < 8; i++) {
			put_desc(desc(&w->t.g, 2 * pair, i), BUFFER(8 * pair + i), 4096, WRITE, 0);
			offer(&w->t.g, 2 * pair, i);
		}
		kick(&w->t.g, 2 * pair);
	}
}
