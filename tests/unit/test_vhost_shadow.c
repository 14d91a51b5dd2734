/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the shadow of a queue, by which a back end serves a device without guest memory. The test
 * is both the driver and the back end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <linux/virtio_config.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "vm/vhost/shadow.h"

#define SIZE 256 /* of the guest's queue */
#define DESC 0x1000
#define AVAIL 0x3000
#define USED 0x4000
#define DATA 0x100000
#define STEP 0x1000 /* distance of the buffers of two requests */
#define INDEX 1

static struct vm_memory memory;
static struct virtq guest;
static struct vhost_shadow *shadow;
static int socks[2];
static uint16_t offered,
	seen; /* how many requests the driver has offered, and the back end has seen */

static int set_up(void **state)
{
	/* Private memory, which no other process can map. */
	const struct vm_memory_options o = {.size = 8 << 20, .mergeable = true};

	offered = seen = 0;
	if (vm_memory_init(&memory, &o) < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, socks) < 0)
		return -1;
	guest = (struct virtq){.desc_at = DESC,
		.avail_at = AVAIL,
		.used_at = USED,
		.size = SIZE,
		.indirect = true};
	shadow = vhost_shadow_new(2, socks[0], false);
	if (!shadow || virtq_enable(&guest, &memory) < 0)
		return -1;
	vhost_shadow_start(shadow, INDEX, &guest);
	return 0;
}

static int tear_down(void **state)
{
	vhost_shadow_free(shadow);
	vm_memory_release(&memory);
	fd_close(&socks[0]);
	fd_close(&socks[1]);
	return 0;
}

static uint8_t *buffer(unsigned i)
{
	return vm_memory_at(&memory, DATA + (uint64_t)i * STEP, STEP);
}

static void put(unsigned i, uint64_t at, uint32_t len, uint16_t flags)
{
	guest.desc[i] = (struct vring_desc){at, len, flags, (uint16_t)(i + 1)};
}

static void offer(uint16_t head)
{
	guest.avail->ring[offered++ % SIZE] = head;
	__atomic_store_n((uint16_t *)&guest.avail->idx, offered, __ATOMIC_SEQ_CST);
}

/* Offers request n: 100 bytes to read and 200 to write, by the descriptors 2 * n and 2 * n + 1. */
static void offer_request(unsigned n)
{
	memset(buffer(n), (int)n + 1, 100);
	memset(buffer(n) + 100, 0, 200);
	put(2 * n, DATA + (uint64_t)n * STEP, 100, VRING_DESC_F_NEXT);
	put(2 * n + 1, DATA + (uint64_t)n * STEP + 100, 200, VRING_DESC_F_WRITE);
	offer((uint16_t)(2 * n));
}

static struct shadow_queue *ring(void)
{
	return &shadow->queues[INDEX];
}

static uint8_t *in_shadow(const struct vring_desc *d)
{
	uint8_t *p = vm_memory_at(&shadow->memory, d->addr, d->len);

	assert_non_null(p);
	return p;
}

/* Takes the next request as the back end. Returns its number in the shadow's ring. */
static uint16_t take(void)
{
	assert_int_not_equal(ring()->avail->idx, seen);
	return ring()->avail->ring[seen++ % SHADOW_DESCRIPTORS];
}

static void answer(uint32_t id, uint32_t written)
{
	struct vring_used *u = ring()->used;

	u->ring[u->idx % SHADOW_DESCRIPTORS] = (struct vring_used_elem){id, written};
	__atomic_store_n((uint16_t *)&u->idx, (uint16_t)(u->idx + 1), __ATOMIC_SEQ_CST);
	eventfd_write(ring()->call, 1);
}

static int forward(void)
{
	return vhost_shadow_forward(shadow, INDEX, &guest, SIZE);
}

static int give_back(void)
{
	return vhost_shadow_return(shadow, INDEX, &guest);
}

