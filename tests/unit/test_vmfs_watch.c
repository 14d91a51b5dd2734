/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests when the virtio-fs server asks the guest for kicks, and when it serves and signals FORGET
 * requests (vm/vhost/back_watch.h).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "unit/rig/child.h"
#include "unit/rig/vmfs_front.h"

/* offsets in the guest's memory: rings of the queue for FORGET requests, and such a request */
#define FORGETS_DESC 0x10000
#define FORGETS_AVAIL 0x11000
#define FORGETS_USED 0x12000
#define FORGET_IN 0x13000
#define LONG_US 4000000
#define TRIES 1000

static struct front f;
static int forgets_kick, forgets_call;

static uint16_t load(const void *at)
{
	return __atomic_load_n((const uint16_t *)at, __ATOMIC_SEQ_CST);
}

/* Returns the index in avail_event, at which the server wants a kick. */
static uint16_t wants_kick_at(unsigned used)
{
	const struct vring_used *u = (void *)(f.ram + used);

	return load(&u->ring[QUEUE]);
}

static void start_queues(void)
{
	front_set(&f, 2, UINT64_C(1) << 32 | 1U << 30 | 1U << 29 | 1U << 28);
	front_set_memory(&f, GUEST, MEMORY, USER, 0);
	front_set_vring(&f, 8, 0, QUEUE);
	front_set_vring(&f, 8, 1, QUEUE);
	front_set_vring(&f, 10, 0, 0);
	front_set_vring(&f, 10, 1, 0);
	front_set_addr(&f, 0, USER + FORGETS_DESC, USER + FORGETS_AVAIL, USER + FORGETS_USED);
	front_set_addr(&f, 1, USER, USER + AVAIL, USER + USED);
	forgets_kick = eventfd(0, EFD_CLOEXEC);
	forgets_call = eventfd(0, EFD_CLOEXEC);
	front_set_fd(&f, 13, 0, forgets_call);
	front_set_fd(&f, 13, 1, f.call);
	front_set_fd(&f, 12, 0, forgets_kick);
	front_set_fd(&f, 12, 1, f.kick);
	front_set_vring(&f, 18, 0, 1);
	front_set_vring(&f, 18, 1, 1);
}

static void begin(uint32_t watch_us)
{
	front_begin_watching(&f, watch_us);
	start_queues();
	front_fuse_init(&f);
}

static void end(void)
{
	CHECK(front_end(&f) == 0);
	close(forgets_kick);
	close(forgets_call);
}

/* Puts FORGET request number n (from 0) into its queue, without a kick. */
static void put_forget(uint16_t n, uint64_t node)
{
	struct vring_desc *d = (void *)(f.ram + FORGETS_DESC);
	struct vring_avail *a = (void *)(f.ram + FORGETS_AVAIL);
	const struct {
		struct fuse_in_header h;
		struct fuse_forget_in in;
	} request = {{.len = sizeof(request), .opcode = FUSE_FORGET, .nodeid = node}, {1}};

	memcpy(f.ram + FORGET_IN, &request, sizeof(request));
	d[0] = (struct vring_desc){GUEST + FORGET_IN, sizeof(request), 0, 0};
	a->ring[n % QUEUE] = 0;
	a->ring[QUEUE] = n;
	__atomic_store_n(&a->idx, (uint16_t)(n + 1), __ATOMIC_SEQ_CST);
}

static uint16_t forgotten(void)
{
	return load(&((const struct vring_used *)(f.ram + FORGETS_USED))->idx);
}

/*
 * The server must serve a FORGET for which the guest has not kicked, before it waits, and must
 * interrupt the guest for it, although not at once.
 */
