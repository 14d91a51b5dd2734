/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the vhost-user server with front ends and drivers that break the protocol. The server must
 * end the connection with an error, and nothing of the connection may stay in the device.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/str.h"
#include "unit/rig/child.h"
#include "unit/rig/vhost_front.h"
#include "unit/rig/vhost_server.h"

/* Sends SET_MEM_TABLE with two regions, each {guest, size, user, offset}. */
static void set_two(struct server *s, const uint64_t a[4], const uint64_t b[4])
{
	struct front_message m = {.request = 5, .size = 72, .p.u64 = {2}};
	int fds[2] = {s->f.memory, s->f.memory};

	memcpy(&m.p.u64[1], a, 32);
	memcpy(&m.p.u64[5], b, 32);
	front_send(&s->f, &m, fds, 2);
}

static void run_regions(void)
{
	static const struct {
		uint64_t a[4], b[4];
		const char *why;
	} bad[] = {
		{{0, 0x2000, USER, 0}, {0x1000, 0x2000, USER + 0x10000, 0}, "overlaps"},
		{{0x1000, 0x2000, USER, 0}, {0, 0x10000, USER + 0x10000, 0}, "overlaps"},
		{{0, 0x2000, USER, 0}, {0x10000, 0x2000, USER + 0x1000, 0}, "overlaps"},
		{{0, 0x2000, USER, 0}, {0, 0x2000, USER, 0}, "overlaps"},
		{{0, 0x2000, USER, 0}, {UINT64_MAX - 0xfff, 0x2000, USER + 0x10000, 0}, "wrap"},
		{{0, 0x2000, USER, 0}, {0x10000, 0x2000, UINT64_MAX - 0xfff, 0}, "wrap"},
		{{0, 0x2000, USER, 0}, {0x10000, 0x2000, USER + 0x10000, INT64_MAX - 0xfff},
			"wrap"},
		{{0, 0x2000, USER, 0}, {0x10000, 0, USER + 0x10000, 0}, "wrap"},
		{{0, 0x2000, USER, 0}, {0x10001, 0x2000, USER + 0x10000, 0}, "whole pages"},
		{{0, 0x2000, USER, 0}, {0x10000, 0x2000, USER + 0x10000, 1}, "whole pages"},
		{{0, 0x2000, USER, 0}, {0x10000, 0x2000, USER + 0x10000, MEMORY - 0x1000},
			"beyond its file"},
	};
	static const uint64_t low[4] = {0, 0x100000, USER + 0x1000000, 0};
	static const uint64_t high[4] = {GUEST, MEMORY, USER, 0};
	struct server *s;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		s = server_begin(false);
		set_two(s, bad[i].a, bad[i].b);
		server_end(s, -EPROTO, bad[i].why);
	}
	/*
	 * The two memory regions are not adjacent: a request inside one of them must work, and a
	 * request across its end must not.
	 */
	s = server_begin(false);
	front_start_queue(&s->f);
	set_two(s, low, high);
	server_settle(s);
	server_check_works(s);
	s->f.ram[0x5000] = 'E';
	front_desc(&s->f, 0, 0x5000, 1, VRING_DESC_F_NEXT, 1);
	front_kick(&s->f, 0);
	CHECK(front_wait(&s->f) == 4);
	front_desc(&s->f, 0, 0x100000 - 1, 2, VRING_DESC_F_NEXT, 1);
	front_kick(&s->f, 0);
	CHECK(front_wait(&s->f) == -1);
	server_end(s, -EPROTO, "2 bytes at 0xfffff of chain 0 are not in guest memory");
	/*
	 * The server must refuse a file that cannot be mapped as memory, and a descriptor that is
	 * no file.
	 */
	s = server_begin(false);
	struct front_message m = {.request = 5, .size = 40, .p.u64 = {1, GUEST, 4096, USER, 0}};
	front_send(&s->f, &m, &s->f.kick, 1);
	server_end(s, -EPROTO, "beyond its file");
	/*
	 * The connection must end if the front end removes all memory, which holds the rings too,
	 * while a queue runs.
	 */
	s = server_begin(false);
	front_start_queue(&s->f);
	server_request(s, 0, 'H');
	while (__atomic_load_n(&s->d.served, __ATOMIC_SEQ_CST) != 1)
		usleep(1000);
	m = (struct front_message){.request = 5, .size = 8};
	front_send(&s->f, &m, NULL, 0);
	server_end(s, -EPROTO, "which is not in the memory that it told of");
}

/*
 * Checks queues of which one of the three rings lies outside of the memory, crosses its end, or is
 * not aligned.
 */
