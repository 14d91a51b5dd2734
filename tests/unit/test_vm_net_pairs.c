/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests a network device with several pairs of queues on a real tap, served by this process and by
 * vhost-net, and its snapshots. The tests with vhost-net run where the kernel has it: in the test
 * host (tests/host/test_vm_net.py).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "unit/rig/net_wire.h"

#define CONTROL 4 /* the control queue of a device with two pairs */
#define COMMAND 0x320000
#define SEVERAL (MERGEABLE | 1ULL << VIRTIO_NET_F_CTRL_VQ | 1ULL << VIRTIO_NET_F_MQ)

static void need_vhost(void)
{
	_cleanup_fd_ int fd = open("/dev/vhost-net", O_RDWR | O_CLOEXEC);

	wire_need_root();
	if (fd < 0) {
		print_message("skipped: this kernel has no vhost-net\n");
		skip();
	}
}

/* Gives the device `len` bytes of a command. Returns its answer. */
static uint8_t command(struct wire *w, uint8_t class, uint8_t cmd, uint16_t count, uint32_t len)
{
	struct rig *g = &w->t.g;
	uint8_t *c = at(g, COMMAND, 16);
	const uint16_t before = used(g, CONTROL)->idx;

	memcpy(c, (uint8_t[]){class, cmd, (uint8_t)count, (uint8_t)(count >> 8)}, 4);
	c[8] = 0xee;
	put_desc(desc(g, CONTROL, 0), COMMAND, len, NEXT, 1);
	put_desc(desc(g, CONTROL, 1), COMMAND + 8, 1, WRITE, 0);
	offer(g, CONTROL, 0);
	kick(g, CONTROL);
	assert_int_equal(used(g, CONTROL)->idx, (uint16_t)(before + 1));
	return c[8];
}

static uint8_t set_pairs(struct wire *w, uint16_t count)
{
	return command(w, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, count, 4);
}

/*
 * Sends a datagram each way on this pair. The tap gives a frame to the queue on which the guest has
 * last sent to the same peer.
 */
static void both_ways(struct wire *w, unsigned pair, uint32_t len)
{
	unsigned first;
	uint32_t got;

	wire_guest_sends(w, pair, len, 0);
	wire_peer_gets(w, len, 0);
	wire_peer_sends(w, len, 0);
	(void)wire_guest_gets(w, pair, &first, &got);
	assert_int_equal(got, sizeof(struct datagram) + len);
	assert_false(is_broken(&w->t.g));
}

static void use_pairs(bool in_kernel)
{
	struct wire w;
	uint16_t max = 0;

	wire_connect(&w, 2);
	wire_plug(&w, in_kernel);
	vm_bus_read(&w.t.g.bus, VIRTIO_MMIO_CONFIG + 8, &max, 2);
	assert_int_equal(max, 2);
	wire_bring_up(&w, SEVERAL);
	/* The driver has asked for no more than one pair, so all frames must come on the first. */
	both_ways(&w, 0, 100);
	assert_int_equal(set_pairs(&w, 2), VIRTIO_NET_OK);
	both_ways(&w, 1, 200);
	both_ways(&w, 0, 300);
	both_ways(&w, 1, 400);
	assert_int_equal(set_pairs(&w, 2), VIRTIO_NET_OK);
	/* Frames to a pair that is no longer in use must come on the first one. */
	assert_int_equal(set_pairs(&w, 1), VIRTIO_NET_OK);
	both_ways(&w, 0, 500);
	/* A driver that knows one pair only must work too, after one that has used both. */
	assert_int_equal(set_pairs(&w, 2), VIRTIO_NET_OK);
	wire_bring_up(&w, MERGEABLE);
	both_ways(&w, 0, 600);
	wire_bring_up(&w, SEVERAL);
	both_ways(&w, 0, 700);
	assert_int_equal(set_pairs(&w, 2), VIRTIO_NET_OK);
	both_ways(&w, 1, 800);
	assert_true(w.t.n.rx_frames > 0 || in_kernel);
	wire_unplug(&w);
	wire_plug(&w, in_kernel);
	wire_bring_up(&w, SEVERAL);
	both_ways(&w, 0, 900);
	wire_release(&w);
}

static void served_here(void **state)
{
	wire_need_root();
	use_pairs(false);
}

static void served_by_the_kernel(void **state)
{
	need_vhost();
	use_pairs(true);
}

