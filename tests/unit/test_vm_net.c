/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the network device behind the mmio transport, with good and bad drivers, over a datagram
 * socket that stands for a tap.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/socket.h>

#include "unit/rig/net.h"
#include "unit/rig/net_device.h"
#include "unit/rig/virtio.h"

/*
 * Checks that the frame has `len` bytes and is in as many used buffers of `each` bytes as it needs,
 * from the used buffer number `first` on.
 */
static void assert_frame(struct nic *t, unsigned first, size_t len, size_t each)
{
	size_t count = (len + each - 1) / each;
	const struct vring_used *u = used(&t->g, RX);

	for (size_t i = 0; i < len; i++) {
		const struct vring_used_elem *e = &u->ring[(first + i / each) % t->g.size];
		uint8_t got = *(uint8_t *)at(&t->g, BUFFER(e->id) + i % each, 1);
		uint8_t want = i >= HEADER ? frame_byte(i) : i == 10 ? (uint8_t)count : 0;

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
	assert_memory_equal(got, nic_mac, 6);
	uint16_t mtu = 0, status = 0;
	vm_bus_read(&t.g.bus, VIRTIO_MMIO_CONFIG + 6, &status, 2);
	vm_bus_read(&t.g.bus, VIRTIO_MMIO_CONFIG + 10, &mtu, 2);
	assert_int_equal(status, VIRTIO_NET_S_LINK_UP);
	assert_int_equal(mtu, 1500);
	/* Without a tap the device must offer no offloads. */
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
		*(uint8_t *)at(&t->g, DATA + i, 1) = frame_byte(i);
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
	/*
	 * The device must send a frame unchanged, at whichever byte the driver splits it into two
	 * buffers.
	 */
	for (uint32_t cut = 1; cut < 60; cut += 11) {
		send_chain(&t, 0, cut, 72 - cut);
		kick(&t.g, TX);
		assert_int_equal(recv(t.wire, got, sizeof(got), 0), 72);
		for (size_t i = 0; i < 72; i++)
			assert_int_equal(got[i], frame_byte(i));
	}
	uint16_t done = used(&t.g, TX)->idx;
	/* The device must drop a frame that has no data, and a frame that is too long. */
	send_chain(&t, 0, HEADER, 0);
	put_desc(desc(&t.g, TX, 2), 0x200000, 70000, 0, 0);
	offer(&t.g, TX, 2);
	kick(&t.g, TX);
	assert_int_equal(recv(t.wire, got, sizeof(got), 0), -1);
	assert_int_equal(used(&t.g, TX)->idx, done + 2);
	assert_int_equal(t.n.tx_dropped, 2);
	assert_false(is_broken(&t.g));
	/* The device must raise only one interrupt for all frames that it sends after one kick. */
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
	assert_false(nic_serve_event(&t));
	nic_release(&t);
}

/*
 * Checks that a frame which the guest sends stays in the transmit queue as long as the tap is full.
 */
static void transmit_full(void **state)
{
	struct nic t;
	uint8_t got[256];
	int sent = 0, came = 0;

	nic_init(&t, 0);
	while (!t.n.pairs[0].tx_full && sent < 10000) {
		send_chain(&t, 0, 100, 0);
		kick(&t.g, TX);
		sent++;
	}
	assert_true(t.n.pairs[0].tx_full);
	uint16_t done = used(&t.g, TX)->idx;
	assert_int_equal((uint16_t)(avail(&t.g, TX)->idx - done), 1);
	assert_false(nic_serve_event(&t));
	while (recv(t.wire, got, sizeof(got), 0) == 100)
		came++;
	assert_true(nic_serve_event(&t));
	assert_int_equal(recv(t.wire, got, sizeof(got), 0), 100);
	assert_int_equal(came + 1, sent);
	assert_false(t.n.pairs[0].tx_full);
	assert_int_equal((uint16_t)(used(&t.g, TX)->idx - done), 1);
	assert_false(nic_serve_event(&t));
	nic_release(&t);
}

static void receive(void **state)
{
	struct nic t;

	nic_init(&t, 0);
	nic_send_from_wire(&t, 100);
	/* the frame waits in the tap, because the guest has given no buffer */
	assert_true(nic_serve_event(&t));
	/*
	 * The device must not poll the tap now, because the waiting frame would wake the event loop
	 * over and over.
	 */
	assert_false(nic_serve_event(&t));
	assert_int_equal(used(&t.g, RX)->idx, 0);
	nic_give_buffer(&t, 0, 2000);
	kick(&t.g, RX);
	assert_int_equal(used(&t.g, RX)->idx, 1);
	assert_frame(&t, 0, 100, 2000);
	/*
	 * The device must drop a frame that is longer than a buffer, because without MRG_RXBUF a
	 * frame may use only one buffer. It must put the next frame into that buffer.
	 */
	nic_give_buffer(&t, 1, 200);
	kick(&t.g, RX);
	nic_send_from_wire(&t, 201);
	nic_send_from_wire(&t, 200);
	/* this frame is shorter than the header of virtio-net */
	nic_send_from_wire(&t, HEADER - 1);
	while (nic_serve_event(&t))
		;
	assert_int_equal(used(&t.g, RX)->idx, 2);
	assert_frame(&t, 1, 200, 200);
	nic_give_buffer(&t, 2, 200);
	kick(&t.g, RX);
	assert_int_equal(t.n.rx_dropped, 2);
	assert_int_equal(used(&t.g, RX)->idx, 2);
	nic_release(&t);
}

static void receive_bad(void **state)
{
	struct nic t;

	nic_init(&t, 0);
	nic_give_buffer(&t, 0, HEADER - 1);
	kick(&t.g, RX);
	assert_true(is_broken(&t.g));
	assert_non_null(strstr(t.n.dev.broken, "queue 0: a receive buffer of 11 bytes"));
	bring_up(&t.g, MERGEABLE);
	put_desc(desc(&t.g, RX, 0), DATA, 100, NEXT, 1);
	put_desc(desc(&t.g, RX, 1), DATA, 100, WRITE, 0);
	offer(&t.g, RX, 0);
	kick(&t.g, RX);
	assert_true(is_broken(&t.g));
	nic_send_from_wire(&t, 100);
	(void)nic_serve_event(&t);
	assert_false(nic_serve_event(&t)); /* a device that is broken must not poll the tap */
	nic_release(&t);
}

static void receive_merged(void **state)
{
	struct nic t;

	nic_init(&t, MERGEABLE);
	for (unsigned i = 0; i < 5; i++)
		nic_give_buffer(&t, i, 100);
	kick(&t.g, RX);
	unsigned interrupts = t.g.interrupts;
	nic_send_from_wire(&t, 250);
	nic_send_from_wire(&t, 40);
	assert_true(nic_serve_event(&t));
	assert_int_equal(used(&t.g, RX)->idx, 4);
	assert_frame(&t, 0, 250, 100);
	assert_frame(&t, 3, 40, 100);
	assert_int_equal(t.g.interrupts, interrupts + 1);
	/*
	 * The guest's buffers run out in the middle of a frame. The device must keep the rest of
	 * the frame until the guest gives more buffers.
	 */
	nic_give_buffer(&t, 5, 100);
	kick(&t.g, RX);
	nic_send_from_wire(&t, 340);
	assert_true(nic_serve_event(&t));
	assert_int_equal(used(&t.g, RX)->idx, 4);
	assert_false(nic_serve_event(&t));
	nic_give_buffer(&t, 6, 100);
	kick(&t.g, RX);
	assert_int_equal(used(&t.g, RX)->idx, 4);
	nic_give_buffer(&t, 7, 100);
	kick(&t.g, RX);
	assert_int_equal(used(&t.g, RX)->idx, 8);
	assert_frame(&t, 4, 340, 100);
	/*
	 * The device must drop a frame that is too long for all buffers of the queue together, and
	 * must deliver the next frame.
	 */
	for (unsigned i = 0; i < 8; i++)
		nic_give_buffer(&t, i, 100);
	kick(&t.g, RX);
	nic_send_from_wire(&t, 801);
	nic_send_from_wire(&t, 800);
	while (nic_serve_event(&t))
		;
	assert_int_equal(t.n.rx_dropped, 1);
	assert_int_equal(used(&t.g, RX)->idx, 16);
	assert_frame(&t, 8, 800, 100);
	/*
	 * The device must deliver a frame that is longer than the MTU allows, in as many buffers as
	 * the frame needs.
	 */
	bring_up(&t.g, MERGEABLE);
	for (unsigned i = 0; i < 8; i++)
		nic_give_buffer(&t, i, 400);
	kick(&t.g, RX);
	nic_send_from_wire(&t, 3000);
	assert_true(nic_serve_event(&t));
	assert_int_equal(used(&t.g, RX)->idx, 8);
	assert_frame(&t, 0, 3000, 400);
	nic_release(&t);
}

/*
 * Checks receive buffers that consist of more pieces than one readv(2) can fill, and of pieces that
 * split the header.
 */
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
	nic_send_from_wire(&t, 900);
	assert_true(nic_serve_event(&t));
	assert_int_equal(used(&t.g, RX)->idx, 1);
	for (unsigned i = HEADER; i < 900; i++)
		assert_int_equal(*(uint8_t *)at(&t.g, BUFFER(0) + i, 1), frame_byte(i));
	assert_int_equal(*(uint8_t *)at(&t.g, BUFFER(0) + 10, 1), 1);
	/*
	 * The device can use at most 1023 pieces of one byte at a time, so it must drop this frame
	 * of 1100 bytes.
	 */
	nic_send_from_wire(&t, 1100);
	nic_send_from_wire(&t, 100);
	while (nic_serve_event(&t))
		;
	assert_int_equal(t.n.rx_dropped, 1);
	assert_int_equal(used(&t.g, RX)->idx, 2);
	assert_false(is_broken(&t.g));
	nic_release(&t);
}