static void run_late_forgets(void)
{
	struct pollfd p = {.fd = forgets_call, .events = POLLIN};
	char path[128];

	begin(0);
	snprintf(path, sizeof(path), "%s/a", f.dir);
	close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
	CHECK(front_name(&f, FUSE_LOOKUP, 1, "a") == 0);
	uint64_t node = front_entry(&f);
	p.fd = forgets_call;
	/* Takes the interrupts that the server has raised because it has got the descriptor. */
	eventfd_t n;
	(void)eventfd_read(forgets_call, &n);

	put_forget(0, node);
	CHECK(front_name(&f, FUSE_LOOKUP, 1, "none") == -ENOENT);
	CHECK(poll(&p, 1, 20000) == 1 && forgotten() == 1);
	CHECK(eventfd_read(forgets_call, &n) == 0);
	struct fuse_getattr_in in = {0};
	CHECK(front_fuse(&f, FUSE_GETATTR, node, &in, sizeof(in), NULL, 0) == -ESTALE);
	/*
	 * When nothing has happened for a while, the server wants a kick for the very next FORGET.
	 */
	for (int i = 0; wants_kick_at(FORGETS_USED) != 1 && i < TRIES; i++)
		usleep(20000);
	CHECK(wants_kick_at(FORGETS_USED) == 1);
	put_forget(1, node);
	CHECK(eventfd_write(forgets_kick, 1) == 0 && poll(&p, 1, 20000) == 1);
	CHECK(forgotten() == 2);
	end();
}

/*
 * When the queue for FORGET stops, the server must have interrupted the guest for each FORGET that
 * it has served.
 */
static void run_stopped(void)
{
	struct pollfd p = {.events = POLLIN};
	eventfd_t n;

	begin(0);
	p.fd = forgets_call;
	(void)eventfd_read(forgets_call, &n);
	put_forget(0, 2);
	CHECK(front_name(&f, FUSE_LOOKUP, 1, "none") == -ENOENT);
	usleep(2000);
	uint64_t served = front_ask(&f, 11, 0) >> 32;
	CHECK(served == forgotten());
	CHECK(poll(&p, 1, 0) == (int)served);
	end();
}

/*
 * Sends a LOOKUP as a driver does, with a kick only if the server wants one. Returns whether the
 * server has answered without a kick.
 */
static bool look_up_without_kick(void)
{
	struct {
		struct fuse_in_header h;
		char name[8];
	} request = {{.len = sizeof(request.h) + 5,
			     .opcode = FUSE_LOOKUP,
			     .unique = ++f.unique,
			     .nodeid = 1},
		"none"};
	uint16_t old = f.avail;

	memcpy(f.ram + DATA_IN, &request, sizeof(request));
	front_desc(&f, 0, GUEST + DATA_IN, request.h.len, VRING_DESC_F_NEXT, 1);
	front_desc(&f, 1, GUEST + DATA_OUT, 4096, VRING_DESC_F_WRITE, 0);
	front_put(&f, 0);
	bool kick = vring_need_event(wants_kick_at(USED), f.avail, old);
	if (kick)
		CHECK(eventfd_write(f.kick, 1) == 0);
	CHECK(front_wait(&f) == sizeof(struct fuse_out_header));
	return !kick;
}

/*
 * A server that may watch the rings for a long time must get most requests without a kick, once it
 * has seen how soon they follow each other.
 */
static void run_watched(void)
{
	int without = 0;

	begin(LONG_US);
	for (int i = 0; i < 200; i++) {
		usleep(1000);
		without += look_up_without_kick();
	}
	CHECK(without > 100);
	end();
}

/* A server that may not watch the rings wants a kick for each request that comes after a pause. */
static void run_unwatched(void)
{
	begin(0);
	for (int i = 0; i < 20; i++) {
		for (int n = 0; wants_kick_at(USED) != f.avail && n < TRIES; n++)
			usleep(20000);
		CHECK(wants_kick_at(USED) == f.avail);
		CHECK(!look_up_without_kick());
	}
	end();
}

/* While the server watches the rings, it must still handle the messages of the front end. */
static void run_messages(void)
{
	begin(20000);
	for (int i = 0; i < 200; i++) {
		(void)look_up_without_kick();
		if (i % 10 == 0)
			CHECK(front_ask(&f, 17, 0) == 17);
	}
	end();
}

ROOT_CHILD_TEST(late_forgets)
ROOT_CHILD_TEST(stopped)
ROOT_CHILD_TEST(watched)
ROOT_CHILD_TEST(unwatched)
ROOT_CHILD_TEST(messages)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_late_forgets),
		cmocka_unit_test(test_stopped),
		cmocka_unit_test(test_watched),
		cmocka_unit_test(test_unwatched),
		cmocka_unit_test(test_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
