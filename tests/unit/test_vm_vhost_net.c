/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the network device of a vhost-user back end: which part of the device the back end provides
 * and which part caisson does, and what happens if the back end lacks something, misbehaves or
 * ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <linux/virtio_net.h>
#include <stdio.h>
#include <sys/socket.h>

#include "unit/rig/descriptors.h"
#include "unit/rig/vhost_back.h"
#include "unit/rig/vhost_device.h"
#include "vm/virtio/vhost_net.h"

#define BIT(n) (UINT64_C(1) << (n))
#define MAC BIT(VIRTIO_NET_F_MAC)
#define STATUS BIT(VIRTIO_NET_F_STATUS)
#define MTU BIT(VIRTIO_NET_F_MTU)
#define MERGE BIT(VIRTIO_NET_F_MRG_RXBUF)

#define PLAIN (BACK_V1 | BACK_PROTOCOL_BIT)
#define PROTOCOL (BACK_MQ | BACK_ACK)

struct device {
	struct back b;
	struct wired w;
	struct virtio_net_remote n;
	int sock, result;
	unsigned before;
};

static void begin(struct device *d, struct back b, uint16_t mtu)
{
	*d = (struct device){.b = b, .before = descriptors_below(1024)};
	d->sock = back_start(&d->b);
	rig_memory(&d->w.g);
	const struct virtio_net_remote_options o = {.sock = d->sock,
		.peer = "annotation X",
		.mac = {2, 0x11, 0x22, 0x33, 0x44, 0x55},
		.mtu = mtu};
	d->result = virtio_net_remote_init(&d->n, &d->w.g.memory, &o);
	if (d->result >= 0)
		wired_attach(&d->w, &d->n.vhost);
}

static void end(struct device *d)
{
	if (d->result < 0)
		vm_memory_release(&d->w.g.memory);
	else
		wired_release(&d->w);
	back_end(&d->b, &d->sock);
	assert_int_equal(descriptors_below(1024), d->before);
}