static void bytes_go_both_ways(void **state)
{
	struct epoll_event e;
	eventfd_t kicks;

	for (unsigned n = 0; n < 3; n++)
		offer_request(n);
	assert_int_equal(forward(), 0);
	assert_int_equal(eventfd_read(ring()->kick, &kicks), 0);
	uint16_t heads[3];
	for (unsigned n = 0; n < 3; n++) {
		heads[n] = take();
		const struct vring_desc *d = &ring()->desc[heads[n]];
		assert_int_equal(d[0].len, 100);
		assert_int_equal(d[0].flags, VRING_DESC_F_NEXT);
		assert_int_equal(d[0].next, heads[n] + 1);
		assert_int_equal(d[1].len, 200);
		assert_int_equal(d[1].flags, VRING_DESC_F_WRITE);
		for (unsigned i = 0; i < 100; i++)
			assert_int_equal(in_shadow(&d[0])[i], n + 1);
		memset(in_shadow(&d[1]), 0x40 + (int)n, 150);
	}
	assert_int_equal(epoll_wait(shadow->event, &e, 1, 0), 0);
	answer(heads[2], 150);
	answer(heads[0], 1);
	assert_int_equal(epoll_wait(shadow->event, &e, 1, 0), 1);
	assert_int_equal(give_back(), 2);
	assert_int_equal(guest.used->idx, 2);
	assert_int_equal(guest.used->ring[0].id, 4);
	assert_int_equal(guest.used->ring[0].len, 150);
	assert_int_equal(guest.used->ring[1].id, 0);
	assert_int_equal(buffer(2)[249], 0x42);
	assert_int_equal(buffer(2)[250], 0); /* only what was written is copied */
	assert_int_equal(buffer(0)[100], 0x40);
	assert_int_equal(buffer(0)[101], 0);
	assert_int_equal(buffer(1)[100], 0);
	assert_int_equal(ring()->under_way, 1);
}

/* The status of a disk's request is its last byte, which the back end need not count. */
static void whole_answers(void **state)
{
	shadow->whole = true;
	offer_request(0);
	assert_int_equal(forward(), 0);
	const uint16_t head = take();
	in_shadow(&ring()->desc[head + 1])[199] = 1;
	answer(head, 0);
	assert_int_equal(give_back(), 1);
	assert_int_equal(guest.used->ring[0].len, 0);
	assert_int_equal(buffer(0)[299], 1);
}

static void a_full_ring(void **state)
{
	for (unsigned n = 0; n < 100; n++)
		offer_request(n);
	assert_int_equal(forward(), 0);
	assert_int_equal(ring()->under_way, SHADOW_REQUESTS);
	assert_true(ring()->full);
	for (unsigned n = 0; n < SHADOW_REQUESTS; n++)
		answer(take(), 0);
	assert_int_equal(give_back(), SHADOW_REQUESTS);
	assert_int_equal(forward(), 0);
	assert_int_equal(ring()->under_way, 100 - SHADOW_REQUESTS);
	for (unsigned n = SHADOW_REQUESTS; n < 100; n++)
		answer(take(), 0);
	assert_int_equal(give_back(), 100 - SHADOW_REQUESTS);
	assert_int_equal(guest.used->idx, 100);
	assert_int_equal(ring()->under_way, 0);
}

/* Requests that fill the shadow's pages, although the ring has room. */
static void a_full_shadow(void **state)
{
	for (unsigned n = 0; n < 6; n++) {
		put(n, DATA, 4 << 20, VRING_DESC_F_WRITE);
		offer((uint16_t)n);
	}
	assert_int_equal(forward(), 0);
	assert_int_equal(ring()->under_way, 3);
	assert_true(ring()->full);
	assert_int_equal(guest.next_avail, 3);
	answer(take(), 10);
	assert_int_equal(give_back(), 1);
	assert_int_equal(forward(), 0);
	assert_int_equal(ring()->under_way, 3);
	assert_int_equal(guest.next_avail, 4);
}

static void a_request_that_is_too_long(void **state)
{
	for (unsigned n = 0; n < 5; n++)
		put(n, DATA, 4 << 20, VRING_DESC_F_WRITE | (n < 4 ? VRING_DESC_F_NEXT : 0));
	offer(0);
	assert_int_equal(forward(), -EPROTO);
	assert_non_null(strstr(err_msg(), "chain 0 has 20971520 bytes"));
	assert_int_equal(ring()->under_way, 0);
}

static void stopping_gives_requests_back(void **state)
{
	for (unsigned n = 0; n < 5; n++)
		offer_request(n);
	assert_int_equal(forward(), 0);
	answer(take(), 0);
	answer(take(), 0); /* the back end has served two, and stops */
	vhost_shadow_stop(shadow, INDEX, &guest);
	assert_int_equal(guest.used->idx, 2);
	assert_int_equal(guest.next_avail, 2);
	assert_int_equal(ring()->under_way, 0);
	seen = 0;
	assert_int_equal(forward(), 0);
	assert_int_equal(ring()->under_way, 3);
	assert_int_equal(in_shadow(&ring()->desc[take()])[0], 3); /* the third request */
}

