/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the virtio-fs server with well-formed and broken vhost-user messages and rings. The server
 * must answer as the protocol demands, or end with -EPROTO.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/str.h"
#include "unit/rig/child.h"
#include "unit/rig/vmfs_files.h"
#include "unit/rig/vmfs_front.h"

static void run_messages(void)
{
	struct front f;

	front_begin(&f, false, 100);
	uint64_t features = front_ask(&f, 1, 0);
	CHECK(features == (UINT64_C(1) << 32 | 1U << 30 | 1U << 29 | 1U << 28));
	CHECK(front_ask(&f, 15, 0) == (1 | 8 | 1 << 13 | 1 << 19));
	front_set(&f, 16, 1 | 8);
	CHECK(front_ask(&f, 17, 0) == 17);
	/*
	 * With REPLY_ACK the server must confirm each message whose header asks for a confirmation.
	 */
	struct front_message m = {.request = 3, .flags = 8};
	front_send(&f, &m, NULL, 0);
	CHECK(recv(f.sock, &m, sizeof(m), 0) == 20 && m.request == 3 && m.p.u64[0] == 0);
	front_start_queue(&f);
	front_fuse_init(&f);
	const struct fuse_init_out *out = front_reply(&f);
	CHECK(out->major == 7 && out->minor == 36 && out->max_write == 1 << 20);
	/* A queue that was stopped must continue at the request before which it stopped. */
	CHECK(front_ask(&f, 11, 1) == ((uint64_t)f.avail << 32 | 1));
	front_set_vring(&f, 10, 1, f.avail);
	front_set_fd(&f, 12, 1, f.kick);
	CHECK(front_name(&f, FUSE_LOOKUP, 1, "none") == -ENOENT);
	/*
	 * The front end sets a new interrupt descriptor while the queue runs. If the server has
	 * raised an interrupt on the old descriptor, it must raise it on the new one again.
	 */
	uint64_t count = 0;
	int old_call = f.call;
	f.call = eventfd(0, EFD_CLOEXEC);
	front_set_fd(&f, 13, 1, f.call);
	CHECK(read(f.call, &count, sizeof(count)) == sizeof(count) && count == 1);
	close(old_call);
	CHECK(front_name(&f, FUSE_LOOKUP, 1, "none") == -ENOENT);
	/*
	 * The front end sends the same memory again while the queue runs, as memory hot-plug does.
	 * The server must go on answering requests.
	 */
	front_set_memory(&f, GUEST, MEMORY, USER, 0);
	CHECK(front_name(&f, FUSE_LOOKUP, 1, "none") == -ENOENT);
	/* The server must accept a message that arrives in two pieces. */
	struct front_message half = {.request = 18, .flags = 1, .size = 8, .p.u32 = {1, 1}};
	front_send_raw(&f, &half, 7, NULL, 0);
	usleep(20000);
	front_send_raw(&f, (char *)&half + 7, 13, NULL, 0);
	CHECK(front_name(&f, FUSE_LOOKUP, 1, "none") == -ENOENT);
	CHECK(front_end(&f) == ENDED);
}

/* a vhost-user message whose payload is one number of 64 bits */
#define VALUE(number, value) \
	{ \
		.request = (number), .flags = 1, .size = 8, .p.u64 = { value } \
	}
/* the message SET_VRING_NUM (8) or SET_VRING_BASE (10) for a queue */
#define VRING(number, index, num) VALUE(number, (uint64_t)(num) << 32 | (index))
/* the message SET_MEM_TABLE that says it has `count` memory regions, and that describes only one */
#define REGIONS(count, guest, length, user, offset) \
	{ \
		.request = 5, .flags = 1, .size = 40, .p.u64 = { \
			count, \
			guest, \
			length, \
			user, \
			offset \
		} \
	}

