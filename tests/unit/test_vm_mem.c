/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the memory device: blocks that the guest plugs and unplugs, with good and bad drivers. The
 * tests run without KVM.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/stat.h>

#include "unit/rig/virtio.h"
#include "vm/virtio/mem.h"

#define BLOCK VIRTIO_MEM_BLOCK
#define BLOCKS 8 /* how many blocks the device has */
#define ANSWER_LEN 10

struct mem {
	struct rig g;
	struct virtio_mem v;
	uint64_t addr; /* guest address of the device's range */
};

static void begin(struct mem *t, bool private)
{
	t->g = (struct rig){.size = RIG_SIZE};
	assert_int_equal(vm_memory_init(&t->g.memory, &(struct vm_memory_options){.size = RIG_RAM,
							      .hot = BLOCKS * BLOCK,
							      .mergeable = private}),
		0);
	assert_int_equal(virtio_mem_init(&t->v, &t->g.memory), 0);
	rig_attach(&t->g, &t->v.dev);
	bring_up(&t->g, t->v.dev.features);
	t->addr = le64toh(t->v.config.addr);
}

static void end(struct mem *t)
{
	virtio_mem_release(&t->v);
	rig_release(&t->g);
}

static void send(struct mem *t, const struct virtio_mem_req *q, uint32_t len, uint32_t room)
{
	memcpy(at(&t->g, DATA, sizeof(*q)), q, sizeof(*q));
	memset(at(&t->g, DATA + 4096, ANSWER_LEN), 0xee, ANSWER_LEN);
	put_desc(desc(&t->g, 0, 0), DATA, len, NEXT, 1);
	put_desc(desc(&t->g, 0, 1), DATA + 4096, room, WRITE, 0);
	offer(&t->g, 0, 0);
	kick(&t->g, 0);
}

/* Sends a request about `count` blocks at the guest address `addr`. Returns the answer's type. */
static unsigned ask(struct mem *t, unsigned type, uint64_t addr, unsigned count)
{
	const struct virtio_mem_req q = {.type = htole16((uint16_t)type),
		.u.plug = {.addr = htole64(addr), .nb_blocks = htole16((uint16_t)count)}};
	const unsigned before = used(&t->g, 0)->idx;
	const struct virtio_mem_resp *a = at(&t->g, DATA + 4096, ANSWER_LEN);

	send(t, &q, sizeof(q), ANSWER_LEN);
	assert_false(is_broken(&t->g));
	assert_int_equal(used(&t->g, 0)->idx, before + 1);
	return le16toh(a->type);
}

static unsigned state_of(struct mem *t, unsigned first, unsigned count)
{
	const struct virtio_mem_resp *a = at(&t->g, DATA + 4096, ANSWER_LEN);

	assert_int_equal(
		ask(t, VIRTIO_MEM_REQ_STATE, t->addr + first * BLOCK, count), VIRTIO_MEM_RESP_ACK);
	return le16toh(a->u.state.state);
}

static uint64_t plugged(struct mem *t)
{
	uint64_t requested, n;

	virtio_mem_read(&t->v, &requested, &n);
	return n;
}

static uint8_t *block(struct mem *t, unsigned index)
{
	return vm_memory_at(&t->g.memory, t->addr + index * BLOCK, BLOCK);
}

/* The range follows RAM, at an address at which Linux can add memory, and is no part of RAM. */
static void range(void **state)
{
	struct mem t;

	begin(&t, false);
	assert_int_equal(t.addr, VM_HOLE_END);
	assert_int_equal(le64toh(t.v.config.region_size), BLOCKS * BLOCK);
	assert_int_equal(le64toh(t.v.config.usable_region_size), BLOCKS * BLOCK);
	assert_int_equal(le64toh(t.v.config.block_size), BLOCK);
	assert_int_equal(t.g.memory.size, RIG_RAM);
	assert_non_null(block(&t, BLOCKS - 1));
	assert_null(vm_memory_at(&t.g.memory, t.addr + (BLOCKS - 1) * BLOCK, BLOCK + 1));
	assert_null(vm_memory_at(&t.g.memory, t.addr - 1, 2));
	end(&t);
}

/* The guest gets blocks up to the size that was requested, and unplugged ones are empty again. */
static void plugs_and_unplugs(void **state)
{
	for (int private = 0; private < 2; private ++) {
		struct mem t;

		begin(&t, private);
		assert_int_equal(ask(&t, VIRTIO_MEM_REQ_PLUG, t.addr, 1), VIRTIO_MEM_RESP_NACK);
		const unsigned before = t.g.interrupts;
		virtio_mem_request(&t.v, 3 * BLOCK);
		assert_true(t.g.interrupts > before);
		assert_int_equal(
			ask(&t, VIRTIO_MEM_REQ_PLUG, t.addr + 2 * BLOCK, 2), VIRTIO_MEM_RESP_ACK);
		assert_int_equal(ask(&t, VIRTIO_MEM_REQ_PLUG, t.addr, 2), VIRTIO_MEM_RESP_NACK);
		assert_int_equal(
			ask(&t, VIRTIO_MEM_REQ_PLUG, t.addr + 3 * BLOCK, 1), VIRTIO_MEM_RESP_ERROR);
		assert_int_equal(plugged(&t), 2 * BLOCK);
		assert_int_equal(state_of(&t, 2, 2), VIRTIO_MEM_STATE_PLUGGED);
		assert_int_equal(state_of(&t, 0, 2), VIRTIO_MEM_STATE_UNPLUGGED);
		assert_int_equal(state_of(&t, 1, 2), VIRTIO_MEM_STATE_MIXED);

		memset(block(&t, 2), 7, BLOCK);
		memset(block(&t, 3), 7, BLOCK);
		assert_int_equal(
			ask(&t, VIRTIO_MEM_REQ_UNPLUG, t.addr + 3 * BLOCK, 1), VIRTIO_MEM_RESP_ACK);
		assert_int_equal(block(&t, 3)[0] | block(&t, 3)[BLOCK - 1], 0);
		assert_int_equal(block(&t, 2)[0] & block(&t, 2)[BLOCK - 1], 7);
		assert_int_equal(ask(&t, VIRTIO_MEM_REQ_UNPLUG, t.addr + 2 * BLOCK, 2),
			VIRTIO_MEM_RESP_ERROR);
		assert_int_equal(plugged(&t), BLOCK);
		assert_int_equal(ask(&t, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0), VIRTIO_MEM_RESP_ACK);
		assert_int_equal(plugged(&t), 0);
		assert_int_equal(block(&t, 2)[0], 0);
		end(&t);
	}
}