static void run_rings(void)
{
	static const uint64_t at[] = {USER - 16, USER + MEMORY, USER + MEMORY - 16, USER + 1, 0,
		UINT64_MAX, UINT64_MAX - 15};
	struct server *s;

	for (size_t i = 0; i < 3 * ARRAY_SIZE(at); i++) {
		uint64_t ring[3] = {USER, USER + AVAIL, USER + USED};

		ring[i % 3] = at[i / 3];
		s = server_begin(false);
		front_set(&s->f, 2, UINT64_C(1) << 32);
		front_set_memory(&s->f, GUEST, MEMORY, USER, 0);
		front_set_vring(&s->f, 8, 1, QUEUE);
		front_set_addr(&s->f, 1, ring[0], ring[1], ring[2]);
		front_set_fd(&s->f, 12, 1, s->f.kick);
		server_end(s, -EPROTO, "queue 1: ");
	}
	/*
	 * The connection must end if the front end sends ring addresses before it has sent any
	 * memory.
	 */
	s = server_begin(false);
	front_set_vring(&s->f, 8, 1, QUEUE);
	front_set_addr(&s->f, 1, USER, USER + AVAIL, USER + USED);
	front_set_fd(&s->f, 12, 1, s->f.kick);
	server_end(s, -EPROTO, "descriptor ring at the monitor's address");
	/*
	 * If a driver breaks its queue, the connection must end with a message that says what the
	 * driver did.
	 */
	s = server_begin(false);
	front_start_queue(&s->f);
	server_request(s, 0, 'H');
	front_desc(&s->f, 6, GUEST - 1, 1, 0, 0);
	front_kick(&s->f, 6);
	while (front_wait(&s->f) != -1)
		;
	server_end(s, -EPROTO, "test: queue 1: 1 bytes at 0x3fffffff of chain 6");
}

/*
 * Checks messages whose descriptors would block or kill a careless server, and messages with too
 * few or too many descriptors.
 */
static void run_descriptors(void)
{
	struct front_message kick = {.request = 12, .size = 8, .p.u64 = {1}};
	struct server *s;
	int many[16], pipes[2];

	for (unsigned how = 0; how < 9; how++) {
		s = server_begin(false);
		for (size_t i = 0; i < ARRAY_SIZE(many); i++)
			many[i] = s->f.kick;
		CHECK(pipe(pipes) == 0);
		close(pipes[0]);
		front_start_queue(&s->f);
		switch (how) {
		case 0:
			front_set_fd(&s->f, 13, 1, pipes[1]);
			break;
		case 1:
			front_set_fd(&s->f, 12, 1, pipes[1]);
			break;
		case 2:
			front_set_fd(&s->f, 13, 1, s->f.sock);
			break;
		case 3:
			front_set_fd(&s->f, 12, 1, s->f.memory);
			break;
		/*
		 * Case 4 sends neither a descriptor nor the flag that says that there is none. Case
		 * 5 sends both the flag and a descriptor.
		 */
		case 4:
			front_send(&s->f, &kick, NULL, 0);
			break;
		case 5:
			front_set_fd(&s->f, 13, 1 | 0x100, s->f.call);
			break;
		case 6:
			front_send(&s->f, &kick, many, 2);
			break;
		case 7:
			front_send(&s->f, &kick, many, 16);
			break;
		default: /* sends a descriptor for a queue that does not exist */
			front_set_fd(&s->f, 14, 3, s->f.kick);
		}
		close(pipes[1]);
		server_end(s, -EPROTO, how < 4 ? "is no eventfd" : "");
	}
}

/*
 * Sends every request of vhost-user with every length, and hangs up after every byte of a message.
 */
static void run_garbage(void)
{
	static const uint32_t sizes[] = {0, 1, 7, 8, 11, 12, 16, 39, 40, 72, 264, 272};
	struct front_message m;
	struct server *s;
	unsigned seed = 1;

	for (uint32_t r = 0; r < 45; r++) {
		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
			s = server_begin(r & 1);
			front_set(&s->f, 16, r & 1 ? PROTOCOL_CONFIG : PROTOCOL_RESET);
			front_start_queue(&s->f);
			m = (struct front_message){.request = r, .flags = 1, .size = sizes[i]};
			for (size_t n = 0; n < ARRAY_SIZE(m.p.u32); n++)
				m.p.u32[n] = i & 1 ? (uint32_t)rand_r(&seed) : UINT32_MAX;
			front_send(&s->f, &m, &s->f.kick, i % 3 == 0);
			shutdown(s->f.sock, SHUT_WR);
			CHECK(pthread_join(s->thread, NULL) == 0);
			CHECK(s->result == 0 || s->result == -EPROTO);
			CHECK(!s->d.dev.memory && s->d.held_count == 0);
			virtio_release(&s->d.dev);
			close(s->d.dev.event_fd);
			close(s->stop);
			front_close(&s->f);
			free(s);
		}
	}
	for (size_t cut = 1; cut < 52; cut++) {
		s = server_begin(false);
		m = (struct front_message){
			.request = 5, .flags = 1, .size = 40, .p.u64 = {1, GUEST, MEMORY, USER, 0}};
		front_send_raw(&s->f, &m, cut, &s->f.memory, 1);
		server_end(s, -EPROTO, "the connection ends");
	}
}

/*
 * Checks that the server ends if a front end sends requests for ever and never reads the answers.
 */
static void run_front_end_never_reads(void)
{
	struct server *s = server_begin(false);
	struct front_message m = {.request = 1, .flags = 1};

	for (int i = 0; i < 100000; i++)
		if (send(s->f.sock, &m, 12, MSG_NOSIGNAL) < 0)
			break;
	server_end(s, -EPROTO, "does not read its replies");
}

CHILD_TEST(regions)
CHILD_TEST(rings)
CHILD_TEST(descriptors)
CHILD_TEST(garbage)
CHILD_TEST(front_end_never_reads)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_regions),
		cmocka_unit_test(test_rings),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_front_end_never_reads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