static void bad_answers(void **state)
{
	static const struct {
		uint32_t id, written;
	} bad[] = {{0, 201}, {0, UINT32_MAX}, {1, 0}, {2, 0}, {SHADOW_DESCRIPTORS, 0},
		{UINT32_MAX, 0}};

	offer_request(0);
	assert_int_equal(forward(), 0);
	assert_int_equal(take(), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		answer(bad[i].id, bad[i].written);
		assert_int_equal(give_back(), -EPROTO);
		assert_non_null(strstr(err_msg(), "has answered request"));
		assert_int_equal(guest.used->idx, 0);
	}
	answer(0, 200);
	assert_int_equal(give_back(), 1);
	answer(0, 200); /* a second answer */
	assert_int_equal(give_back(), 0);
	assert_int_equal(guest.used->idx, 1);
}

/* A driver that changes a request under way harms only itself. */
static void a_request_changed_under_way(void **state)
{
	offer_request(0);
	assert_int_equal(forward(), 0);
	put(1, UINT64_MAX - 100, 200, VRING_DESC_F_WRITE);
	answer(take(), 200);
	assert_int_equal(give_back(), -EPROTO);
	assert_non_null(strstr(err_msg(), "not in guest memory"));
	vhost_shadow_start(shadow, INDEX, &guest);
	put(1, DATA, 10, VRING_DESC_F_WRITE); /* less room than before */
	seen = 0;
	guest.next_avail = 0;
	assert_int_equal(forward(), 0);
	assert_int_equal(ring()->desc[1].len, 10);
}

/* --- all queues of a device --- */

static struct virtio_device device;
static const bool started[] = {true, true};

/* Makes a device of which queue INDEX is `guest`, and queue 0 another one. */
static void make_device(void)
{
	device = (struct virtio_device){.name = "test",
		.queue_count = 2,
		.status = VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK};
	device.queues[0] = (struct virtq){
		.desc_at = 0x8000, .avail_at = 0x9000, .used_at = 0xa000, .size = 16};
	device.queues[INDEX] = guest;
	assert_int_equal(virtq_enable(&device.queues[0], &memory), 0);
	vhost_shadow_start(shadow, 0, &device.queues[0]);
}

static bool is_readable(void)
{
	struct epoll_event e;

	return epoll_wait(shadow->event, &e, 1, 0) == 1;
}

/* The requests of one queue take all pages, so that a request of the other has to wait for them. */
static void an_answer_makes_room_for_another_queue(void **state)
{
	make_device();
	struct virtq *other = &device.queues[0];

	for (unsigned n = 0; n < 3; n++) {
		put(n, DATA, 4 << 20, VRING_DESC_F_WRITE);
		offer((uint16_t)n);
	}
	assert_int_equal(vhost_shadow_forward(shadow, INDEX, &device.queues[INDEX], SIZE), 0);
	assert_int_equal(ring()->under_way, 3);
	other->desc[0] = (struct vring_desc){DATA, 4 << 20, VRING_DESC_F_WRITE, 0};
	other->avail->ring[0] = 0;
	__atomic_store_n((uint16_t *)&other->avail->idx, 1, __ATOMIC_SEQ_CST);
	assert_int_equal(vhost_shadow_forward(shadow, 0, other, 16), 0);
	assert_int_equal(shadow->queues[0].under_way, 0);
	answer(take(), 10);
	vhost_shadow_event(shadow, &device, started);
	assert_int_equal(device.queues[INDEX].used->idx, 1);
	assert_int_equal(shadow->queues[0].under_way, 1);
	assert_false(is_readable());
}

/* After an error the device answers nothing more, and the event loop must not spin. */
static void answers_for_a_broken_device(void **state)
{
	make_device();
	offer_request(0);
	offer_request(1);
	assert_int_equal(vhost_shadow_forward(shadow, INDEX, &device.queues[INDEX], SIZE), 0);
	answer(take(), 201);
	vhost_shadow_event(shadow, &device, started);
	assert_false(virtio_is_live(&device));
	assert_non_null(strstr(device.broken, "has answered request"));
	answer(take(), 200);
	assert_true(is_readable());
	vhost_shadow_event(shadow, &device, started);
	assert_false(is_readable());
	assert_int_equal(device.queues[INDEX].used->idx, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(bytes_go_both_ways),
		TEST(whole_answers),
		TEST(a_full_ring),
		TEST(a_full_shadow),
		TEST(a_request_that_is_too_long),
		TEST(stopping_gives_requests_back),
		TEST(bad_answers),
		TEST(a_request_changed_under_way),
		TEST(an_answer_makes_room_for_another_queue),
		TEST(answers_for_a_broken_device),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
