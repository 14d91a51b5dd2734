/* SPDX-License-Identifier: Apache-2.0 */
/* Tests the vhost-user server as a transport, with a fake device behind it and a fake front end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/str.h"
#include "unit/rig/child.h"
#include "unit/rig/vhost_front.h"
#include "unit/rig/vhost_server.h"

static void run_works(void)
{
	struct server *s = server_begin(false);

	CHECK(front_ask(&s->f, 1, 0) == (UINT64_C(1) << 32 | 1U << 30 | 1U << 29 | 1U << 28 | 1));
	CHECK(front_ask(&s->f, 15, 0) == (1 | PROTOCOL_REPLY_ACK | PROTOCOL_RESET));
	CHECK(front_ask(&s->f, 17, 0) == 3);
	front_start_queue(&s->f);
	server_check_works(s);
	server_check_works(s);
	/*
	 * The device answers the following requests in another order than the one in which they
	 * come. The server must give each answer to the request to which it belongs.
	 */
	server_request(s, 1, 'H');
	server_request(s, 0, 'E');
	while (server_used_index(s) != 3)
		usleep(1000);
	CHECK(server_answered(s, 0, "echo") && server_answered(s, 1, ""));
	CHECK(write(s->d.dev.event_fd, &(uint64_t){1}, 8) == 8);
	CHECK(front_wait(&s->f) == 5 && server_answered(s, 1, "event"));
	server_end(s, 0, NULL);
}

/*
 * Checks a queue that starts near the end of the 16-bit index, and a queue that has the largest
 * possible ring.
 */
static void run_resumes(void)
{
	struct server *s = server_begin(false);
	struct vring_avail *avail = (void *)(s->f.ram + AVAIL);
	struct vring_used *used = (void *)(s->f.ram + USED);

	front_start_queue(&s->f);
	CHECK(front_ask(&s->f, 11, 1) == 1);
	s->f.avail = avail->idx = used->idx = 0xfffe;
	front_set_vring(&s->f, 10, 1, 0xfffe);
	front_set_fd(&s->f, 12, 1, s->f.kick);
	for (int i = 0; i < 5; i++)
		server_check_works(s);
	CHECK(front_ask(&s->f, 11, 1) == (UINT64_C(3) << 32 | 1));
	/*
	 * GET_VRING_BASE has stopped the queue already, so a second GET_VRING_BASE must return the
	 * same index.
	 */
	CHECK(front_ask(&s->f, 11, 1) == (UINT64_C(3) << 32 | 1));
	/* Now the queue gets a ring of 1024 descriptors, which is the largest one. */
	front_set_memory(&s->f, GUEST, MEMORY, USER, 0);
	front_set_vring(&s->f, 8, 1, 1024);
	front_set_addr(&s->f, 1, USER + 0x10000, USER + 0x20000, USER + 0x30000);
	front_set_vring(&s->f, 10, 1, 0);
	front_set_fd(&s->f, 12, 1, s->f.kick);
	server_settle(s);
	CHECK(s->d.dev.queues[1].ready && s->d.dev.queues[1].size == 1024);
	server_end(s, 0, NULL);
}

/*
 * Checks that the device gives back the requests that it holds when their queue stops or is
 * disabled, and when the memory is replaced.
 */