static uint64_t offered(struct device *d)
{
	uint64_t features;

	set(&d->w.g, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	features = (uint64_t)get(&d->w.g, VIRTIO_MMIO_DEVICE_FEATURES) << 32;
	set(&d->w.g, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	return features | get(&d->w.g, VIRTIO_MMIO_DEVICE_FEATURES);
}

static void read_config(struct device *d, uint8_t to[12])
{
	for (unsigned i = 0; i < 12; i += 4)
		vm_bus_read(&d->w.g.bus, VIRTIO_MMIO_CONFIG + i, to + i, 4);
}

/*
 * Tests two back ends: one like passt, with hardly any feature and no configuration, and one like
 * DPDK, with one pair of queues.
 */
static void features_of_both_sides(void **state)
{
	static const uint8_t space[12] = {
		2, 0x11, 0x22, 0x33, 0x44, 0x55, VIRTIO_NET_S_LINK_UP, 0, 0, 0, 0x78, 0x05};
	struct device d;
	uint8_t got[12];

	begin(&d, (struct back){.features = PLAIN | MERGE, .protocol = PROTOCOL, .queues = 1},
		1400);
	if (d.result < 0)
		fail_msg("%s", err_msg());
	assert_int_equal(get(&d.w.g, VIRTIO_MMIO_DEVICE_ID), 1);
	assert_int_equal(offered(&d), BACK_V1 | MERGE | MAC | STATUS | MTU);
	read_config(&d, got);
	assert_memory_equal(got, space, sizeof(space));
	bring_up(&d.w.g, MERGE | MAC | STATUS | MTU);
	assert_int_equal(get(&d.w.g, VIRTIO_MMIO_STATUS), 15);
	/*
	 * caisson must tell the back end only those negotiated features that the back end has
	 * offered.
	 */
	assert_int_equal(d.b.set_features, PLAIN | MERGE);
	assert_int_equal(d.b.seen[VHOST_USER_GET_CONFIG], 0);
	assert_int_equal(d.b.fds[VHOST_USER_SET_VRING_KICK], 2);
	assert_int_equal(d.b.fds[VHOST_USER_SET_VRING_CALL], 2);
	assert_int_equal(d.b.seen[VHOST_USER_SET_VRING_ENABLE], 2);
	/* The driver must not be able to change the device's MAC address. */
	vm_bus_write(&d.w.g.bus, VIRTIO_MMIO_CONFIG, "xxxx", 4);
	read_config(&d, got);
	assert_memory_equal(got, space, sizeof(space));
	assert_int_equal(d.b.seen[VHOST_USER_SET_CONFIG], 0);
	set(&d.w.g, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(d.b.seen[VHOST_USER_GET_VRING_BASE], 2);
	end(&d);
}

/*
 * Tests a back end that offers every feature. The guest must get the features of a network device
 * without a control queue.
 */
static void features_that_the_back_end_lacks(void **state)
{
	struct device d;
	uint64_t all;

	begin(&d, (struct back){.features = ~UINT64_C(0), .protocol = PROTOCOL, .queues = 8}, 0);
	if (d.result < 0)
		fail_msg("%s", err_msg());
	all = offered(&d);
	assert_int_equal(all, BACK_V1 | BACK_RINGS | MAC | STATUS | MERGE | 0x7f83);
	bring_up(&d.w.g, all & ~BACK_V1);
	/*
	 * The back end has offered MAC and STATUS, so caisson must tell it that these features are
	 * negotiated too.
	 */
	assert_int_equal(d.b.set_features, all | BACK_PROTOCOL_BIT);
	/* the device must refuse the feature MTU, because caisson was given no MTU to announce */
	assert_false(negotiate(&d.w.g, V1 | MTU));
	end(&d);
}

static void refused(struct back b, const char *text)
{
	struct device d;

	begin(&d, b, 1500);
	assert_true(d.result < 0);
	if (!strstr(err_msg(), text) || !str_starts(err_msg(), "net: annotation X: "))
		fail_msg("expected '%s', got: %s", text, err_msg());
	end(&d);
}

static void broken_at_start(uint32_t request, enum misdeed how, const char *text)
{
	struct device d;

	begin(&d,
		(struct back){.features = PLAIN,
			.protocol = PROTOCOL,
			.queues = 1,
			.at = request,
			.how = how},
		1500);
	assert_int_equal(d.result, 0);
	bring_up(&d.w.g, MAC);
	assert_true(is_broken(&d.w.g));
	assert_true(wired_serve_event(&d.w, PATIENCE_MS));
	assert_int_equal(d.w.lost, 1);
	if (!strstr(d.w.why, text) || !str_starts(d.w.why, "annotation X: "))
		fail_msg("expected '%s', got: %s", text, d.w.why);
	end(&d);
}

static void misbehaving_back_end(void **state)
{
	struct back b = {.features = BACK_PROTOCOL_BIT, .protocol = PROTOCOL, .queues = 1};

	refused(b, "VIRTIO_F_VERSION_1");
	b.features = PLAIN;
	b.queues = 0;
	refused(b, "it has 0 pairs of queues: the device needs 1");
	b.queues = 1;
	b.at = VHOST_USER_GET_FEATURES;
	b.how = WRONG_VERSION;
	refused(b, "with flags 0x6:");
	b.how = HUGE_PAYLOAD;
	refused(b, "4294967295 bytes: expected");
	b.at = VHOST_USER_GET_QUEUE_NUM;
	b.how = WITH_FDS;
	refused(b, "descriptors in the answer to GET_QUEUE_NUM");
	b.how = HALF_AN_ANSWER;
	refused(b, "hung up instead of answering GET_QUEUE_NUM");
	broken_at_start(VHOST_USER_SET_FEATURES, REFUSES, "refuses SET_FEATURES");
	broken_at_start(VHOST_USER_SET_MEM_TABLE, HANGS_UP, "hung up");
	broken_at_start(VHOST_USER_SET_VRING_ENABLE, WRONG_REQUEST, "is to request 19");
}

static void back_end_hangs_up(void **state)
{
	struct device d;

	begin(&d, (struct back){.features = PLAIN, .protocol = PROTOCOL, .queues = 1}, 1500);
	assert_int_equal(d.result, 0);
	bring_up(&d.w.g, MAC | STATUS);
	assert_false(wired_serve_event(&d.w, 0));
	shutdown(d.b.sock, SHUT_RDWR);
	assert_true(wired_serve_event(&d.w, PATIENCE_MS));
	assert_string_equal(d.w.why, "annotation X: it has hung up");
	assert_true(is_broken(&d.w.g));
	end(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(features_of_both_sides),
		cmocka_unit_test(features_that_the_back_end_lacks),
		cmocka_unit_test(misbehaving_back_end),
		cmocka_unit_test(back_end_hangs_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
