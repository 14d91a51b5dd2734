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

#include "unit/rig/snapshot.h"

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

static void versions(void **state)
{
	struct snapshot_writer w;
	struct snapshot s;

	make_file(&w);
	put32(&w, 8, SNAPSHOT_FORMAT + 1);
	expect_error(snapshot_open(&s, w.bytes.s, w.bytes.len), -ENOTSUP,
		"has format 4: this caisson reads formats 1 to 3");
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
