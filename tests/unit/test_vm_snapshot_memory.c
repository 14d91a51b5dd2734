/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the guest memory of a snapshot without KVM: the file, and the memory that was added while
 * the machine ran.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "unit/rig/snapshot.h"
#include "vm/virtio/mem.h"

static void memory_is_sparse(void **state)
{
	const struct vm_memory_options o = {.size = 64 << 20};
	_cleanup_fd_ int file = memfd_create("memory", MFD_CLOEXEC);
	struct vm_memory a, b;
	struct snapshot_writer w;
	struct snapshot s;
	struct stat st;

	OK(vm_memory_init(&a, &o));
	memset(vm_memory_at(&a, 0x3000, 5000), 7, 5000);
	memset(vm_memory_at(&a, 0x3fff000, 4096), 9, 4096);
	/* a page that the guest has written, and that is still zero */
	memset(vm_memory_at(&a, 0x200000, 4096), 0, 4096);
	OK(snapshot_begin(&w));
	OK(snapshot_save_memory(&w, &a, 0, file));
	OK(snapshot_finish(&w));
	assert_int_equal(fstat(file, &st), 0);
	assert_int_equal(st.st_size, 64 << 20);
	assert_int_equal(st.st_blocks, 3 * 8);
	OK(snapshot_open(&s, w.bytes.s, w.bytes.len));
	OK(vm_memory_init(&b, &o));
	OK(snapshot_load_memory(&s, &b, file));
	assert_memory_equal(vm_memory_at(&a, 0, 0x10000), vm_memory_at(&b, 0, 0x10000), 0x10000);
	assert_memory_equal(
		vm_memory_at(&a, 0x3fff000, 4096), vm_memory_at(&b, 0x3fff000, 4096), 4096);
	/*
	 * The memory that was loaded must have only the pages that the comparison above has
	 * touched, because the rest of the file consists of holes.
	 */
	assert_int_equal(fstat(b.fd, &st), 0);
	assert_true(st.st_blocks <= 16 * 8 + 8);
	vm_memory_release(&b);
	OK(vm_memory_init(&b, &(struct vm_memory_options){.size = 64 << 20, .file = file}));
	OK(snapshot_load_memory(&s, &b, file));
	memset(vm_memory_at(&b, 0x3000, 4096), 1, 4096);
	vm_memory_release(&b);
	OK(vm_memory_init(&b, &(struct vm_memory_options){.size = 64 << 20, .file = file}));
	/*
	 * The write above went to the memory of another machine and has not changed the file, so
	 * the file's checksums are still right and loading succeeds again.
	 */
	OK(snapshot_load_memory(&s, &b, file));
	vm_memory_release(&b);
	expect_error(
		vm_memory_init(&b, &(struct vm_memory_options){.size = 66 << 20, .file = file}),
		-EBADMSG, "the file with guest memory has 67108864 bytes");
	vm_memory_release(&a);
	snapshot_release(&w);
}

/* --- memory that was added while the machine ran --- */

#define BLOCK VIRTIO_MEM_BLOCK
#define BLOCKS 11 /* of the hot region */

/* Sends the request about `count` blocks, of which `first` is the first one. */
static void ask_for(struct rig *g, unsigned type, unsigned first, unsigned count)
{
	const uint64_t addr = vm_memory_hot(&g->memory)->guest + first * BLOCK;
	const struct virtio_mem_req q = {
		.type = (uint16_t)type, .u.plug = {.addr = addr, .nb_blocks = (uint16_t)count}};
	const struct virtio_mem_resp *a = at(g, DATA + 4096, sizeof(*a));

	memcpy(at(g, DATA, sizeof(q)), &q, sizeof(q));
	put_desc(desc(g, 0, 0), DATA, sizeof(q), NEXT, 1);
	put_desc(desc(g, 0, 1), DATA + 4096, 10, WRITE, 0);
	offer(g, 0, 0);
	kick(g, 0);
	assert_int_equal(a->type, VIRTIO_MEM_RESP_ACK);
}

