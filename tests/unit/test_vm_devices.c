/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the entropy, console and disk devices behind the mmio transport, with good and bad
 * requests. The tests use plain memory and no KVM.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/mman.h>

#include "unit/rig/virtio.h"

#define SECTORS 64

/*
 * Offers one request in queue q: first the bytes that the device is to read, then room for in_len
 * bytes at DATA + 0x10000.
 */
static void ask(struct rig *g, unsigned q, const void *out, uint32_t out_len, uint32_t in_len)
{
	if (out_len)
		memcpy(at(g, DATA, out_len), out, out_len);
	put_desc(desc(g, q, 0), DATA, out_len, in_len ? NEXT : 0, 1);
	put_desc(desc(g, q, 1), DATA + 0x10000, in_len, WRITE, 0);
	offer(g, q, 0);
	kick(g, q);
}

static void entropy(void **state)
{
	struct rig g;
	struct virtio_rng rng;

	rig_memory(&g);
	virtio_rng_init(&rng, &g.memory);
	rig_attach(&g, &rng.dev);
	bring_up(&g, 0);
	/*
	 * The device may fill only a part of the buffer, and must fill only VIRTIO_RNG_MAX bytes of
	 * this buffer of 2 MiB (Firecracker #5762).
	 */
	put_desc(desc(&g, 0, 0), 0x200000, 0x200000, WRITE, 0);
	offer(&g, 0, 0);
	kick(&g, 0);
	assert_int_equal(used(&g, 0)->ring[0].len, VIRTIO_RNG_MAX);
	static const char zeros[16];
	assert_memory_equal(at(&g, 0x200000 + VIRTIO_RNG_MAX, 16), zeros, 16);
	assert_memory_not_equal(at(&g, 0x200000 + VIRTIO_RNG_MAX - 16, 16), zeros, 16);
	/*
	 * A request for entropy that has a readable buffer, or no writable one, must break the
	 * device.
	 */
	ask(&g, 0, "x", 1, 8);
	assert_non_null(strstr(rng.dev.broken, "rng: queue 0: a request for entropy without room"));
	bring_up(&g, 0);
	put_desc(desc(&g, 0, 0), DATA, 0, WRITE, 0);
	offer(&g, 0, 0);
	kick(&g, 0);
	assert_true(is_broken(&g));
	assert_int_equal(used(&g, 0)->idx, 0);
	rig_release(&g);
}

struct tty {
	struct rig g;
	struct virtio_console c;
	int in[2], out[2];
};