/* Messages, each of which must end the connection with an error and have no other effect. */
static const struct {
	const char *name;
	struct front_message m;
	size_t cut; /* number of bytes of the message that the test sends; 0: all */
	unsigned fds;
	/* kind of the descriptor that the message carries in `fds` copies */
	enum { MEMORY_FD, KICK_FD, SOCKET_FD, PIPE_FD } which;
	bool state;    /* the front end has negotiated the protocol feature DEVICE_STATE before */
	bool running;  /* the queue runs when the message arrives */
	bool may_pass; /* the server may also end without an error after this message */
} bad_messages[] = {
	{"regions without a descriptor", REGIONS(1, GUEST, MEMORY, USER, 0)},
	{"more descriptors than regions", REGIONS(1, GUEST, MEMORY, USER, 0), .fds = 2},
	{"more descriptors than any message has", REGIONS(1, GUEST, MEMORY, USER, 0), .fds = 9},
	{"more regions than there can be", REGIONS(0xffffffff, GUEST, MEMORY, USER, 0), .fds = 1},
	{"regions beyond the message", REGIONS(2, GUEST, MEMORY, USER, 0), .fds = 2},
	{"a region longer than its file", REGIONS(1, GUEST, MEMORY + 4096, USER, 0), .fds = 1},
	{"a region that ends behind its file", REGIONS(1, GUEST, MEMORY, USER, 4096), .fds = 1},
	{"a region at the end of the address space", REGIONS(1, UINT64_MAX - 4095, MEMORY, USER, 0),
		.fds = 1},
	{"a region of the largest length", REGIONS(1, GUEST, UINT64_MAX, USER, 4096), .fds = 1},
	{"a region of no length", REGIONS(1, GUEST, 0, USER, 0), .fds = 1},
	{"a payload announced longer than any", {.request = 5, .flags = 1, .size = 0xffffffff},
		.cut = 12},
	{"a payload shorter than the request needs",
		{.request = 9, .flags = 1, .size = 8, .p.u64 = {1}}},
	{"a wrong version", {.request = 5, .flags = 2}, .cut = 12},
	{"an unknown request",
		{.request = 0x12345, .flags = 1, .size = 40, .p.u64 = {1, GUEST, MEMORY, USER}}},
	{"the size of a queue that does not exist", VRING(8, 17, QUEUE)},
	{"a size that is no power of two", VRING(8, 1, 7)},
	{"a size beyond the largest", VRING(8, 1, 2048)},
	{"a base beyond 16 bits", VRING(10, 1, 0x10000)},
	{"a queue started without a size", VALUE(12, 1), .fds = 1, .which = KICK_FD},
	{"features that were not offered", VALUE(2, UINT64_MAX)},
	{"a queue without a kick descriptor", VALUE(12, 1 | 0x100)},
	{"a descriptor where none belongs", VALUE(2, 0), .fds = 1, .which = KICK_FD},
	{"a size that changes while the queue runs", VRING(8, 1, 4), .running = true},
	{"memory that the running queue's rings are not in",
		REGIONS(1, GUEST, MEMORY, USER + MEMORY, 0), .fds = 1, .running = true},
	{"a kick that is no eventfd", VALUE(12, 1), .fds = 1, .which = SOCKET_FD, .running = true,
		.may_pass = true},
	{"the state's descriptor without negotiation", VALUE(42, 0), .fds = 1, .which = PIPE_FD},
	{"the state's descriptor in a direction that there is not", VALUE(42, 2), .fds = 1,
		.which = PIPE_FD, .state = true},
	{"the state in a phase that there is not", VALUE(42, 1ULL << 32), .fds = 1,
		.which = PIPE_FD, .state = true},
	{"the state without a descriptor", VALUE(42, 0), .state = true},
	{"the state through what is no pipe", VALUE(42, 0), .fds = 1, .state = true},
	{"the state while a queue runs", VALUE(42, 0), .fds = 1, .which = PIPE_FD, .state = true,
		.running = true},
	{"half a message", REGIONS(1, GUEST, MEMORY, USER, 0), .cut = 20},
};

/*
 * Queues whose rings are outside of memory or not aligned. Starting such a queue must end the
 * connection.
 */
static const struct {
	const char *name;
	uint64_t desc, avail, used;
} bad_addresses[] = {
	{"descriptors that end behind memory", USER + MEMORY - 64, USER + AVAIL, USER + USED},
	{"an available ring that is not aligned", USER, USER + AVAIL + 1, USER + USED},
	{"a used ring at the end of the address space", USER, USER + AVAIL, UINT64_MAX - 3},
	{"a used ring that ends behind memory", USER, USER + AVAIL, USER + MEMORY - 4},
};

static void expect_refusal(struct front *f, const char *name, bool may_pass)
{
	int end = front_end(f);

	if (end != REFUSED && !(may_pass && end == ENDED))
		fprintf(stderr, "# %s: the server ended with %d\n", name, end);
	CHECK(end == REFUSED || (may_pass && end == ENDED));
}

