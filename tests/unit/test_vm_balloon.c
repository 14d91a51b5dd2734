/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the memory balloon: pages that the guest gives, takes back and reports, with good and bad
 * drivers. The tests run without KVM.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <sys/stat.h>

#include "unit/rig/virtio.h"
#include "vm/virtio/balloon.h"

#define PAGE VIRTIO_BALLOON_PAGE
#define INFLATE 0
#define DEFLATE 1
#define REPORT 2
/* number of the first page of guest memory behind the rings and the tests' requests */
#define FIRST 0x200
#define LAST (RIG_RAM / PAGE - 1)

struct bal {
	struct rig g;
	struct virtio_balloon b;
};

static void begin(struct bal *t, bool private)
{
	t->g = (struct rig){.size = RIG_SIZE};
	assert_int_equal(vm_memory_init(&t->g.memory, &(struct vm_memory_options){.size = RIG_RAM,
							      .mergeable = private}),
		0);
	virtio_balloon_init(&t->b, &t->g.memory);
	rig_attach(&t->g, &t->b.dev);
	bring_up(&t->g, t->b.dev.features);
}

/*
 * Fills each page from FIRST to the end of memory with a value of its own, by which the test can
 * tell later whether the guest has given the page to the balloon.
 */
static void fill(struct bal *t)
{
	for (uint64_t page = FIRST; page <= LAST; page++)
		memset(at(&t->g, page * PAGE, PAGE), (int)(page | 1) & 0xff, PAGE);
}

static bool is_kept(struct bal *t, uint64_t page)
{
	const uint8_t *p = at(&t->g, page * PAGE, PAGE);
	uint8_t want = (uint8_t)(page | 1);

	assert_int_equal(p[0], p[PAGE - 1]);
	if (p[0] != 0)
		assert_int_equal(p[0], want);
	return p[0] != 0;
}

static void ask(struct bal *t, unsigned q, const uint32_t *numbers, size_t count)
{
	uint32_t len = (uint32_t)(count * sizeof(numbers[0]));

	memcpy(at(&t->g, DATA, len), numbers, len);
	put_desc(desc(&t->g, q, 0), DATA, len, 0, 0);
	offer(&t->g, q, 0);
	kick(&t->g, q);
}

static uint64_t resident(struct bal *t)
{
	struct stat st;

	assert_int_equal(fstat(t->g.memory.fd, &st), 0);
	return (uint64_t)st.st_blocks * 512 / PAGE;
}

static void inflates(void **state)
{
	/*
	 * The device must accept pages in rising and in falling order, single pages, and a page
	 * that comes twice.
	 */
	static const uint32_t numbers[] = {FIRST + 1, FIRST + 2, FIRST + 3, FIRST + 9, FIRST + 8,
		FIRST + 7, FIRST + 20, LAST, FIRST + 20};
	struct bal t;

	begin(&t, false);
	fill(&t);
	memset(at(&t.g, DATA, PAGE), 1, PAGE);
	uint64_t before = resident(&t);
	ask(&t, INFLATE, numbers, ARRAY_SIZE(numbers));
	assert_false(is_broken(&t.g));
	assert_int_equal(used(&t.g, INFLATE)->idx, 1);
	assert_int_equal(used(&t.g, INFLATE)->ring[0].len, 0);
	assert_int_equal(resident(&t), before - 8);
	for (uint64_t page = FIRST; page <= LAST; page++) {
		bool given = false;

		for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
			given |= numbers[i] == page;
		assert_int_equal(is_kept(&t, page), !given);
	}
	assert_true(t.g.interrupts > 0);
	/*
	 * The device must answer a deflate request, by which the guest takes a page back, and must
	 * not change the page.
	 */
	memset(at(&t.g, (FIRST + 1) * PAGE, PAGE), (FIRST + 1) & 0xff, PAGE);
	ask(&t, DEFLATE, numbers, ARRAY_SIZE(numbers));
	assert_int_equal(used(&t.g, DEFLATE)->idx, 1);
	assert_true(is_kept(&t, FIRST + 1));
	rig_release(&t.g);
}

