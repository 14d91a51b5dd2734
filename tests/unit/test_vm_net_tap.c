/* SPDX-License-Identifier: Apache-2.0 */
/* Tests the network device on a real tap between two network namespaces. The tests need root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <linux/virtio_net.h>

#include "unit/rig/net.h"
#include "unit/rig/net_wire.h"
#include "unit/rig/virtio.h"

static void on_a_tap(void **state)
{
	struct wire w;
	struct datagram d;
	unsigned first;
	uint32_t len;

	wire_need_root();
	wire_init(&w);
	/*
	 * If the driver has negotiated no offloads, it must get plain frames with complete
	 * checksums.
	 */
	wire_bring_up(&w, MERGEABLE);
	wire_peer_sends(&w, 500, 0);
	d = wire_guest_gets(&w, 0, &first, &len);
	assert_int_equal(d.h.flags, 0);
	assert_int_equal(d.h.num_buffers, 1);
	assert_int_equal(len, sizeof(d) + 500);
	/*
	 * The header of this frame has an invalid type, so the kernel refuses the frame. The device
	 * must drop it and go on with the next frame.
	 */
	wire_guest_sends(&w, 0, 100, 0x55);
	assert_int_equal(w.t.n.tx_dropped, 1);
	assert_false(is_broken(&w.t.g));
	/*
	 * If the driver has negotiated offloads, both the host and the guest leave the checksums of
	 * their frames incomplete.
	 */
	wire_bring_up(&w, MERGEABLE | 1ULL << VIRTIO_NET_F_CSUM | 1ULL << VIRTIO_NET_F_GUEST_CSUM);
	wire_guest_sends(&w, 0, 100, 0);
	wire_peer_gets(&w, 100, 0);
	wire_peer_sends(&w, 700, 0);
	d = wire_guest_gets(&w, 0, &first, &len);
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

	wire_need_root();
	wire_init(&w);
	if (!(w.tap.offloads & 0x60)) {
		wire_release(&w);
		print_message("skipped: this kernel's taps know no UDP segmentation (Linux 6.2)\n");
		skip();
	}
	wire_bring_up(
		&w, MERGEABLE | USO | 1ULL << VIRTIO_NET_F_CSUM | 1ULL << VIRTIO_NET_F_GUEST_CSUM);
	wire_guest_sends(&w, 0, 2500, GSO_UDP_L4);
	wire_peer_gets(&w, 1000, 0);
	wire_peer_gets(&w, 1000, 1000);
	wire_peer_gets(&w, 500, 2000);
	wire_peer_sends(&w, 20000, 1000);
	d = wire_guest_gets(&w, 0, &first, &len);
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

	wire_need_root();
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
	wire_guest_sends(&w, 0, 100, 0);
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