static void run_bad_messages(void)
{
	struct front f;

	for (size_t i = 0; i < ARRAY_SIZE(bad_messages); i++) {
		front_begin(&f, false, 100);
		int ends[2];
		CHECK(pipe(ends) == 0);
		if (bad_messages[i].state)
			front_set(&f, 16, 1 << 19);
		if (bad_messages[i].running)
			front_start_queue(&f);
		const int given[] = {f.memory, f.kick, f.sock, ends[1]};
		const struct front_message *m = &bad_messages[i].m;
		int fds[9];
		for (size_t k = 0; k < ARRAY_SIZE(fds); k++)
			fds[k] = given[bad_messages[i].which];
		front_send_raw(&f, m, bad_messages[i].cut ? bad_messages[i].cut : 12 + m->size, fds,
			bad_messages[i].fds);
		close(ends[0]);
		close(ends[1]);
		expect_refusal(&f, bad_messages[i].name, bad_messages[i].may_pass);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad_addresses); i++) {
		front_begin(&f, false, 100);
		front_set_memory(&f, GUEST, MEMORY, USER, 0);
		front_set_vring(&f, 8, 1, QUEUE);
		front_set_addr(&f, 1, bad_addresses[i].desc, bad_addresses[i].avail,
			bad_addresses[i].used);
		front_set_fd(&f, 12, 1, f.kick);
		expect_refusal(&f, bad_addresses[i].name, false);
	}
}

/* the descriptors of a request and of the room for its answer, as a driver chains them */
#define IN \
	{ \
		GUEST + DATA_IN, 64, VRING_DESC_F_NEXT, 1 \
	}
#define OUT \
	{ \
		GUEST + DATA_OUT, 64, VRING_DESC_F_WRITE, 0 \
	}
#define INDIRECT(length, flags, next) \
	{ \
		GUEST + TABLE, length, VRING_DESC_F_INDIRECT | (flags), next \
	}

/* Rings that no correct driver would make. Each of them must make the server end with an error. */
static const struct {
	const char *name;
	struct vring_desc ring[2];
	struct vring_desc table; /* first descriptor of the indirect table */
	unsigned chained; /* number of descriptors of the indirect table that form one chain */
	uint16_t head;
	uint16_t skipped; /* number by which the available index is ahead of the ring's entries */
} bad_rings[] = {
	{"a chain that is a circle", {IN, {GUEST + DATA_IN, 64, VRING_DESC_F_NEXT, 0}}},
	{"a circle of a segment without length", {{GUEST + DATA_IN, 0, VRING_DESC_F_NEXT, 0}, OUT}},
	{"a head beyond the ring", {IN, OUT}, .head = QUEUE},
	{"a next beyond the ring", {{GUEST + DATA_IN, 64, VRING_DESC_F_NEXT, 0xffff}, OUT}},
	{"a segment that begins before memory", {{GUEST - 1, 64, 0, 0}, OUT}},
	{"a segment that ends behind memory", {{GUEST + MEMORY - 63, 64, 0, 0}, OUT}},
	{"a segment at the end of the address space", {{UINT64_MAX - 10, 64, 0, 0}, OUT}},
	{"a segment of the largest length", {{GUEST, 0xffffffff, 0, 0}, OUT}},
	{"a readable segment behind a writable one",
		{{GUEST + DATA_OUT, 64, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 1},
			{GUEST + DATA_IN, 64, 0, 0}}},
	{"an indirect table of a descriptor and a byte", {INDIRECT(17, 0, 0), OUT}},
	{"an indirect table of no descriptor", {INDIRECT(0, 0, 0), OUT}},
	{"an indirect table of too many descriptors", {INDIRECT(16 * 1026, 0, 0), OUT},
		.chained = 1025},
	{"an indirect table outside of memory",
		{{GUEST + MEMORY, 32, VRING_DESC_F_INDIRECT, 0}, OUT}},
	{"an indirect table in an indirect table", {INDIRECT(16, 0, 0), OUT},
		.table = INDIRECT(16, 0, 0)},
	{"an indirect table with a circle in it", {INDIRECT(16, 0, 0), OUT},
		.table = {GUEST + TABLE, 16, VRING_DESC_F_NEXT, 0}},
	{"an indirect table with a next descriptor", {INDIRECT(16, VRING_DESC_F_NEXT, 1), OUT}},
	{"an index further ahead than the queue is long", {IN, OUT}, .skipped = QUEUE},
};