static void expect_broken(struct bal *t, const char *text)
{
	assert_true(is_broken(&t->g));
	if (!strstr(t->b.dev.broken, text) || !str_starts(t->b.dev.broken, "balloon: queue "))
		fail_msg("expected '%s', got: %s", text, t->b.dev.broken);
	bring_up(&t->g, t->b.dev.features);
}

static void bad_numbers(void **state)
{
	static const uint32_t cases[][3] = {{UINT32_MAX, 0, 0}, {LAST + 1, FIRST, FIRST},
		{FIRST, FIRST + 1, 0xfffff}, {LAST - 1, LAST, LAST + 1},
		{FIRST, UINT32_MAX, UINT32_MAX - 1}};
	struct bal t;

	begin(&t, false);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		ask(&t, INFLATE, cases[i], 3);
		expect_broken(&t, "are not in guest memory");
	}
	for (unsigned q = INFLATE; q <= DEFLATE; q++) {
		put_desc(desc(&t.g, q, 0), DATA, 6, 0, 0);
		offer(&t.g, q, 0);
		kick(&t.g, q);
		expect_broken(&t, "6 bytes of page numbers");
		put_desc(desc(&t.g, q, 0), DATA, 4, WRITE, 0);
		offer(&t.g, q, 0);
		kick(&t.g, q);
		expect_broken(&t, "nothing to write to");
	}
	/*
	 * The device must answer an inflate request without page numbers, which gives it no page.
	 */
	put_desc(desc(&t.g, INFLATE, 0), DATA, 0, 0, 0);
	offer(&t.g, INFLATE, 0);
	kick(&t.g, INFLATE);
	assert_int_equal(used(&t.g, INFLATE)->idx, 1);
	rig_release(&t.g);
}

/*
 * Checks very long requests: the device must handle each of them in many short turns of the event
 * loop, and a reset must end it.
 */
static void flood(void **state)
{
	const uint32_t count = 5 * VIRTIO_BALLOON_TURN + 100;
	struct bal t;

	begin(&t, false);
	fill(&t);
	uint32_t *numbers = at(&t.g, 0x200000, count * 4UL);
	for (uint32_t i = 0; i < count; i++)
		numbers[i] = LAST - i % 2 * 7;
	put_desc(desc(&t.g, INFLATE, 0), 0x200000, count * 4, 0, 0);
	offer(&t.g, INFLATE, 0);
	for (unsigned turn = 1; turn <= 5; turn++) {
		assert_int_equal(virtio_kick(&t.b.dev, INFLATE), 1);
		assert_int_equal(t.b.discarded, turn * VIRTIO_BALLOON_TURN);
		assert_int_equal(used(&t.g, INFLATE)->idx, 0);
	}
	/* The device must serve its other queues between two turns of a long inflate request. */
	ask(&t, DEFLATE, (uint32_t[]){LAST}, 1);
	assert_int_equal(used(&t.g, DEFLATE)->idx, 1);
	assert_int_equal(virtio_kick(&t.b.dev, INFLATE), 0);
	assert_int_equal(used(&t.g, INFLATE)->idx, 1);
	assert_int_equal(t.b.discarded, count);
	assert_false(is_kept(&t, LAST));
	/* A reset in the middle of a long request must end it. */
	offer(&t.g, INFLATE, 0);
	assert_int_equal(virtio_kick(&t.b.dev, INFLATE), 1);
	bring_up(&t.g, t.b.dev.features);
	assert_int_equal(virtio_kick(&t.b.dev, INFLATE), 0);
	assert_int_equal(used(&t.g, INFLATE)->idx, 0);
	assert_int_equal(t.b.discarded, count + VIRTIO_BALLOON_TURN);
	/*
	 * The guest never stops sending small requests. In one turn of the event loop the device
	 * must handle only as many requests as the queue has entries.
	 */
	for (unsigned i = 0; i < RIG_SIZE; i++) {
		put_desc(desc(&t.g, INFLATE, i), DATA, 4, 0, 0);
		offer(&t.g, INFLATE, i);
	}
	*(uint32_t *)at(&t.g, DATA, 4) = LAST;
	assert_int_equal(virtio_kick(&t.b.dev, INFLATE), 1);
	assert_int_equal(used(&t.g, INFLATE)->idx, RIG_SIZE);
	rig_release(&t.g);
}