/* A driver that has not plugged all that was requested learns that it need not go on. */
static void a_request_is_withdrawn(void **state)
{
	struct mem t;

	begin(&t, false);
	virtio_mem_request(&t.v, 3 * BLOCK);
	assert_int_equal(ask(&t, VIRTIO_MEM_REQ_PLUG, t.addr, 1), VIRTIO_MEM_RESP_ACK);
	const unsigned before = t.g.interrupts;
	const uint32_t generation = t.v.dev.generation;
	virtio_mem_request(&t.v, BLOCK);
	assert_true(t.g.interrupts > before);
	assert_int_not_equal(t.v.dev.generation, generation);
	assert_int_equal(ask(&t, VIRTIO_MEM_REQ_PLUG, t.addr + BLOCK, 1), VIRTIO_MEM_RESP_NACK);
	end(&t);
}

/* The host's memory behind a block is free once it is unplugged. */
static void frees_memory(void **state)
{
	struct stat before, after;
	struct mem t;

	begin(&t, false);
	virtio_mem_request(&t.v, BLOCKS * BLOCK);
	assert_int_equal(ask(&t, VIRTIO_MEM_REQ_PLUG, t.addr, BLOCKS), VIRTIO_MEM_RESP_ACK);
	memset(block(&t, 0), 7, BLOCK);
	assert_int_equal(fstat(t.g.memory.fd, &before), 0);
	assert_int_equal(ask(&t, VIRTIO_MEM_REQ_UNPLUG, t.addr, 1), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(fstat(t.g.memory.fd, &after), 0);
	assert_int_equal((before.st_blocks - after.st_blocks) * 512, BLOCK);
	end(&t);
}

/* Each of these requests is answered by an error, and changes nothing. */
static void refused(void **state)
{
	struct mem t;

	begin(&t, false);
	const struct {
		uint64_t addr;
		unsigned count;
	} bad[] = {{t.addr, 0}, {t.addr + 4096, 1}, {t.addr - BLOCK, 1}, {t.addr - BLOCK, 2},
		{0, 1}, {DATA, 1}, {t.addr + BLOCKS * BLOCK, 1}, {t.addr + (BLOCKS - 1) * BLOCK, 2},
		{t.addr, BLOCKS + 1}, {t.addr, UINT16_MAX}, {UINT64_MAX, 1},
		{UINT64_MAX - BLOCK + 1, UINT16_MAX}};
	static const unsigned types[] = {
		VIRTIO_MEM_REQ_PLUG, VIRTIO_MEM_REQ_UNPLUG, VIRTIO_MEM_REQ_STATE};

	virtio_mem_request(&t.v, BLOCKS * BLOCK);
	assert_int_equal(ask(&t, VIRTIO_MEM_REQ_PLUG, t.addr, 1), VIRTIO_MEM_RESP_ACK);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		for (size_t k = 0; k < ARRAY_SIZE(types); k++)
			assert_int_equal(ask(&t, types[k], bad[i].addr, bad[i].count),
				VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(ask(&t, 4, t.addr, 1), VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(ask(&t, UINT16_MAX, t.addr, 1), VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(plugged(&t), BLOCK);
	end(&t);
}

/* A request that is too short, or has no room for the answer, makes the device need a reset. */
static void broken(void **state)
{
	static const uint32_t lengths[][2] = {{23, ANSWER_LEN}, {24, ANSWER_LEN - 1}};

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		const struct virtio_mem_req q = {.type = htole16(VIRTIO_MEM_REQ_UNPLUG_ALL)};
		struct mem t;

		begin(&t, false);
		virtio_mem_request(&t.v, BLOCK);
		assert_int_equal(ask(&t, VIRTIO_MEM_REQ_PLUG, t.addr, 1), VIRTIO_MEM_RESP_ACK);
		send(&t, &q, lengths[i][0], lengths[i][1]);
		assert_true(is_broken(&t.g));
		bring_up(&t.g, 0); /* a reset keeps what is plugged */
		assert_int_equal(plugged(&t), BLOCK);
		assert_int_equal(state_of(&t, 0, 1), VIRTIO_MEM_STATE_PLUGGED);
		end(&t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(range),
		cmocka_unit_test(plugs_and_unplugs),
		cmocka_unit_test(a_request_is_withdrawn),
		cmocka_unit_test(frees_memory),
		cmocka_unit_test(refused),
		cmocka_unit_test(broken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