static void run_quiesces(void)
{
	struct server *s = server_begin(false);

	front_start_queue(&s->f);
	server_request(s, 0, 'H');
	server_request(s, 1, 'H');
	server_request(s, 2, 'E');
	while (server_used_index(s) != 1)
		usleep(1000);
	CHECK(front_ask(&s->f, 11, 1) == (UINT64_C(3) << 32 | 1));
	CHECK(server_used_index(s) == 3 && server_answered(s, 0, "stopped") &&
		server_answered(s, 1, "stopped"));
	/* Checks that a stopped queue ignores kicks. */
	server_request(s, 0, 'E');
	server_settle(s);
	CHECK(server_used_index(s) == 3);
	front_set_vring(&s->f, 10, 1, 3);
	front_set_fd(&s->f, 12, 1, s->f.kick);
	CHECK(front_wait(&s->f) == 4 && server_answered(s, 0, "echo"));
	/*
	 * When the front end disables the queue, the device must give back the request that it
	 * holds.
	 */
	server_request(s, 0, 'H');
	while (__atomic_load_n(&s->d.served, __ATOMIC_SEQ_CST) != 5)
		usleep(1000);
	front_set_vring(&s->f, 18, 1, 0);
	CHECK(front_wait(&s->f) == 7 && server_answered(s, 0, "stopped"));
	server_request(s, 0, 'E');
	server_settle(s);
	CHECK(server_used_index(s) == 5);
	front_set_vring(&s->f, 18, 1, 1);
	CHECK(front_wait(&s->f) == 4);
	/*
	 * When the front end sets the same memory again, the device must give back the request that
	 * it holds.
	 */
	server_request(s, 0, 'H');
	while (__atomic_load_n(&s->d.served, __ATOMIC_SEQ_CST) != 7)
		usleep(1000);
	unsigned before = s->d.quiesced;
	front_set_memory(&s->f, GUEST, MEMORY, USER, 0);
	CHECK(front_wait(&s->f) == 7 && server_answered(s, 0, "stopped"));
	server_settle(s);
	CHECK(s->d.quiesced > before);
	server_check_works(s);
	/* When the connection ends, the device must give back the request that it holds. */
	server_request(s, 0, 'H');
	while (__atomic_load_n(&s->d.served, __ATOMIC_SEQ_CST) != 9)
		usleep(1000);
	server_end(s, 0, NULL);
}

/*
 * Checks that the server does not handle a kick that comes before the features are negotiated or
 * while the queue is disabled, and that it handles the kick afterwards.
 */
static void run_kick_before_driver_ok(void)
{
	struct server *s = server_begin(false);

	front_set_memory(&s->f, GUEST, MEMORY, USER, 0);
	front_set_vring(&s->f, 8, 1, QUEUE);
	front_set_addr(&s->f, 1, USER, USER + AVAIL, USER + USED);
	front_set_fd(&s->f, 13, 1, s->f.call);
	front_set_fd(&s->f, 12, 1, s->f.kick);
	front_set_vring(&s->f, 18, 1, 1);
	server_request(s, 0, 'E');
	server_settle(s);
	usleep(20000);
	CHECK(s->d.served == 0 && server_used_index(s) == 0);
	/*
	 * SET_FEATURES completes the negotiation even if it sets no feature. So the server must now
	 * handle the kick that came before.
	 */
	front_set(&s->f, 2, 0);
	CHECK(front_wait(&s->f) == 4);
	server_end(s, 0, NULL);

	s = server_begin(false);
	front_start_queue(&s->f);
	front_set_vring(&s->f, 18, 1, 0);
	server_settle(s);
	server_request(s, 0, 'E');
	usleep(20000);
	CHECK(s->d.served == 0);
	front_set_vring(&s->f, 18, 1, 1);
	CHECK(front_wait(&s->f) == 4);
	front_set(&s->f, 2, UINT64_C(1) << 32);
	server_end(s, -EPROTO, "features changed while queue 1 runs");
}

struct config_message {
	uint32_t request, flags, size, offset, len, config_flags;
	uint8_t data[256];
};

static int ask_config(struct server *s, uint32_t offset, uint32_t len, struct config_message *m)
{
	*m = (struct config_message){
		.request = 24, .flags = 1, .size = 12, .offset = offset, .len = len};
	front_send_raw(&s->f, m, 24, NULL, 0);
	return (int)recv(s->f.sock, m, sizeof(*m), 0);
}

static void run_config(void)
{
	struct server *s = server_begin(true);
	struct config_message m;

	CHECK(front_ask(&s->f, 15, 0) & PROTOCOL_CONFIG);
	front_set(&s->f, 16, PROTOCOL_CONFIG);
	CHECK(ask_config(s, 0, 16, &m) == 40 && m.flags == 5 && m.size == 28 && m.len == 16);
	CHECK(memcmp(m.data, "configuration...", 16) == 0);
	CHECK(ask_config(s, 13, 3, &m) == 27 && memcmp(m.data, "...", 3) == 0);
	/*
	 * If the front end asks for bytes beyond the end of the configuration, the server must
	 * report an error by an empty payload.
	 */
	static const uint32_t bad[][2] = {{0, 17}, {16, 1}, {17, 0}, {UINT32_MAX, 1},
		{1, UINT32_MAX}, {UINT32_MAX, UINT32_MAX}, {0, 257}};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK(ask_config(s, bad[i][0], bad[i][1], &m) == 12 && m.size == 0);
	m = (struct config_message){
		.request = 25, .flags = 1, .size = 15, .offset = 13, .len = 3, .data = "new"};
	front_send_raw(&s->f, &m, 27, NULL, 0);
	CHECK(ask_config(s, 10, 6, &m) == 30 && memcmp(m.data, "ionnew", 6) == 0);
	/*
	 * This message says that the configuration is longer than the message's payload, so the
	 * server must end the connection.
	 */
	m = (struct config_message){.request = 25, .flags = 1, .size = 13, .offset = 0, .len = 3};
	front_send_raw(&s->f, &m, 25, NULL, 0);
	server_end(s, -EPROTO, "of the configuration in a payload of 13");

	/*
	 * The server must end the connection if the front end uses CONFIG without negotiating it,
	 * or negotiates CONFIG although the server does not offer it.
	 */
	s = server_begin(true);
	CHECK(ask_config(s, 0, 1, &m) <= 0);
	server_end(s, -EPROTO, "request 24, which was not negotiated");
	s = server_begin(false);
	front_set(&s->f, 16, PROTOCOL_CONFIG);
	server_end(s, -EPROTO, "protocol features 0x200, expected some of 0x2009");
}