static void reports(void **state)
{
	struct bal t;

	for (int private = 0; private < 2; private ++) {
		begin(&t, private);
		fill(&t);
		put_desc(desc(&t.g, REPORT, 0), FIRST * PAGE, 16 * PAGE, WRITE | NEXT, 1);
		/*
		 * If a range of reported pages begins or ends inside a page, the device must give
		 * only the whole pages of the range back to the host.
		 */
		put_desc(desc(&t.g, REPORT, 1), (FIRST + 20) * PAGE + 1, 3 * PAGE, WRITE | NEXT, 2);
		put_desc(desc(&t.g, REPORT, 2), (FIRST + 30) * PAGE, PAGE - 1, WRITE | NEXT, 3);
		put_desc(desc(&t.g, REPORT, 3), (FIRST + 40) * PAGE + 8, 8, WRITE | NEXT, 4);
		put_desc(desc(&t.g, REPORT, 4), LAST * PAGE, PAGE, WRITE, 0);
		offer(&t.g, REPORT, 0);
		kick(&t.g, REPORT);
		assert_false(is_broken(&t.g));
		assert_int_equal(used(&t.g, REPORT)->idx, 1);
		assert_int_equal(t.b.discarded, 16 + 2 + 1);
		for (uint64_t page = FIRST; page <= LAST; page++)
			assert_int_equal(
				is_kept(&t, page), !(page < FIRST + 16 || page == FIRST + 21 ||
							   page == FIRST + 22 || page == LAST));
		put_desc(desc(&t.g, REPORT, 0), FIRST * PAGE, PAGE, 0, 0);
		offer(&t.g, REPORT, 0);
		kick(&t.g, REPORT);
		expect_broken(&t, "a buffer to read");
		put_desc(desc(&t.g, REPORT, 0), LAST * PAGE, 2 * PAGE, WRITE, 0);
		offer(&t.g, REPORT, 0);
		kick(&t.g, REPORT);
		expect_broken(&t, "not in guest memory");
		rig_release(&t.g);
	}
}

static void target(void **state)
{
	struct bal t;
	uint32_t v;

	begin(&t, false);
	assert_int_equal(get(&t.g, VIRTIO_MMIO_CONFIG), 0);
	uint32_t generation = get(&t.g, VIRTIO_MMIO_CONFIG_GENERATION);
	virtio_balloon_set_target(&t.b, 300);
	assert_int_equal(get(&t.g, VIRTIO_MMIO_CONFIG), 300);
	assert_int_equal(t.g.interrupts, 1);
	assert_int_equal(get(&t.g, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	assert_int_not_equal(get(&t.g, VIRTIO_MMIO_CONFIG_GENERATION), generation);
	virtio_balloon_set_target(&t.b, 300);
	assert_int_equal(t.g.interrupts, 1);
	/*
	 * The driver must be able to write the number of pages that it has given (the field
	 * `actual`), and nothing else of the configuration.
	 */
	v = 299;
	vm_bus_write(&t.g.bus, VIRTIO_MMIO_CONFIG + 4, &v, 4);
	assert_int_equal(virtio_balloon_actual(&t.b), 299);
	for (uint64_t offset = 0; offset < 64; offset++)
		for (unsigned width = 1; width <= 8; width *= 2)
			if (offset != 4 || width != 4)
				vm_bus_write(&t.g.bus, VIRTIO_MMIO_CONFIG + offset,
					"\xff\xff\xff\xff\xff\xff\xff", width);
	assert_int_equal(get(&t.g, VIRTIO_MMIO_CONFIG), 300);
	assert_int_equal(virtio_balloon_actual(&t.b), 299);
	assert_int_equal(get(&t.g, VIRTIO_MMIO_CONFIG + 8), 0);
	/*
	 * A device that has no driver must raise no interrupt when the host changes the target,
	 * because a driver reads the target when it starts.
	 */
	set(&t.g, VIRTIO_MMIO_STATUS, 0);
	virtio_balloon_set_target(&t.b, 0);
	assert_int_equal(t.g.interrupts, 1);
	assert_int_equal(virtio_balloon_actual(&t.b), 0);
	rig_release(&t.g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(inflates),
		cmocka_unit_test(bad_numbers),
		cmocka_unit_test(flood),
		cmocka_unit_test(reports),
		cmocka_unit_test(target),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