static void run_bad_rings(void)
{
	struct front f;

	for (size_t i = 0; i < ARRAY_SIZE(bad_rings); i++) {
		front_ready(&f);
		memcpy(f.ram, bad_rings[i].ring, sizeof(bad_rings[i].ring));
		memcpy(f.ram + TABLE, &bad_rings[i].table, sizeof(bad_rings[i].table));
		for (unsigned k = 0; k < bad_rings[i].chained; k++)
			((struct vring_desc *)(f.ram + TABLE))[k] = (struct vring_desc){
				GUEST + DATA_IN, 1, VRING_DESC_F_NEXT, (uint16_t)(k + 1)};
		if (bad_rings[i].skipped) {
			struct vring_avail *a = (void *)(f.ram + AVAIL);
			__atomic_store_n(&a->idx, (uint16_t)(f.avail + bad_rings[i].skipped + 1),
				__ATOMIC_SEQ_CST);
			f.avail += bad_rings[i].skipped;
		}
		front_kick(&f, bad_rings[i].head);
		int used = front_wait(&f);
		if (used != -1)
			fprintf(stderr, "# %s: the server used it, %d bytes\n", bad_rings[i].name,
				used);
		CHECK(used == -1);
		expect_refusal(&f, bad_rings[i].name, false);
	}
}

/*
 * Checks that the server can handle the same descriptors again and again, in a queue that is full
 * of requests at each kick.
 */
static void run_replay(void)
{
	struct fuse_in_header h = {.len = 56, .opcode = FUSE_GETATTR, .nodeid = 1};
	struct vring_used *u;
	struct front f;

	front_ready(&f);
	u = (void *)(f.ram + USED);
	memset(f.ram + DATA_IN, 0, 64);
	memcpy(f.ram + DATA_IN, &h, sizeof(h));
	front_desc(&f, 0, GUEST + DATA_IN, 56, VRING_DESC_F_NEXT, 1);
	front_desc(&f, 1, GUEST + DATA_OUT, 4096, VRING_DESC_F_WRITE, 0);
	for (int round = 0; round < 100; round++) {
		for (unsigned int i = 0; i < QUEUE; i++)
			((struct vring_avail *)(f.ram + AVAIL))->ring[i] = 0;
		f.avail += QUEUE - 1;
		front_kick(&f, 0);
		CHECK(front_wait(&f) == 16 + sizeof(struct fuse_attr_out));
	}
	CHECK(u->idx == f.avail);
	/* This chain is a correct indirect chain, so the server must answer it. */
	memcpy(f.ram + TABLE, f.ram, 32);
	front_desc(&f, 3, GUEST + TABLE, 32, VRING_DESC_F_INDIRECT, 0);
	front_kick(&f, 3);
	CHECK(front_wait(&f) == 16 + sizeof(struct fuse_attr_out));
	CHECK(front_end(&f) == ENDED);
}

/*
 * Checks a request that waits for a file lock when the queue stops: the server must answer the
 * request then, and must not use its buffers later.
 */
static void run_waiting_lock(void)
{
	struct fuse_lk_in in = {.owner = 1, .lk = {.end = INT64_MAX, .type = F_WRLCK}};
	const struct fuse_out_header *out;
	uint64_t node;
	struct front f;

	front_ready(&f);
	in.fh = front_create(&f, "file", &node);
	CHECK(front_fuse(&f, FUSE_SETLK, node, &in, sizeof(in), NULL, 0) == 0);
	in.owner = 2;
	CHECK(front_fuse(&f, FUSE_SETLK, node, &in, sizeof(in), NULL, 0) == -EAGAIN);
	struct fuse_in_header h = {
		.len = sizeof(h) + sizeof(in), .opcode = FUSE_SETLKW, .nodeid = node, .unique = 77};
	memcpy(f.ram + DATA_IN, &h, sizeof(h));
	memcpy(f.ram + DATA_IN + sizeof(h), &in, sizeof(in));
	front_desc(&f, 0, GUEST + DATA_IN, h.len, VRING_DESC_F_NEXT, 1);
	front_kick(&f, 0);
	usleep(50000);
	CHECK(((struct vring_used *)(f.ram + USED))->idx == (uint16_t)(f.avail - 1));
	CHECK(front_ask(&f, 11, 1) == ((uint64_t)f.avail << 32 | 1));
	out = (void *)(f.ram + DATA_OUT);
	CHECK(front_wait(&f) == 16 && out->unique == 77 && out->error == -ENOLCK);
	CHECK(front_end(&f) == ENDED);
}

ROOT_CHILD_TEST(messages)
ROOT_CHILD_TEST(bad_messages)
ROOT_CHILD_TEST(bad_rings)
ROOT_CHILD_TEST(replay)
ROOT_CHILD_TEST(waiting_lock)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_bad_messages),
		cmocka_unit_test(test_bad_rings),
		cmocka_unit_test(test_replay),
		cmocka_unit_test(test_waiting_lock),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