/*
 * Checks that a reset of the device drops three things: the receive buffers that the guest has
 * given, the rest of a frame that the device has delivered only in part, and the frames that still
 * wait in the tap. Also checks that quiesce() puts the buffers that the device holds back into the
 * queue.
 */
static void reset_and_quiesce(void **state)
{
	struct nic t;

	nic_init(&t, MERGEABLE);
	for (unsigned i = 0; i < 3; i++)
		nic_give_buffer(&t, i, 100);
	nic_send_from_wire(&t, 340);
	assert_true(nic_serve_event(&t));
	nic_send_from_wire(&t, 60);
	bring_up(&t.g, MERGEABLE);
	assert_false(nic_serve_event(&t));
	nic_give_buffer(&t, 4, 100);
	kick(&t.g, RX);
	assert_int_equal(used(&t.g, RX)->idx, 0);
	nic_send_from_wire(&t, 80);
	assert_true(nic_serve_event(&t));
	assert_frame(&t, 0, 80, 100);
	/*
	 * When quiesce() stops the receive queue, the device must put the buffers that it holds
	 * back into the queue, in the order in which the guest has given them.
	 */
	nic_give_buffer(&t, 5, 100);
	nic_give_buffer(&t, 6, 100);
	kick(&t.g, RX);
	uint16_t next = t.n.dev.queues[RX].next_avail;
	assert_int_equal(next, 3);
	t.n.dev.ops->quiesce(&t.n.dev, RX);
	assert_int_equal(t.n.dev.queues[RX].next_avail, 1);
	nic_send_from_wire(&t, 90);
	assert_true(nic_serve_event(&t));
	assert_int_equal(used(&t.g, RX)->ring[1].id, 5);
	assert_frame(&t, 1, 90, 100);
	/*
	 * As long as no driver has started the device, because its status is 0, it must read
	 * nothing from the tap.
	 */
	set(&t.g, VIRTIO_MMIO_STATUS, 0);
	nic_send_from_wire(&t, 90);
	assert_false(nic_serve_event(&t));
	nic_release(&t);
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
	};

	/*
	 * The argument of the program chooses tests by name, because all tests together take long
	 * on the test host.
	 */
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("vm_net", tests, NULL, NULL);
}
