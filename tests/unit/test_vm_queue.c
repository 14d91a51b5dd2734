/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests queues and the mmio transport, with drivers that follow virtio 1.2 and drivers that do not.
 * The device is the entropy device. The tests use plain memory and no KVM.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "unit/rig/virtio.h"

struct box {
	struct rig g;
	struct virtio_rng rng;
};

static int setup(void **state)
{
	struct box *b = calloc(1, sizeof(*b));

	rig_memory(&b->g);
	virtio_rng_init(&b->rng, &b->g.memory);
	rig_attach(&b->g, &b->rng.dev);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct box *b = *state;

	rig_release(&b->g);
	free(b);
	return 0;
}

/* Resets the device, which the test may have broken in any way, and checks that it works again. */
static void check_works(struct rig *g, uint64_t features)
{
	bring_up(g, features);
	assert_int_equal(get(g, VIRTIO_MMIO_STATUS), 15);
	memset(at(g, DATA, 64), 0, 64);
	put_desc(desc(g, 0, 3), DATA, 64, WRITE, 0);
	offer(g, 0, 3);
	kick(g, 0);
	assert_false(is_broken(g));
	assert_int_equal(used(g, 0)->idx, 1);
	assert_int_equal(used(g, 0)->ring[0].id, 3);
	assert_int_equal(used(g, 0)->ring[0].len, 64);
	static const char zeros[64];
	assert_memory_not_equal(at(g, DATA, 64), zeros, 64);
	assert_int_equal(get(g, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
	set(g, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
	assert_int_equal(get(g, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
}

static void works(void **state)
{
	struct rig *g = &((struct box *)*state)->g;

	assert_int_equal(get(g, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	assert_int_equal(get(g, VIRTIO_MMIO_VERSION), 2);
	assert_int_equal(get(g, VIRTIO_MMIO_DEVICE_ID), 4);
	assert_int_equal(get(g, VIRTIO_MMIO_QUEUE_NUM_MAX), 256);
	check_works(g, 0);
	check_works(g, EVENT | INDIRECT);
	assert_int_equal(g->interrupts, 2);
	set(g, VIRTIO_MMIO_QUEUE_SEL, 1);
	assert_int_equal(get(g, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
}

static void features(void **state)
{
	struct rig *g = &((struct box *)*state)->g;

	set(g, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	assert_int_equal(get(g, VIRTIO_MMIO_DEVICE_FEATURES), V1 >> 32);
	set(g, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
	assert_int_equal(get(g, VIRTIO_MMIO_DEVICE_FEATURES), 0);
	/* the device must refuse a legacy driver, which does not negotiate VIRTIO_F_VERSION_1 */
	assert_false(negotiate(g, 0));
	assert_false(negotiate(g, V1 | 1));
	assert_false(negotiate(g, V1 | 1ULL << VIRTIO_F_RING_PACKED));
	assert_false(negotiate(g, ~0ULL));
	/*
	 * The device must refuse the status bit DRIVER_OK without FEATURES_OK, and must refuse both
	 * bits if DRIVER is not set.
	 */
	set(g, VIRTIO_MMIO_STATUS, 7);
	assert_int_equal(get(g, VIRTIO_MMIO_STATUS), 3);
	assert_true(negotiate(g, V1));
	/* The driver must not be able to negotiate more features after FEATURES_OK. */
	set(g, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	set(g, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)EVENT);
	assert_int_equal(g->dev->driver_features, V1);
	/*
	 * The driver must not be able to clear single bits of the status, nor to set the bit
	 * NEEDS_RESET, which belongs to the device.
	 */
	set(g, VIRTIO_MMIO_STATUS, 3);
	assert_int_equal(get(g, VIRTIO_MMIO_STATUS), 11);
	set(g, VIRTIO_MMIO_STATUS, 11 | VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_int_equal(get(g, VIRTIO_MMIO_STATUS), 11);
	set(g, VIRTIO_MMIO_STATUS, 11 | 16);
	assert_int_equal(get(g, VIRTIO_MMIO_STATUS), 11);
	set(g, VIRTIO_MMIO_STATUS, 11 | VIRTIO_CONFIG_S_FAILED);
	assert_int_equal(get(g, VIRTIO_MMIO_STATUS), 11 | VIRTIO_CONFIG_S_FAILED);
	check_works(g, 0);
}

/*
 * Checks that a driver cannot change the size and the addresses of a queue after the device is
 * active (CVE-2026-5747).
 */
static void frozen_at_driver_ok(void **state)
{
	struct rig *g = &((struct box *)*state)->g;

	bring_up(g, 0);
	struct virtq before = g->dev->queues[0];
	g->size = 256;
	set_queue(g, 0, 0x200000, 0x210000, 0x220000);
	set(g, VIRTIO_MMIO_QUEUE_READY, 0);
	set_queue(g, 0, UINT64_MAX - 15, UINT64_MAX - 15, UINT64_MAX - 15);
	assert_memory_equal(&before, &g->dev->queues[0], sizeof(before));
	assert_int_equal(get(g, VIRTIO_MMIO_QUEUE_READY), 1);
	/*
	 * If a queue is ready but the status is not yet DRIVER_OK, the driver can change the
	 * queue's size and addresses only after it has cleared QueueReady.
	 */
	assert_true(negotiate(g, V1));
	g->size = RIG_SIZE;
	set_queue(g, 0, DESC(0), AVAIL(0), USED(0));
	set(g, VIRTIO_MMIO_QUEUE_NUM, 256);
	assert_int_equal(g->dev->queues[0].size, RIG_SIZE);
	set(g, VIRTIO_MMIO_QUEUE_READY, 0);
	set(g, VIRTIO_MMIO_QUEUE_NUM, 256);
	assert_int_equal(g->dev->queues[0].size, 256);
	check_works(g, 0);
}

static void expect_refused(struct rig *g, uint64_t d, uint64_t a, uint64_t u, const char *what)
{
	assert_true(negotiate(g, V1));
	set_queue(g, 0, d, a, u);
	assert_true(is_broken(g));
	assert_int_equal(get(g, VIRTIO_MMIO_QUEUE_READY), 0);
	if (!strstr(g->dev->broken, what))
		fail_msg("expected '%s' in '%s'", what, g->dev->broken);
	set(g, VIRTIO_MMIO_STATUS, 15);
	kick(g, 0);
}

static void rings_outside_ram(void **state)
{
	static const uint64_t bad[] = {RIG_RAM, RIG_RAM - 16, UINT64_MAX - 15, VM_HOLE_START,
		VM_HOLE_END, UINT64_C(1) << 63, 0xfffffffffffffff0};
	static const uint32_t sizes[] = {0, 3, 7, 255, 257, 512, 32768, 65536, 65544, UINT32_MAX};
	struct rig *g = &((struct box *)*state)->g;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		expect_refused(g, bad[i], AVAIL(0), USED(0), "descriptor ring at");
		expect_refused(g, DESC(0), bad[i], USED(0), "available ring at");
		expect_refused(g, DESC(0), AVAIL(0), bad[i], "used ring at");
	}
	expect_refused(g, DESC(0) + 8, AVAIL(0), USED(0), "descriptor ring at");
	expect_refused(g, DESC(0), AVAIL(0) + 1, USED(0), "available ring at");
	expect_refused(g, DESC(0), AVAIL(0), USED(0) + 2, "used ring at");
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		assert_true(negotiate(g, V1));
		set(g, VIRTIO_MMIO_QUEUE_NUM, sizes[i]);
		set(g, VIRTIO_MMIO_QUEUE_DESC_LOW, DESC(0));
		set(g, VIRTIO_MMIO_QUEUE_AVAIL_LOW, AVAIL(0));
		set(g, VIRTIO_MMIO_QUEUE_USED_LOW, USED(0));
		set(g, VIRTIO_MMIO_QUEUE_READY, 1);
		assert_true(is_broken(g));
		assert_non_null(strstr(g->dev->broken, "expected a power of two"));
	}
	/* The device must accept a ring that ends exactly at the end of memory. */
	assert_true(negotiate(g, V1));
	set_queue(g, 0, RIG_RAM - 16 * RIG_SIZE, AVAIL(0), USED(0));
	assert_false(is_broken(g));
	assert_true(negotiate(g, V1));
	set_queue(g, 0, DESC(0), AVAIL(0), RIG_RAM - 6 - 8 * RIG_SIZE - 2);
	assert_false(is_broken(g));
	check_works(g, 0);
}

/*
 * Offers the descriptor chain 0, which the caller has made invalid. Checks that the device stops
 * with an error that contains `what`, and works again after a reset.
 */
static void expect_broken(struct rig *g, const char *what)
{
	offer(g, 0, 0);
	kick(g, 0);
	if (!is_broken(g) || !strstr(g->dev->broken, what))
		fail_msg("expected '%s', found '%s'", what, g->dev->broken);
	assert_int_equal(used(g, 0)->idx, 0);
	assert_int_equal(get(g, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	/* Checks that the device, which is broken now, ignores kicks until it is reset. */
	unsigned long times = g->dev->resets_needed;
	kick(g, 0);
	assert_int_equal(g->dev->resets_needed, times);
	check_works(g, 0);
}

static void broken_chains(void **state)
{
	struct rig *g = &((struct box *)*state)->g;

	bring_up(g, 0);
	/*
	 * sets the available index RIG_SIZE + 1 entries ahead of the device, which is more than the
	 * ring has
	 */
	avail(g, 0)->idx = RIG_SIZE;
	expect_broken(g, "available index is 9 ahead in a queue of 8");
	bring_up(g, 0);
	avail(g, 0)->ring[0] = RIG_SIZE;
	avail(g, 0)->idx = 1;
	kick(g, 0);
	assert_non_null(strstr(g->dev->broken, "chain 8 in a queue of 8"));
	bring_up(g, 0);
	put_desc(desc(g, 0, 0), DATA, 8, WRITE | NEXT, RIG_SIZE);
	expect_broken(g, "descriptor 8 of chain 0: there are 8");
	bring_up(g, 0);
	put_desc(desc(g, 0, 0), DATA, 8, WRITE | NEXT, 0);
	expect_broken(g, "loops");
	bring_up(g, 0);
	for (unsigned i = 0; i < RIG_SIZE; i++) /* makes a loop of buffers without length */
		put_desc(desc(g, 0, i), 0, 0, NEXT, (i + 1) % RIG_SIZE);
	expect_broken(g, "loops");
	bring_up(g, 0);
	put_desc(desc(g, 0, 0), DATA, 8, WRITE | NEXT, 1);
	put_desc(desc(g, 0, 1), DATA, 8, 0, 0);
	expect_broken(g, "a buffer to read after one to write");
	static const struct {
		uint64_t addr;
		uint32_t len;
	} outside[] = {{RIG_RAM, 1}, {RIG_RAM - 1, 2}, {0, (uint32_t)RIG_RAM + 1}, {UINT64_MAX, 2},
		{UINT64_MAX - 4095, 4097}, {4096, UINT32_MAX}, {VM_HOLE_END, 1}};
	for (size_t i = 0; i < ARRAY_SIZE(outside); i++) {
		bring_up(g, 0);
		put_desc(desc(g, 0, 0), outside[i].addr, outside[i].len, WRITE, 0);
		expect_broken(g, "not in guest memory");
	}
	bring_up(g, 0);
	/* The device must accept a buffer that ends exactly at the end of memory. */
	put_desc(desc(g, 0, 0), RIG_RAM - 16, 16, WRITE, 0);
	offer(g, 0, 0);
	kick(g, 0);
	assert_int_equal(used(g, 0)->ring[0].len, 16);
}

static void indirect(void **state)
{
	struct rig *g = &((struct box *)*state)->g;
	struct vring_desc *t = at(g, 0x80000, 1100 * sizeof(*t));

	bring_up(g, 0);
	put_desc(desc(g, 0, 0), 0x80000, 16, TABLE, 0);
	expect_broken(g, "not negotiated");
	static const uint32_t lens[] = {0, 1, 15, 17};
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		bring_up(g, INDIRECT);
		put_desc(desc(g, 0, 0), 0x80000, lens[i], TABLE, 0);
		expect_broken(g, "an indirect table of");
	}
	bring_up(g, INDIRECT);
	put_desc(desc(g, 0, 0), 0x80000, 16, TABLE | NEXT, 1);
	expect_broken(g, "goes on after an indirect table");
	bring_up(g, INDIRECT);
	put_desc(desc(g, 0, 0), RIG_RAM - 16, 32, TABLE, 0);
	expect_broken(g, "table is not in guest memory");
	bring_up(g, INDIRECT);
	put_desc(&t[0], 0x80000, 16, TABLE, 0);
	put_desc(desc(g, 0, 0), 0x80000, 16, TABLE, 0);
	expect_broken(g, "an indirect table in an indirect table");
	bring_up(g, INDIRECT);
	for (unsigned i = 0; i < 1100; i++)
		put_desc(&t[i], DATA + i, 1, WRITE | NEXT, i + 1);
	put_desc(desc(g, 0, 0), 0x80000, 1100 * 16, TABLE, 0);
	expect_broken(g, "longer than 1024");
	/*
	 * A table that is short enough by itself is too long behind buffers of the queue's own
	 * table.
	 */
	bring_up(g, INDIRECT);
	put_desc(desc(g, 0, 0), DATA, 8, WRITE | NEXT, 1);
	put_desc(desc(g, 0, 1), 0x80000, 1024 * 16, TABLE, 0);
	put_desc(&t[1023], DATA, 1, WRITE, 0);
	expect_broken(g, "longer than 1024 buffers");
	put_desc(&t[1023], DATA, 1, WRITE | NEXT, 1024);
	/* The table ends before the descriptor to which its last one leads. */
	bring_up(g, INDIRECT);
	put_desc(&t[0], DATA, 8, WRITE | NEXT, 2);
	put_desc(desc(g, 0, 0), 0x80000, 2 * 16, TABLE, 0);
	expect_broken(g, "descriptor 2 of chain 0: there are 2");
	put_desc(&t[0], DATA, 1, WRITE | NEXT, 1);
	/*
	 * A descriptor chain of the longest allowed length must work, also in an indirect table
	 * that is not aligned.
	 */
	bring_up(g, INDIRECT);
	memmove((char *)t + 1, t, 1099 * sizeof(*t));
	put_desc(desc(g, 0, 0), 0x80001, 1024 * 16, TABLE, 0);
	struct vring_desc last = {DATA + 1023, 1, WRITE, 0};
	memcpy((char *)t + 1 + 1023 * 16, &last, 16);
	offer(g, 0, 0);
	kick(g, 0);
	assert_false(is_broken(g));
	assert_int_equal(used(g, 0)->ring[0].len, 1024);
	check_works(g, 0);
}

static void interrupts_only_when_wanted(void **state)
{
	struct rig *g = &((struct box *)*state)->g;

	bring_up(g, 0);
	put_desc(desc(g, 0, 0), DATA, 8, WRITE, 0);
	avail(g, 0)->flags = VRING_AVAIL_F_NO_INTERRUPT;
	unsigned before = g->interrupts;
	offer(g, 0, 0);
	kick(g, 0);
	assert_int_equal(used(g, 0)->idx, 1);
	assert_int_equal(g->interrupts, before);
	avail(g, 0)->flags = 0;
	offer(g, 0, 0);
	kick(g, 0);
	assert_int_equal(g->interrupts, before + 1);
	bring_up(g, EVENT);
	before = g->interrupts;
	put_desc(desc(g, 0, 0), DATA, 8, WRITE, 0);
	/*
	 * The driver sets used_event, by which it asks for an interrupt only after the third
	 * request.
	 */
	avail(g, 0)->ring[RIG_SIZE] = 2;
	for (unsigned i = 0; i < 5; i++) {
		offer(g, 0, 0);
		kick(g, 0);
		assert_int_equal(g->interrupts, before + (i >= 2));
		/*
		 * The device must set avail_event, by which it asks for a kick at the next request.
		 */
		assert_memory_equal(&used(g, 0)->ring[RIG_SIZE], &(uint16_t){(uint16_t)(i + 1)}, 2);
	}
}

/*
 * Checks that one turn of the event loop handles a bounded number of requests even if the driver
 * has filled the whole ring, also when the 16-bit indices wrap around.
 */
static void long_runs(void **state)
{
	struct rig *g = &((struct box *)*state)->g;

	bring_up(g, 0);
	for (unsigned i = 0; i < RIG_SIZE; i++)
		put_desc(desc(g, 0, i), DATA, 8, WRITE, 0);
	for (unsigned i = 0; i < RIG_SIZE; i++)
		offer(g, 0, i);
	assert_int_equal(virtio_kick(g->dev, 0), 1);
	assert_int_equal(used(g, 0)->idx, RIG_SIZE);
	assert_int_equal(virtio_kick(g->dev, 0), 0);
	for (unsigned i = RIG_SIZE; i < 70000; i++) {
		offer(g, 0, i % RIG_SIZE);
		assert_int_equal(virtio_kick(g->dev, 0), 0);
	}
	assert_int_equal(used(g, 0)->idx, 70000 % 65536);
	assert_false(is_broken(g));
	assert_int_equal(virtio_kick(g->dev, 1), 0);
	assert_int_equal(virtio_kick(g->dev, UINT32_MAX), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(works),
		T(features),
		T(frozen_at_driver_ok),
		T(rings_outside_ram),
		T(broken_chains),
		T(indirect),
		T(interrupts_only_when_wanted),
		T(long_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