static void begin_mem(struct rig *g, struct virtio_mem *v)
{
	rig_memory_with(g, BLOCKS * BLOCK);
	OK(virtio_mem_init(v, &g->memory));
	rig_attach(g, &v->dev);
	bring_up(g, 0);
}

static void end_mem(struct rig *g, struct virtio_mem *v)
{
	virtio_mem_release(v);
	rig_release(g);
}

/* Makes a snapshot of a device that was asked for five blocks and has the second and the eighth. */
static void save_blocks(struct rig *g, struct virtio_mem *v, struct snapshot_writer *w)
{
	begin_mem(g, v);
	save_device(g, w);
	assert_int_equal(w->format, SNAPSHOT_FORMAT_OLDEST);
	snapshot_release(w);
	virtio_mem_request(v, 5 * BLOCK);
	ask_for(g, VIRTIO_MEM_REQ_PLUG, 1, 1);
	ask_for(g, VIRTIO_MEM_REQ_PLUG, 7, 1);
	save_device(g, w);
	assert_int_equal(w->format, SNAPSHOT_FORMAT_ADDED);
}

/* A device that is loaded has the same blocks, and goes on where the saved one was. */
static void blocks_restored(void **state)
{
	uint64_t requested, plugged;
	struct virtio_mem a, b;
	struct rig g, other;
	struct snapshot_writer w;

	save_blocks(&g, &a, &w);
	begin_mem(&other, &b);
	memcpy(at(&other, 0, RIG_RAM), at(&g, 0, RIG_RAM), RIG_RAM);
	assert_int_equal(virtio_mem_end(&b), 0);
	OK(load_device(&other, &w));
	virtio_mem_read(&b, &requested, &plugged);
	assert_int_equal(requested, 5 * BLOCK);
	assert_int_equal(plugged, 2 * BLOCK);
	assert_int_equal(virtio_mem_end(&b), 8 * BLOCK);
	ask_for(&other, VIRTIO_MEM_REQ_UNPLUG, 7, 1);
	ask_for(&other, VIRTIO_MEM_REQ_PLUG, 2, 4);
	assert_int_equal(virtio_mem_end(&b), 6 * BLOCK);
	snapshot_release(&w);
	end_mem(&other, &b);
	end_mem(&g, &a);
}