static void tty_init(struct tty *t)
{
	assert_int_equal(pipe2(t->in, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(pipe2(t->out, O_CLOEXEC | O_NONBLOCK), 0);
	rig_memory(&t->g);
	virtio_console_init(&t->c, &t->g.memory, t->in[0], t->out[1]);
	rig_attach(&t->g, &t->c.dev);
	bring_up(&t->g, 0);
}

static void tty_release(struct tty *t)
{
	rig_release(&t->g);
	for (int i = 0; i < 2; i++) {
		fd_close(&t->in[i]);
		fd_close(&t->out[i]);
	}
}

static void console_output(void **state)
{
	struct tty t;
	char text[16] = "";

	tty_init(&t);
	memcpy(at(&t.g, DATA, 5), "hello", 5);
	put_desc(desc(&t.g, 1, 0), DATA, 2, NEXT, 1);
	put_desc(desc(&t.g, 1, 1), DATA + 2, 3, 0, 0);
	offer(&t.g, 1, 0);
	kick(&t.g, 1);
	assert_int_equal(read(t.out[0], text, sizeof(text)), 5);
	assert_string_equal(text, "hello");
	assert_int_equal(used(&t.g, 1)->idx, 1);
	/*
	 * This output does not fit in the pipe at once. The device must answer the request only
	 * when it has written all bytes, in order.
	 */
	const uint32_t big = 0x100000;
	uint8_t *data = at(&t.g, 0x200000, big);
	for (uint32_t i = 0; i < big; i++)
		data[i] = (uint8_t)(i * 7 + (i >> 9));
	put_desc(desc(&t.g, 1, 0), 0x200000, big, 0, 0);
	offer(&t.g, 1, 0);
	kick(&t.g, 1);
	assert_int_equal(used(&t.g, 1)->idx, 1);
	assert_true(virtio_console_wants_output(&t.c));
	_cleanup_free_ uint8_t *got = malloc(big);
	for (uint32_t done = 0; done < big;) {
		ssize_t n = read(t.out[0], got + done, big - done);
		if (n < 0)
			assert_int_equal(virtio_console_output(&t.c), 0);
		else
			done += (uint32_t)n;
	}
	assert_memory_equal(got, data, big);
	assert_int_equal(used(&t.g, 1)->idx, 2);
	assert_false(virtio_console_wants_output(&t.c));
	/*
	 * The device must drop a request in the middle of which it is reset, and must work with the
	 * next driver from the beginning.
	 */
	offer(&t.g, 1, 0);
	kick(&t.g, 1);
	assert_true(virtio_console_wants_output(&t.c));
	bring_up(&t.g, 0);
	assert_false(virtio_console_wants_output(&t.c));
	assert_int_equal(virtio_console_output(&t.c), 0);
	assert_int_equal(used(&t.g, 1)->idx, 0);
	tty_release(&t);
}

static void console_without_reader(void **state)
{
	struct tty t;

	tty_init(&t);
	signal(SIGPIPE, SIG_IGN);
	fd_close(&t.out[0]);
	ask(&t.g, 1, "gone", 4, 0);
	assert_int_equal(used(&t.g, 1)->idx, 1);
	t.c.out = -EBADF;
	ask(&t.g, 1, "gone", 4, 0);
	assert_int_equal(used(&t.g, 1)->idx, 2);
	assert_false(is_broken(&t.g));
	ask(&t.g, 1, "x", 1, 1);
	assert_true(is_broken(&t.g));
	assert_non_null(strstr(t.c.dev.broken, "console output with a buffer to write to"));
	tty_release(&t);
}

static void console_input(void **state)
{
	struct tty t;

	tty_init(&t);
	assert_true(virtio_console_wants_input(&t.c));
	assert_int_equal(write(t.in[1], "abcdef", 6), 6);
	assert_int_equal(virtio_console_input(&t.c), 0);
	/*
	 * The event loop must not poll the console's input now, because the guest has offered no
	 * buffer for it.
	 */
	assert_false(virtio_console_wants_input(&t.c));
	put_desc(desc(&t.g, 0, 0), DATA, 4, WRITE, 0);
	put_desc(desc(&t.g, 0, 1), DATA + 4, 4, WRITE, 0);
	put_desc(desc(&t.g, 0, 2), DATA + 8, 4, WRITE, 0);
	for (unsigned i = 0; i < 3; i++)
		offer(&t.g, 0, i);
	kick(&t.g, 0);
	assert_int_equal(used(&t.g, 0)->idx, 2);
	assert_int_equal(used(&t.g, 0)->ring[0].len, 4);
	assert_int_equal(used(&t.g, 0)->ring[1].len, 2);
	assert_memory_equal(at(&t.g, DATA, 6), "abcdef", 6);
	/*
	 * The device has used only two of the guest's three buffers, because there was no more
	 * input. It must keep the third one in the queue, for the next input.
	 */
	assert_true(virtio_console_wants_input(&t.c));
	assert_int_equal(write(t.in[1], "g", 1), 1);
	virtio_console_input(&t.c);
	assert_int_equal(used(&t.g, 0)->idx, 3);
	assert_int_equal(used(&t.g, 0)->ring[2].id, 2);
	assert_memory_equal(at(&t.g, DATA + 8, 1), "g", 1);
	/*
	 * At the end of the console's input the event loop must not poll the input any more,
	 * because it would spin.
	 */
	offer(&t.g, 0, 0);
	fd_close(&t.in[1]);
	virtio_console_input(&t.c);
	assert_false(virtio_console_wants_input(&t.c));
	assert_int_equal(used(&t.g, 0)->idx, 3);
	tty_release(&t);
}

struct disk {
	struct rig g;
	struct virtio_blk b;
	struct blk_file file;
	int fd;
};

static void disk_init(struct disk *d, bool read_only)
{
	d->fd = memfd_create("disk", MFD_CLOEXEC);
	/*
	 * The length of the image is no multiple of a sector, so that it ends with a part of a
	 * sector.
	 */
	assert_int_equal(ftruncate(d->fd, SECTORS * 512 + 100), 0);
	for (unsigned i = 0; i < SECTORS; i++) {
		char sector[512];
		memset(sector, (int)i + 1, sizeof(sector));
		assert_int_equal(pwrite(d->fd, sector, 512, i * 512), 512);
	}
	rig_memory(&d->g);
	const struct virtio_blk_options o = {.serial = "serial-0123456789-abc"};
	if (blk_file_init(&d->file, d->fd, read_only) < 0 ||
		virtio_blk_init(&d->b, &d->g.memory, &d->file.image, &o) < 0)
		fail_msg("%s", err_msg());
	rig_attach(&d->g, &d->b.dev);
	bring_up(&d->g, d->b.dev.features);
}

static void disk_release(struct disk *d)
{
	virtio_blk_release(&d->b);
	rig_release(&d->g);
	fd_close(&d->fd);
}

struct blk_request {
	uint32_t type, reserved;
	uint64_t sector;
	uint8_t data[0x8000];
};

/* Sends one request and returns its status byte. The device must answer every request. */
static int blk(struct disk *d, uint32_t type, uint64_t sector, const void *data, uint32_t len)
{
	struct blk_request r = {.type = type, .sector = sector};
	bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
	uint32_t in_len = 1 + (in ? len : 0);
	uint16_t before = used(&d->g, 0)->idx;

	if (!in && len)
		memcpy(r.data, data, len);
	memset(at(&d->g, DATA + 0x10000, in_len), 0xee, in_len);
	ask(&d->g, 0, &r, 16 + (in ? 0 : len), in_len);
	assert_int_equal(used(&d->g, 0)->idx, (uint16_t)(before + 1));
	return *(uint8_t *)at(&d->g, DATA + 0x10000 + in_len - 1, 1);
}

static int on_disk(struct disk *d, unsigned sector)
{
	uint8_t byte[2];

	assert_int_equal(pread(d->fd, &byte[0], 1, sector * 512), 1);
	assert_int_equal(pread(d->fd, &byte[1], 1, sector * 512 + 511), 1);
	assert_int_equal(byte[0], byte[1]);
	return byte[0];
}

static void disk_read_write(void **state)
{
	struct disk d;
	char data[1024];

	disk_init(&d, false);
	assert_int_equal(blk(&d, VIRTIO_BLK_T_IN, 5, NULL, 1024), VIRTIO_BLK_S_OK);
	assert_int_equal(*(uint8_t *)at(&d.g, DATA + 0x10000 + 511, 1), 6);
	assert_int_equal(*(uint8_t *)at(&d.g, DATA + 0x10000 + 1023, 1), 7);
	assert_int_equal(used(&d.g, 0)->ring[0].len, 1025);
	memset(data, 0xaa, sizeof(data));
	assert_int_equal(blk(&d, VIRTIO_BLK_T_OUT, 9, data, 1024), VIRTIO_BLK_S_OK);
	assert_int_equal(on_disk(&d, 8), 9);
	assert_int_equal(on_disk(&d, 9), 0xaa);
	assert_int_equal(on_disk(&d, 10), 0xaa);
	assert_int_equal(on_disk(&d, 11), 12);
	assert_int_equal(blk(&d, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(blk(&d, VIRTIO_BLK_T_GET_ID, 0, NULL, 20), VIRTIO_BLK_S_OK);
	assert_memory_equal(at(&d.g, DATA + 0x10000, 20), "serial-0123456789-ab", 20);
	assert_int_equal(blk(&d, VIRTIO_BLK_T_GET_ID, 0, NULL, 19), VIRTIO_BLK_S_IOERR);
	assert_int_equal(blk(&d, 77, 0, NULL, 0), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(blk(&d, UINT32_MAX, 0, NULL, 0), VIRTIO_BLK_S_UNSUPP);
	disk_release(&d);
}

static void disk_bounds(void **state)
{
	static const struct {
		uint64_t sector;
		uint32_t len;
		int status;
	} cases[] = {{SECTORS - 1, 512, VIRTIO_BLK_S_OK}, {SECTORS - 1, 1024, VIRTIO_BLK_S_IOERR},
		{SECTORS, 512, VIRTIO_BLK_S_IOERR}, {SECTORS, 0, VIRTIO_BLK_S_OK},
		{SECTORS + 1, 0, VIRTIO_BLK_S_IOERR}, {UINT64_MAX, 512, VIRTIO_BLK_S_IOERR},
		{UINT64_MAX, 1024, VIRTIO_BLK_S_IOERR}, {UINT64_MAX / 512, 512, VIRTIO_BLK_S_IOERR},
		{UINT64_MAX / 512 + 1, 512, VIRTIO_BLK_S_IOERR},
		{1ULL << 55, 512, VIRTIO_BLK_S_IOERR}, {0, 511, VIRTIO_BLK_S_IOERR},
		{0, 513, VIRTIO_BLK_S_IOERR}, {0, 1, VIRTIO_BLK_S_IOERR}};
	struct disk d;
	char data[1024] = {0};

	disk_init(&d, false);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(blk(&d, VIRTIO_BLK_T_IN, cases[i].sector, NULL, cases[i].len),
			cases[i].status);
		assert_int_equal(blk(&d, VIRTIO_BLK_T_OUT, cases[i].sector, data, cases[i].len),
			cases[i].status);
	}
	assert_int_equal(on_disk(&d, SECTORS - 1), 0);
	assert_int_equal(on_disk(&d, SECTORS - 2), SECTORS - 1);
	assert_int_equal(lseek(d.fd, 0, SEEK_END), SECTORS * 512 + 100);
	/*
	 * The image becomes shorter while the device uses it. A read beyond its new end must give
	 * the guest an error, and must not hang.
	 */
	assert_int_equal(ftruncate(d.fd, 512 * 3 + 7), 0);
	assert_int_equal(blk(&d, VIRTIO_BLK_T_IN, 2, NULL, 1024), VIRTIO_BLK_S_IOERR);
	assert_int_equal(blk(&d, VIRTIO_BLK_T_IN, 2, NULL, 512), VIRTIO_BLK_S_OK);
	disk_release(&d);
}

static int trim(struct disk *d, uint32_t type, uint64_t sector, uint32_t sectors, uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes s = {sector, sectors, flags};

	return blk(d, type, 0, &s, sizeof(s));
}

static void disk_discard_and_zeroes(void **state)
{
	static const uint32_t types[] = {VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES};
	struct disk d;

	disk_init(&d, false);
	assert_int_equal(trim(&d, types[1], 3, 2, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(trim(&d, types[1], 7, 1, 1), VIRTIO_BLK_S_OK);
	assert_int_equal(on_disk(&d, 2), 3);
	assert_int_equal(on_disk(&d, 3), 0);
	assert_int_equal(on_disk(&d, 4), 0);
	assert_int_equal(on_disk(&d, 5), 6);
	assert_int_equal(on_disk(&d, 7), 0);
	assert_int_equal(trim(&d, types[0], 20, 8, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(on_disk(&d, 19), 20);
	assert_int_equal(on_disk(&d, 28), 29);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(trim(&d, types[i], 0, 0, 0), VIRTIO_BLK_S_OK);
		assert_int_equal(trim(&d, types[i], 0, 1, 2), VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(trim(&d, types[i], SECTORS - 1, 2, 0), VIRTIO_BLK_S_IOERR);
		assert_int_equal(trim(&d, types[i], UINT64_MAX, 1, 0), VIRTIO_BLK_S_IOERR);
		assert_int_equal(trim(&d, types[i], 0, UINT32_MAX, 0), VIRTIO_BLK_S_IOERR);
		char two[32] = {0};
		assert_int_equal(blk(&d, types[i], 0, two, 31), VIRTIO_BLK_S_IOERR);
		assert_int_equal(blk(&d, types[i], 0, two, 15), VIRTIO_BLK_S_IOERR);
	}
	/*
	 * The device must refuse a discard with the flag UNMAP, which virtio 1.2, 5.2.6.2 forbids.
	 */
	assert_int_equal(trim(&d, types[0], 0, 1, 1), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(lseek(d.fd, 0, SEEK_END), SECTORS * 512 + 100);
	disk_release(&d);
}

static void disk_read_only(void **state)
{
	struct disk d;
	char data[512] = {0};

	disk_init(&d, true);
	assert_true(d.b.dev.features & 1ULL << VIRTIO_BLK_F_RO);
	assert_int_equal(blk(&d, VIRTIO_BLK_T_OUT, 0, data, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(trim(&d, VIRTIO_BLK_T_DISCARD, 0, 1, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(trim(&d, VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(on_disk(&d, 0), 1);
	assert_int_equal(blk(&d, VIRTIO_BLK_T_IN, 0, NULL, 512), VIRTIO_BLK_S_OK);
	disk_release(&d);
}

static void disk_layouts(void **state)
{
	struct disk d;

	disk_init(&d, false);
	/*
	 * This request has its header, data and status split at unusual places, which the device
	 * must accept, because the driver may use any layout (virtio 1.2, 2.7.4).
	 */
	static const uint32_t cuts[] = {1, 7, 8, 0, 100, 411, 2};
	struct blk_request r = {.type = VIRTIO_BLK_T_IN, .sector = 1};
	memcpy(at(&d.g, DATA, 16), &r, 16);
	uint64_t where = DATA;
	for (unsigned i = 0; i < ARRAY_SIZE(cuts); i++) {
		put_desc(desc(&d.g, 0, i), where, cuts[i],
			(i >= 3 ? WRITE : 0) | (i < ARRAY_SIZE(cuts) - 1 ? NEXT : 0), i + 1);
		where += cuts[i];
	}
	offer(&d.g, 0, 0);
	kick(&d.g, 0);
	assert_int_equal(used(&d.g, 0)->ring[0].len, 513);
	assert_int_equal(*(uint8_t *)at(&d.g, DATA + 16 + 511, 1), 2);
	assert_int_equal(*(uint8_t *)at(&d.g, DATA + 16 + 512, 1), VIRTIO_BLK_S_OK);
	/*
	 * The device must break at a request that has no room for a status or only half a header,
	 * because it cannot answer such a request.
	 */
	ask(&d.g, 0, &r, 16, 0);
	assert_non_null(strstr(d.b.dev.broken, "blk: queue 0: a request with 16 bytes of header"));
	bring_up(&d.g, 0);
	ask(&d.g, 0, &r, 15, 1);
	assert_true(is_broken(&d.g));
	bring_up(&d.g, 0);
	assert_int_equal(blk(&d, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
	disk_release(&d);
}

static void disk_refused(void **state)
{
	struct blk_file f;
	struct rig g;
	int p[2];
	_cleanup_fd_ int empty = memfd_create("empty", MFD_CLOEXEC);

	rig_memory(&g);
	assert_int_equal(blk_file_init(&f, empty, false), -EINVAL);
	assert_non_null(strstr(err_msg(), "at least one sector"));
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	assert_int_equal(blk_file_init(&f, p[0], false), -EINVAL);
	assert_non_null(strstr(err_msg(), "a regular file or a block device"));
	fd_close(&p[0]);
	fd_close(&p[1]);
	vm_memory_release(&g.memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entropy),
		cmocka_unit_test(console_output),
		cmocka_unit_test(console_without_reader),
		cmocka_unit_test(console_input),
		cmocka_unit_test(disk_read_write),
		cmocka_unit_test(disk_bounds),
		cmocka_unit_test(disk_discard_and_zeroes),
		cmocka_unit_test(disk_read_only),
		cmocka_unit_test(disk_layouts),
		cmocka_unit_test(disk_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