/* Checks that vhost-net raises the interrupt when it has given the guest a frame. */
static void kernel_interrupts(void **state)
{
	struct wire w;
	eventfd_t n = 0;

	need_vhost();
	wire_connect(&w, 1);
	wire_plug(&w, true);
	wire_bring_up(&w, MERGEABLE);
	both_ways(&w, 0, 100);
	assert_int_equal(eventfd_read(w.call, &n), 0);
	assert_true(get(&w.t.g, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_VRING);
	wire_release(&w);
}

static void bad_commands(void **state)
{
	struct wire w;

	wire_need_root();
	wire_connect(&w, 2);
	wire_plug(&w, false);
	wire_bring_up(&w, SEVERAL);
	const uint16_t bad[] = {0, 3, 8, 0xffff, 0x100};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(set_pairs(&w, bad[i]), VIRTIO_NET_ERR);
	for (uint32_t len = 1; len < 4; len++)
		assert_int_equal(command(&w, VIRTIO_NET_CTRL_MQ, 0, 2, len), VIRTIO_NET_ERR);
	for (unsigned class = 0; class < 256; class += class == 3 ? 2 : 1)
		assert_int_equal(command(&w, (uint8_t) class, 0, 2, 4), VIRTIO_NET_ERR);
	assert_int_equal(command(&w, VIRTIO_NET_CTRL_MQ, 1, 2, 4), VIRTIO_NET_ERR);
	both_ways(&w, 0, 100);
	/* A command without room for the answer breaks the rules of the queue. */
	put_desc(desc(&w.t.g, CONTROL, 0), COMMAND, 4, 0, 0);
	offer(&w.t.g, CONTROL, 0);
	kick(&w.t.g, CONTROL);
	assert_true(is_broken(&w.t.g));
	assert_non_null(strstr(w.t.n.dev.broken, "without room for its answer"));
	/*
	 * Without VIRTIO_NET_F_MQ the control queue is the third queue, and knows no command. The
	 * driver has offered it 8 buffers without a command.
	 */
	wire_bring_up(&w, MERGEABLE | 1ULL << VIRTIO_NET_F_CTRL_VQ);
	assert_int_equal(used(&w.t.g, 2)->idx, 8);
	assert_int_equal(*(uint8_t *)at(&w.t.g, BUFFER(8), 1), VIRTIO_NET_ERR);
	both_ways(&w, 0, 200);
	wire_release(&w);
}

/* The device must not wait for frames of a pair whose receive queue the driver has not made. */
static void a_pair_without_its_queue(void **state)
{
	struct wire w;

	wire_need_root();
	wire_connect(&w, 2);
	wire_plug(&w, false);
	wire_bring_up(&w, SEVERAL);
	w.t.n.dev.queues[2].ready = false;
	assert_int_equal(set_pairs(&w, 2), VIRTIO_NET_OK);
	assert_int_equal(w.t.n.pairs[0].watched, EPOLLIN);
	assert_int_equal(w.t.n.pairs[1].watched, 0);
	wire_release(&w);
}

static void bad_options(void **state)
{
	struct virtio_net n;
	struct rig g;

	rig_memory(&g);
	assert_int_equal(virtio_net_init(&n, &g.memory,
				 &(struct virtio_net_options){.mtu = 1500, .pairs = 9}),
		-EINVAL);
	assert_non_null(strstr(err_msg(), "9 pairs of queues"));
	/* A descriptor that is no tap must be an error, and must not end the process. */
	assert_true(virtio_net_init(&n, &g.memory,
			    &(struct virtio_net_options){
				    .mtu = 1500, .pairs = 2, .taps = {-EBADF, -EBADF}}) < 0);
	vm_memory_release(&g.memory);
}

/*
 * Saves the device while the driver uses both pairs, and loads the state into a new device, which
 * must go on where the old one was.
 */
static void save_and_load(bool from_kernel, bool to_kernel)
{
	struct snapshot_writer file;
	struct snapshot_part part;
	struct snapshot s;
	struct wire w;

	wire_connect(&w, 2);
	wire_plug(&w, from_kernel);
	wire_bring_up(&w, SEVERAL);
	assert_int_equal(set_pairs(&w, 2), VIRTIO_NET_OK);
	both_ways(&w, 1, 100);
	assert_int_equal(snapshot_begin(&file), 0);
	assert_int_equal(snapshot_section(&file, SNAPSHOT_DEVICE, 0), 0);
	if (virtio_save(&w.t.n.dev, &file) < 0)
		fail_msg("%s", err_msg());
	assert_int_equal(snapshot_finish(&file), 0);
	/* The machine goes on. */
	virtio_go_on(&w.t.n.dev);
	both_ways(&w, 1, 200);
	both_ways(&w, 0, 300);
	/* The device is saved once more, and another machine loads its state. */
	snapshot_release(&file);
	assert_int_equal(snapshot_begin(&file), 0);
	assert_int_equal(snapshot_section(&file, SNAPSHOT_DEVICE, 0), 0);
	if (virtio_save(&w.t.n.dev, &file) < 0)
		fail_msg("%s", err_msg());
	assert_int_equal(snapshot_finish(&file), 0);
	w.t.n.dev.ops->reset(&w.t.n.dev);
	wire_unplug(&w);
	wire_plug(&w, to_kernel);
	assert_int_equal(snapshot_open(&s, file.bytes.s, file.bytes.len), 0);
	assert_int_equal(snapshot_find(&s, SNAPSHOT_DEVICE, 0, &part), 0);
	if (virtio_load(&w.t.n.dev, &part) < 0)
		fail_msg("%s", err_msg());
	assert_int_equal(w.t.n.active, 2);
	virtio_go_on(&w.t.n.dev);
	for (unsigned i = 0; i < 5; i++)
		kick(&w.t.g, i);
	both_ways(&w, 1, 400);
	both_ways(&w, 0, 500);
	assert_int_equal(set_pairs(&w, 1), VIRTIO_NET_OK);
	both_ways(&w, 0, 600);
	snapshot_release(&file);
	wire_release(&w);
}

static void snapshots(void **state)
{
	wire_need_root();
	save_and_load(false, false);
}

static void snapshots_of_the_kernel(void **state)
{
	need_vhost();
	save_and_load(true, true);
	save_and_load(true, false);
	save_and_load(false, true);
}

static void kernel_without_pairs_command(void **state)
{
	struct wire w;

	need_vhost();
	wire_connect(&w, 2);
	wire_plug(&w, true);
	wire_bring_up(&w, MERGEABLE | 1ULL << VIRTIO_NET_F_CTRL_VQ);
	assert_true(is_broken(&w.t.g));
	assert_non_null(strstr(w.t.n.dev.broken, "VIRTIO_NET_F_CTRL_VQ without"));
	wire_bring_up(&w, SEVERAL);
	both_ways(&w, 0, 100);
	wire_release(&w);
}

/* Checks that a snapshot is refused whose number of pairs the device does not have. */
static void bad_snapshots(void **state)
{
	const uint16_t bad[] = {0, 3, 0xffff};
	struct wire w;

	wire_need_root();
	wire_connect(&w, 2);
	wire_plug(&w, false);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		uint8_t bytes[sizeof(w.t.n.config) + 2];
		struct snapshot_part p = {bytes, sizeof(bytes), "net"};

		memcpy(bytes, &w.t.n.config, sizeof(w.t.n.config));
		memcpy(bytes + sizeof(w.t.n.config), &bad[i], 2);
		assert_int_equal(w.t.n.dev.ops->load(&w.t.n.dev, &p), -EBADMSG);
		assert_non_null(
			strstr(err_msg(), "pairs of queues: expected a number from 1 to 2"));
		p = (struct snapshot_part){bytes, sizeof(bytes) - 1, "net"};
		assert_int_equal(w.t.n.dev.ops->load(&w.t.n.dev, &p), -EBADMSG);
	}
	/*
	 * A device that no driver had, as in a template, may have another address. All bytes must
	 * be taken, because virtio_load() refuses a section with more.
	 */
	uint8_t bytes[sizeof(w.t.n.config) + 2] = {[sizeof(w.t.n.config)] = 1};
	struct snapshot_part p = {bytes, sizeof(bytes), "net"};
	assert_int_equal(w.t.n.dev.ops->load(&w.t.n.dev, &p), 0);
	assert_int_equal(p.left, 0);
	wire_release(&w);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_pair_without_its_queue),
		cmocka_unit_test(bad_commands),
		cmocka_unit_test(bad_options),
		cmocka_unit_test(bad_snapshots),
		cmocka_unit_test(kernel_interrupts),
		cmocka_unit_test(kernel_without_pairs_command),
		cmocka_unit_test(served_by_the_kernel),
		cmocka_unit_test(served_here),
		cmocka_unit_test(snapshots),
		cmocka_unit_test(snapshots_of_the_kernel),
	};

	/* The argument chooses tests: tests/host/test_vm_net.py runs those with vhost-net. */
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("vm_net_pairs", tests, NULL, NULL);
}