static void run_reset(void)
{
	struct server *s = server_begin(false);
	struct front_message m = {.request = 34};

	front_set(&s->f, 16, PROTOCOL_RESET);
	front_start_queue(&s->f);
	server_check_works(s);
	server_request(s, 0, 'H');
	while (__atomic_load_n(&s->d.served, __ATOMIC_SEQ_CST) != 2)
		usleep(1000);
	front_send(&s->f, &m, NULL, 0);
	server_settle(s);
	CHECK(server_answered(s, 0, "stopped") && s->d.resets == 1 && s->d.dev.status == 0);
	CHECK(front_ask(&s->f, 11, 1) == 1);
	/* After RESET_DEVICE the device must work as at the beginning of the connection. */
	memset(s->f.ram, 0, 0x4000);
	s->f.avail = 0;
	front_start_queue(&s->f);
	server_check_works(s);
	server_end(s, 0, NULL);
	/* Stopping all queues must not reset the device, because a paused machine goes on later. */
	s = server_begin(false);
	front_start_queue(&s->f);
	CHECK(front_ask(&s->f, 11, 1) == 1);
	CHECK(s->d.resets == 0);
	server_end(s, 0, NULL);
}

static void run_stop(void)
{
	struct server *s = server_begin(false);
	struct front_message half = {.request = 18, .flags = 1, .size = 8};

	front_start_queue(&s->f);
	server_check_works(s);
	server_request(s, 0, 'H');
	while (__atomic_load_n(&s->d.served, __ATOMIC_SEQ_CST) != 2)
		usleep(1000);
	CHECK(write(s->stop, &(uint64_t){1}, 8) == 8);
	CHECK(pthread_join(s->thread, NULL) == 0);
	CHECK(s->result == 0 && server_answered(s, 0, "stopped"));
	/* Checks that the same device can be served again on another connection. */
	CHECK(read(s->stop, &(uint64_t){0}, 8) == 8);
	struct front old = s->f;
	memset(old.ram, 0, 0x4000);
	s->sock = front_open(&s->f);
	CHECK(pthread_create(&s->thread, NULL, server_run, s) == 0);
	front_close(&old);
	front_start_queue(&s->f);
	server_check_works(s);
	/* Checks that the server can also be stopped in the middle of a message. */
	front_send_raw(&s->f, &half, 14, NULL, 0);
	usleep(20000);
	CHECK(write(s->stop, &(uint64_t){1}, 8) == 8);
	server_end(s, 0, NULL);
}

static void run_acks(void)
{
	struct server *s = server_begin(false);
	struct front_message m = {.request = 8, .flags = 8, .size = 8, .p.u32 = {1, QUEUE}};

	front_set(&s->f, 16, PROTOCOL_REPLY_ACK);
	front_send(&s->f, &m, NULL, 0);
	CHECK(recv(s->f.sock, &m, sizeof(m), 0) == 20 && m.request == 8 && m.flags == 5 &&
		m.size == 8 && m.p.u64[0] == 0);
	m = (struct front_message){.request = 8, .flags = 8, .size = 8, .p.u32 = {3, QUEUE}};
	front_send(&s->f, &m, NULL, 0);
	CHECK(recv(s->f.sock, &m, sizeof(m), 0) == 20 && m.p.u64[0] == 1);
	server_end(s, -EPROTO, "queue 3, expected less than 3");
}