static void hostile_blocks(void **state)
{
	struct virtio_mem a, b;
	struct rig g, other;
	struct snapshot_writer w;

	save_blocks(&g, &a, &w);
	/* The section ends with the configuration and two bytes of bits. */
	uint32_t len;
	memcpy(&len, w.bytes.s + 32 + 8, sizeof(len));
	const size_t bits = 48 + len - 2, config = bits - sizeof(struct virtio_mem_config);
	const struct {
		size_t at;
		uint32_t value;
		int error;
		const char *text;
	} cases[] = {
		{bits, 0x0083, -EBADMSG, "the guest has 3 blocks of memory, and 4194304 bytes"},
		{bits, 0x0000, -EBADMSG, "the guest has 0 blocks of memory"},
		{bits, 0x0882, -EBADMSG, "of which there are 11"},
		{bits, 0x8082, -EBADMSG, "of which there are 11"},
		{config + 40, 0, -EBADMSG, "the guest has 2 blocks of memory, and 0 bytes"},
		{config + 40, 1 << 22 | 1, -EBADMSG, "and 4194305 bytes"},
		{config + 48, BLOCK + 4096, -EBADMSG, "2101248 bytes of memory were requested"},
		{config + 48, 12 * BLOCK, -EBADMSG, "25165824 bytes of memory were requested"},
		{config + 52, 1, -EBADMSG, "bytes of memory were requested"},
		{config, 4096, -ENOTSUP, "room for 22 MiB more memory: this one has room for 22"},
		{config + 20, 2, -ENOTSUP, "room for 22 MiB more memory"},
		{config + 24, 12 * BLOCK, -ENOTSUP, "room for 24 MiB more memory"},
		{32 + 8, len - 1, -EBADMSG, "ends too early: 1 bytes are left, expected 2"},
		{32 + 8, len + 1, -EBADMSG, "has 1 bytes too many"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint32_t before;

		memcpy(&before, w.bytes.s + cases[i].at, sizeof(before));
		put32(&w, cases[i].at, cases[i].value);
		reseal(&w, 32, w.bytes.len - 48);
		begin_mem(&other, &b);
		expect_error(load_device(&other, &w), cases[i].error, cases[i].text);
		/* Only the last case has loaded anything. */
		assert_true(virtio_mem_end(&b) == 0 || i == ARRAY_SIZE(cases) - 1);
		end_mem(&other, &b);
		put32(&w, cases[i].at, before);
	}
	snapshot_release(&w);
	end_mem(&g, &a);
}

/* The file of guest memory has the hot region too, up to the last block that the guest has. */
static void added_memory(void **state)
{
	const struct vm_memory_options o = {.size = 8 << 20, .hot = 8 << 20};
	_cleanup_fd_ int file = memfd_create("memory", MFD_CLOEXEC);
	struct vm_memory a, b;
	struct snapshot_writer w;
	struct snapshot s;
	struct stat st;
	uint64_t added, none;

	OK(vm_memory_init(&a, &o));
	const uint64_t hot = vm_memory_hot(&a)->guest;
	memset(vm_memory_at(&a, 0x3000, 4096), 7, 4096);
	memset(vm_memory_at(&a, hot + 3 * BLOCK - 4096, 4096), 9, 4096);
	OK(snapshot_begin(&w));
	OK(snapshot_save_memory(&w, &a, 3 * BLOCK, file));
	OK(snapshot_finish(&w));
	assert_int_equal(fstat(file, &st), 0);
	assert_int_equal(st.st_size, 14 << 20);
	assert_int_equal(st.st_blocks, 2 * 8);
	OK(snapshot_open(&s, w.bytes.s, w.bytes.len));
	OK(snapshot_read_added(&s, o.size, o.hot, &added));
	assert_int_equal(added, 3 * BLOCK);
	expect_error(snapshot_read_added(&s, o.size, 2 * BLOCK, &none), -EBADMSG,
		"checksums of 14680064 bytes of guest memory: expected 8388608, and up to 4194304");
	expect_error(
		snapshot_read_added(&s, 16 << 20, o.hot, &none), -EBADMSG, "expected 16777216");
	for (int mapped = 0; mapped < 2; mapped++) {
		struct vm_memory_options how = o;

		how.file = mapped ? file : 0;
		how.file_hot = mapped ? added : 0;
		OK(vm_memory_init(&b, &how));
		OK(snapshot_load_memory(&s, &b, file));
		assert_memory_equal(
			vm_memory_at(&a, hot, o.hot), vm_memory_at(&b, hot, o.hot), o.hot);
		/* The rest of the hot region is no part of the file, and can be used. */
		memset(vm_memory_at(&b, hot, o.hot), 5, o.hot);
		vm_memory_release(&b);
	}
	assert_int_equal(ftruncate(file, (14 << 20) - 4096), 0);
	OK(vm_memory_init(&b, &o));
	expect_error(snapshot_load_memory(&s, &b, file), -EBADMSG, "has 14675968 bytes");
	vm_memory_release(&b);
	struct vm_memory_options short_file = o;
	short_file.file = file;
	short_file.file_hot = added;
	expect_error(
		vm_memory_init(&b, &short_file), -EBADMSG, "has 14675968 bytes: expected 14680064");
	short_file.file_hot = o.hot + BLOCK;
	expect_error(vm_memory_init(&b, &short_file), -EINVAL, "up to 8388608");
	vm_memory_release(&a);
	snapshot_release(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_is_sparse),
		cmocka_unit_test(blocks_restored),
		cmocka_unit_test(hostile_blocks),
		cmocka_unit_test(added_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
