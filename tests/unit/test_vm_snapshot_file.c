/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the reader of snapshots with files that are damaged, cut, of other versions or hostile,
 * and the devices' state without KVM.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/crc32c.h"
#include "unit/rig/virtio.h"
#include "vm/snapshot/memory.h"
#include "vm/virtio/mem.h"

#define OK(call) \
	do { \
		if ((call) < 0) \
			fail_msg("%s: %s", #call, err_msg()); \
	} while (0)

static void expect_error(int r, int expected, const char *text)
{
	assert_int_equal(r, expected);
	if (!strstr(err_msg(), text))
		fail_msg("the message is: %s", err_msg());
}

/*
 * Makes a snapshot's file with three sections. The first section is empty, and the second one needs
 * padding.
 */
static void make_file(struct snapshot_writer *w)
{
	OK(snapshot_begin(w));
	OK(snapshot_section(w, SNAPSHOT_SHAPE, 0));
	OK(snapshot_section(w, SNAPSHOT_VCPU, 1));
	OK(snapshot_put(w, "abcdefg", 3));
	OK(snapshot_put(w, "defgh", 5));
	OK(snapshot_put(w, "ijk", 3));
	OK(snapshot_section(w, SNAPSHOT_DEVICE, 7));
	OK(snapshot_put(w, "12345678", 8));
	OK(snapshot_finish(w));
}

static void sections(void **state)
{
	struct snapshot_writer w;
	struct snapshot s;
	struct snapshot_part p;
	char text[16] = {0};

	make_file(&w);
	OK(snapshot_open(&s, w.bytes.s, w.bytes.len));
	OK(snapshot_find(&s, SNAPSHOT_VCPU, 1, &p));
	OK(snapshot_get(&p, text, 4));
	expect_error(snapshot_end(&p), -EBADMSG, "\"vcpu\" has 7 bytes too many");
	OK(snapshot_get(&p, text + 4, 7));
	assert_string_equal(text, "abcdefghijk");
	OK(snapshot_end(&p));
	expect_error(snapshot_get(&p, text, 1), -EBADMSG, "\"vcpu\" ends too early: 0 bytes");
	OK(snapshot_find(&s, SNAPSHOT_SHAPE, 0, &p));
	OK(snapshot_end(&p));
	expect_error(snapshot_find(&s, SNAPSHOT_VCPU, 0, &p), -EBADMSG, "no section \"vcpu\" 0");
	snapshot_release(&w);
}

static void every_bit(void **state)
{
	struct snapshot_writer w;
	struct snapshot s;

	make_file(&w);
	for (size_t bit = 0; bit < w.bytes.len * 8; bit++) {
		w.bytes.s[bit / 8] ^= (char)(1 << bit % 8);
		if (snapshot_open(&s, w.bytes.s, w.bytes.len) >= 0)
			fail_msg("bit %zu of byte %zu can change", bit % 8, bit / 8);
		assert_true(*err_msg() && !strchr(err_msg(), '\n'));
		w.bytes.s[bit / 8] ^= (char)(1 << bit % 8);
	}
	OK(snapshot_open(&s, w.bytes.s, w.bytes.len));
	snapshot_release(&w);
}

static void every_length(void **state)
{
	struct snapshot_writer w;
	struct snapshot s;

	make_file(&w);
	for (size_t len = 0; len < w.bytes.len; len++) {
		/*
		 * The test reads a copy that has exactly this length, so that AddressSanitizer sees
		 * a read beyond the end.
		 */
		char *cut = malloc(len ? len : 1);

		assert_non_null(cut);
		memcpy(cut, w.bytes.s, len);
		assert_int_equal(snapshot_open(&s, cut, len), -EBADMSG);
		free(cut);
	}
	OK(strbuf_add(&w.bytes, "more", 4));
	expect_error(snapshot_open(&s, w.bytes.s, w.bytes.len), -EBADMSG, "and says that it has");
	snapshot_release(&w);
}

/*
 * Corrects a checksum of the snapshot's file: the checksum of the file's header if `at` is 0, or
 * else of the section whose header is at `at`.
 */
static void reseal(struct snapshot_writer *w, size_t at, size_t len)
{
	char *p = w->bytes.s + at;
	uint32_t crc = at == 0 ? crc32c(0, p, 28) : crc32c(crc32c(0, p, 12), p + 16, len);

	memcpy(p + (at == 0 ? 28 : 12), &crc, sizeof(crc));
}

static void put32(struct snapshot_writer *w, size_t at, uint32_t v)
{
	memcpy(w->bytes.s + at, &v, sizeof(v));
}

static void versions(void **state)
{
	struct snapshot_writer w;
	struct snapshot s;

	make_file(&w);
	put32(&w, 8, SNAPSHOT_FORMAT + 1);
	expect_error(snapshot_open(&s, w.bytes.s, w.bytes.len), -ENOTSUP,
		"has format 3: this caisson reads formats 1 to 2");
	put32(&w, 8, 0);
	expect_error(snapshot_open(&s, w.bytes.s, w.bytes.len), -ENOTSUP, "has format 0");
	for (uint32_t format = SNAPSHOT_FORMAT_OLDEST; format <= SNAPSHOT_FORMAT; format++) {
		put32(&w, 8, format);
		reseal(&w, 0, 0);
		OK(snapshot_open(&s, w.bytes.s, w.bytes.len));
	}
	put32(&w, 12, MACHINE_ABI + 1);
	reseal(&w, 0, 0);
	expect_error(
		snapshot_open(&s, w.bytes.s, w.bytes.len), -ENOTSUP, "is of machine version 4");
	put32(&w, 12, MACHINE_ABI_OLDEST - 1);
	reseal(&w, 0, 0);
	expect_error(snapshot_open(&s, w.bytes.s, w.bytes.len), -ENOTSUP,
		"is of machine version 1: this caisson has machine versions 2 to 3");
	for (uint32_t abi = MACHINE_ABI_OLDEST; abi <= MACHINE_ABI; abi++) {
		put32(&w, 12, abi);
		reseal(&w, 0, 0);
		OK(snapshot_open(&s, w.bytes.s, w.bytes.len));
		assert_int_equal(s.abi, abi);
	}
	put32(&w, 0, 0);
	expect_error(snapshot_open(&s, w.bytes.s, w.bytes.len), -EBADMSG, "is no snapshot");
	snapshot_release(&w);
}

/*
 * Checks that a snapshot's file with right checksums is refused if the header of a section is
 * wrong.
 */
static void hostile_sections(void **state)
{
	struct snapshot_writer w;
	struct snapshot s;

	make_file(&w);
	put32(&w, 32 + 8, 0xfffffff8); /* the section is now longer than the file */
	reseal(&w, 32, 0);
	expect_error(
		snapshot_open(&s, w.bytes.s, w.bytes.len), -EBADMSG, "a section of 4294967288");
	/* A length is rounded up for padding, and must not become 0 by that in 32 bits. */
	put32(&w, 32 + 8, 0xffffffff);
	reseal(&w, 32, 0);
	expect_error(
		snapshot_open(&s, w.bytes.s, w.bytes.len), -EBADMSG, "a section of 4294967295");
	put32(&w, 32 + 8, 0);
	put32(&w, 32, SNAPSHOT_KINDS);
	reseal(&w, 32, 0);
	expect_error(snapshot_open(&s, w.bytes.s, w.bytes.len), -EBADMSG, "section 0 is of kind");
	/* The first section gets the same kind and index as the second section. */
	put32(&w, 32, SNAPSHOT_VCPU);
	put32(&w, 36, 1);
	reseal(&w, 32, 0);
	expect_error(snapshot_open(&s, w.bytes.s, w.bytes.len), -EBADMSG, "section 1 is of kind");
	put32(&w, 32, SNAPSHOT_SHAPE);
	reseal(&w, 32, 0);
	put32(&w, 24, 2); /* this is the number of sections */
	reseal(&w, 0, 0);
	expect_error(
		snapshot_open(&s, w.bytes.s, w.bytes.len), -EBADMSG, "behind its last section");
	put32(&w, 24, 0xffffffff);
	reseal(&w, 0, 0);
	expect_error(snapshot_open(&s, w.bytes.s, w.bytes.len), -EBADMSG, "in a section's header");
	snapshot_release(&w);
}

static void save_device(struct rig *g, struct snapshot_writer *w)
{
	OK(snapshot_begin(w));
	OK(snapshot_section(w, SNAPSHOT_DEVICE, 0));
	OK(virtio_mmio_save(&g->mmio, w));
	OK(snapshot_finish(w));
}

static int load_device(struct rig *g, const struct snapshot_writer *w)
{
	struct snapshot s;
	struct snapshot_part p;

	OK(snapshot_open(&s, w->bytes.s, w->bytes.len));
	OK(snapshot_find(&s, SNAPSHOT_DEVICE, 0, &p));
	return virtio_mmio_load(&g->mmio, &p);
}

/*
 * Checks the snapshot of a console that has written only a part of a request. The console that is
 * restored from the snapshot must write only the rest of this request.
 */
static void console_in_the_middle(void **state)
{
	static char data[3 << 20];
	struct virtio_console a, b;
	struct rig g, other;
	struct snapshot_writer w;
	int out[2];

	assert_int_equal(pipe2(out, O_CLOEXEC | O_NONBLOCK), 0);
	rig_memory(&g);
	virtio_console_init(&a, &g.memory, -EBADF, out[1]);
	rig_attach(&g, &a.dev);
	bring_up(&g, EVENT);
	const uint32_t len = 200000;
	for (uint32_t i = 0; i < len; i++)
		*(char *)at(&g, DATA + i, 1) = (char)(i % 251);
	put_desc(desc(&g, 1, 0), DATA, len, 0, 0);
	offer(&g, 1, 0);
	kick(&g, 1);
	assert_true(a.sending && a.sent > 0 && a.sent < len);
	save_device(&g, &w);
	ssize_t first = read(out[0], data, sizeof(data));
	assert_true(first > 0 && first < (ssize_t)len);
	/* The restored console uses the same guest memory as the console that was saved. */
	other = (struct rig){.memory = g.memory};
	virtio_console_init(&b, &other.memory, -EBADF, out[1]);
	rig_attach(&other, &b.dev);
	OK(load_device(&other, &w));
	ssize_t n, done = first;
	while (virtio_kick(&b.dev, 1) >= 0 && (n = read(out[0], data + done, len)) > 0)
		done += n;
	assert_int_equal(done, len);
	for (uint32_t i = 0; i < len; i++)
		assert_int_equal(data[i], (char)(i % 251));
	assert_int_equal(used(&other, 1)->idx, 1);
	/*
	 * The console that was saved has ended its request too, because saving its state does not
	 * stop it.
	 */
	assert_false(a.sending);
	snapshot_release(&w);
	virtio_release(&b.dev);
	rig_release(&g);
	close(out[0]);
	close(out[1]);
}

static void bad_devices(void **state)
{
	struct virtio_rng a, b;
	struct rig g, other;
	struct snapshot_writer w;

	rig_memory(&g);
	virtio_rng_init(&a, &g.memory);
	rig_attach(&g, &a.dev);
	bring_up(&g, 0);
	save_device(&g, &w);
	const size_t start = 32 + 16, device = start + 16, queue = device + 32;
	const struct {
		size_t at;
		uint32_t value;
		int error;
		const char *text;
	} cases[] = {
		{start, 4, -EBADMSG, "rng: interrupt status 0x4"},
		{device, VIRTIO_ID_BLOCK, -ENOTSUP, "device of type 2 with 1 queues"},
		{device + 4, 2, -ENOTSUP, "device of type 4 with 2 queues"},
		{device + 8, 0x1f, -EBADMSG, "status 0x1f"},
		{device + 8, 0x7, -EBADMSG, "status 0x7: the driver is ready without features"},
		{device + 24, 0x10, -ENOTSUP, "does not offer 0x10"},
		{queue + 24, 3, -EINVAL, "queue size 3"},
		{queue, 0xfffffff0, -EINVAL, "descriptor ring at"},
		{queue, 8, -EINVAL, "descriptor ring at"},
		{queue + 16, (uint32_t)RIG_RAM, -EINVAL, "used ring at"},
		{queue + 32, 2, -EBADMSG, "the state of a queue is not possible"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint32_t before;

		memcpy(&before, w.bytes.s + cases[i].at, sizeof(before));
		put32(&w, cases[i].at, cases[i].value);
		reseal(&w, 32, w.bytes.len - 48);
		other = (struct rig){.memory = g.memory};
		virtio_rng_init(&b, &other.memory);
		rig_attach(&other, &b.dev);
		expect_error(load_device(&other, &w), cases[i].error, cases[i].text);
		virtio_release(&b.dev);
		put32(&w, cases[i].at, before);
	}
	snapshot_release(&w);
	rig_release(&g);
}

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
		cmocka_unit_test(sections),
		cmocka_unit_test(every_bit),
		cmocka_unit_test(every_length),
		cmocka_unit_test(versions),
		cmocka_unit_test(hostile_sections),
		cmocka_unit_test(console_in_the_middle),
		cmocka_unit_test(bad_devices),
		cmocka_unit_test(memory_is_sparse),
		cmocka_unit_test(blocks_restored),
		cmocka_unit_test(hostile_blocks),
		cmocka_unit_test(added_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