/*
 * A queue keeps its place at a new front end, which sets the index 0, and once only. The features
 * of the driver are told.
 */
static void run_keeps_place(void)
{
	struct server *s = server_begin(false);

	front_set(&s->f, 16, PROTOCOL_RESET);
	front_start_queue(&s->f);
	for (int i = 0; i < 3; i++)
		server_check_works(s);
	CHECK(front_ask(&s->f, 128, 0) == s->d.dev.driver_features && s->d.dev.driver_features);
	CHECK(front_ask(&s->f, 11, 1) == (UINT64_C(3) << 32 | 1));
	front_set_vring(&s->f, 129, 1, 3);
	front_set(&s->f, 34, 0); /* RESET_DEVICE */
	server_settle(s);
	CHECK(s->d.resets == 0);
	front_set_vring(&s->f, 10, 1, 0);
	front_set_fd(&s->f, 12, 1, s->f.kick);
	server_check_works(s);
	CHECK(front_ask(&s->f, 11, 1) == (UINT64_C(4) << 32 | 1));
	front_set_vring(&s->f, 10, 1, 2);
	CHECK(front_ask(&s->f, 11, 1) == (UINT64_C(2) << 32 | 1));
	front_set_vring(&s->f, 129, 1, 4);
	front_set_fd(&s->f, 12, 1, s->f.kick);
	server_check_works(s);
	front_set_vring(&s->f, 129, 1, 0);
	server_end(s, -EPROTO, "queue 1 keeps the index 0: expected a stopped queue");
}

/*
 * The server serves a queue that the front end never starts, and raises the interrupt of the first
 * queue for it. It finds the queue again when the memory changes.
 */
static void run_adopts(void)
{
	struct server *s = server_begin(false);
	const struct vhost_rings rings = {GUEST + 0x8000, GUEST + 0x9000, GUEST + 0xa000, QUEUE};
	struct vring_used *used = (void *)(s->f.ram + 0xa000);
	struct virtq *q = &s->d.dev.queues[2];
	eventfd_t n;

	used->idx = 7;
	CHECK(front_ask(&s->f, 17, 0) == 3); /* the server has begun */
	vhost_adopt(s->d.dev.transport, 2, &rings);
	CHECK(!q->ready);
	front_start_queue(&s->f);
	server_settle(s);
	CHECK(q->ready && q->size == QUEUE && q->next_avail == 7 && q->next_used == 7);
	const int call = eventfd(0, EFD_NONBLOCK);
	front_set_fd(&s->f, 13, 0, call);
	server_settle(s);
	(void)eventfd_read(call, &n);
	pthread_mutex_lock(&s->d.dev.lock);
	s->d.dev.signal(s->d.dev.transport, 2);
	pthread_mutex_unlock(&s->d.dev.lock);
	CHECK(eventfd_read(call, &n) == 0 && n == 1);
	used->idx = 9;
	front_set_memory(&s->f, GUEST, MEMORY, USER, 0);
	server_settle(s);
	CHECK(q->ready && q->next_avail == 9);
	server_check_works(s);
	close(call);
	server_end(s, 0, NULL);
}

/* The rings of an adopted queue may be nowhere in guest memory. */
static void run_adopts_nothing(void)
{
	struct server *s = server_begin(false);
	const struct vhost_rings rings = {UINT64_MAX - 15, GUEST, GUEST + 0x1000, QUEUE};

	CHECK(front_ask(&s->f, 17, 0) == 3); /* the server has begun */
	vhost_adopt(s->d.dev.transport, 2, &rings);
	front_set_memory(&s->f, GUEST, MEMORY, USER, 0);
	server_end(s, -EPROTO, "queue 2");
}

CHILD_TEST(keeps_place)
CHILD_TEST(adopts)
CHILD_TEST(adopts_nothing)
CHILD_TEST(works)
CHILD_TEST(resumes)
CHILD_TEST(quiesces)
CHILD_TEST(kick_before_driver_ok)
CHILD_TEST(config)
CHILD_TEST(reset)
CHILD_TEST(stop)
CHILD_TEST(acks)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_works),
		cmocka_unit_test(test_resumes),
		cmocka_unit_test(test_quiesces),
		cmocka_unit_test(test_kick_before_driver_ok),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_acks),
		cmocka_unit_test(test_keeps_place),
		cmocka_unit_test(test_adopts),
		cmocka_unit_test(test_adopts_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
