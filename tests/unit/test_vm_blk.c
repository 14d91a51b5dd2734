/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the block device beyond plain reads and writes (virtio 1.2, 5.2): direct I/O with unaligned
 * requests, the write cache, discard, topology. The tests run without KVM.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#include "unit/rig/virtio.h"

#define DISK_LEN (1U << 20)
#define OUT DATA
#define IN (DATA + 0x80000)

struct disk {
	struct rig g;
	struct virtio_blk b;
	struct blk_file file;
	/* two descriptors of the disk's image: `fd` is the device's, `plain` the test's own */
	int fd, plain;
	uint8_t want[DISK_LEN];
};

static struct disk d;

static bool open_disk(int flags)
{
	char path[] = "/var/tmp/vm-blk-test.XXXXXX";

	d.plain = mkostemp(path, O_CLOEXEC);
	assert_true(d.plain >= 0);
	for (size_t i = 0; i < DISK_LEN; i++)
		d.want[i] = (uint8_t)(i * 31 + (i >> 8) * 7 + 1);
	assert_int_equal(pwrite(d.plain, d.want, DISK_LEN, 0), DISK_LEN);
	d.fd = open(path, O_RDWR | O_CLOEXEC | flags);
	assert_int_equal(unlink(path), 0);
	return d.fd >= 0;
}

static void begin(uint64_t features)
{
	rig_memory(&d.g);
	if (blk_file_init(&d.file, d.fd, false) < 0 ||
		virtio_blk_init(&d.b, &d.g.memory, &d.file.image,
			&(struct virtio_blk_options){.serial = "s"}) < 0)
		fail_msg("%s", err_msg());
	rig_attach(&d.g, &d.b.dev);
	bring_up(&d.g, features ? features : d.b.dev.features);
}

static void end(void)
{
	rig_release(&d.g);
	virtio_blk_release(&d.b);
	blk_file_release(&d.file);
	fd_close(&d.fd);
	fd_close(&d.plain);
}

/*
 * Sends one request with a header, two data parts and a status, and returns the status. The data
 * begins `shift` bytes into a page and is cut in two at `cut`. The test puts data to write at OUT +
 * shift; data that was read is at IN + shift.
 */
static int request(uint32_t type, uint64_t sector, uint32_t len, uint32_t shift, uint32_t cut)
{
	struct virtio_blk_outhdr header = {.type = type, .sector = sector};
	bool in = type == VIRTIO_BLK_T_IN;
	uint64_t at_guest = (in ? IN : OUT) + shift;
	uint16_t before = used(&d.g, 0)->idx;

	memcpy(at(&d.g, DATA - 0x1000, 16), &header, 16);
	memset(at(&d.g, DATA - 0x800, 1), 0xee, 1);
	put_desc(desc(&d.g, 0, 0), DATA - 0x1000, 16, NEXT, 1);
	put_desc(desc(&d.g, 0, 1), at_guest, cut, NEXT | (in ? WRITE : 0), 2);
	put_desc(desc(&d.g, 0, 2), at_guest + cut, len - cut, NEXT | (in ? WRITE : 0), 3);
	put_desc(desc(&d.g, 0, 3), DATA - 0x800, 1, WRITE, 0);
	offer(&d.g, 0, 0);
	kick(&d.g, 0);
	assert_int_equal(used(&d.g, 0)->idx, (uint16_t)(before + 1));
	return *(uint8_t *)at(&d.g, DATA - 0x800, 1);
}

static void check_disk(void)
{
	static uint8_t got[DISK_LEN];

	assert_int_equal(pread(d.plain, got, DISK_LEN, 0), DISK_LEN);
	assert_memory_equal(got, d.want, DISK_LEN);
}

static void read_and_write(uint64_t sector, uint32_t len, uint32_t shift, uint32_t cut)
{
	uint8_t *out = at(&d.g, OUT + shift, len);

	memset(at(&d.g, IN + shift, len), 0, len);
	assert_int_equal(request(VIRTIO_BLK_T_IN, sector, len, shift, cut), VIRTIO_BLK_S_OK);
	assert_memory_equal(at(&d.g, IN + shift, len), d.want + sector * 512, len);
	for (uint32_t i = 0; i < len; i++)
		out[i] = (uint8_t)(sector + i * 3 + shift);
	memcpy(d.want + sector * 512, out, len);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, sector, len, shift, cut), VIRTIO_BLK_S_OK);
}

static void all_shapes(void)
{
	static const uint32_t lens[] = {512, 1024, 4096, 4608, 65536, 300 * 1024, 400 * 1024 + 512};
	static const uint32_t shifts[] = {0, 512, 8, 1};

	for (size_t l = 0; l < ARRAY_SIZE(lens); l++)
		for (size_t s = 0; s < ARRAY_SIZE(shifts); s++)
			for (uint64_t sector = 0; sector < 24; sector += 1 + sector / 2 * 3) {
				read_and_write(sector, lens[l], shifts[s], 512);
				read_and_write(sector, lens[l], shifts[s], 100);
			}
	read_and_write(DISK_LEN / 512 - 1, 512, 0, 512); /* reads and writes the last sector */
	check_disk();
}

static void buffered(void **state)
{
	assert_true(open_disk(0));
	begin(0);
	assert_int_equal(d.file.align, 1);
	all_shapes();
	end();
}

static void direct(void **state)
{
	if (!open_disk(O_DIRECT)) {
		print_message("skipped: the file system of /var/tmp knows no O_DIRECT\n");
		fd_close(&d.plain);
		skip();
	}
	begin(0);
	assert_true(d.file.align >= 512);
	assert_int_equal(d.b.config.blk_size, d.file.align < 512 ? 512 : d.file.align);
	all_shapes();
	/*
	 * The test zeroes a range of the disk that does not begin and end at blocks. The rest of
	 * the first and the last block must stay unchanged.
	 */
	struct virtio_blk_discard_write_zeroes z = {3, 10, 0};
	memcpy(at(&d.g, OUT, sizeof(z)), &z, sizeof(z));
	assert_int_equal(request(VIRTIO_BLK_T_WRITE_ZEROES, 0, sizeof(z), 0, 1), VIRTIO_BLK_S_OK);
	memset(d.want + 3 * 512UL, 0, 10 * 512UL);
	check_disk();
	/*
	 * The image becomes shorter while the device uses it. A read beyond its new end must give
	 * the guest an error, and not old bytes of the device's buffer.
	 */
	assert_int_equal(ftruncate(d.plain, 8192), 0);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 64, 512, 8, 100), VIRTIO_BLK_S_IOERR);
	end();
}

static void direct_needs_whole_blocks(void **state)
{
	struct blk_file f;

	if (!open_disk(O_DIRECT)) {
		fd_close(&d.plain);
		skip();
	}
	assert_int_equal(ftruncate(d.plain, DISK_LEN - 100), 0);
	assert_int_equal(blk_file_init(&f, d.fd, false), -EINVAL);
	assert_non_null(strstr(err_msg(), "open it without O_DIRECT"));
	fd_close(&d.fd);
	fd_close(&d.plain);
}

static int zeroes(uint32_t type, const struct virtio_blk_discard_write_zeroes *s, uint32_t count)
{
	uint32_t len = count * (uint32_t)sizeof(*s);

	memcpy(at(&d.g, OUT, len + 1), s, len);
	return request(type, 0, len, 0, len / 2);
}

static void segments(void **state)
{
	struct virtio_blk_discard_write_zeroes s[17] = {{1, 2, 0}, {10, 1, 1}, {100, 300, 0}};

	assert_true(open_disk(0));
	begin(0);
	assert_int_equal(d.b.config.max_write_zeroes_seg, 16);
	assert_int_equal(zeroes(VIRTIO_BLK_T_WRITE_ZEROES, s, 3), VIRTIO_BLK_S_OK);
	for (int i = 0; i < 3; i++)
		memset(d.want + s[i].sector * 512, 0, s[i].num_sectors * 512UL);
	check_disk();
	/*
	 * If one segment of a discard or write-zeroes request is invalid, the device must carry out
	 * none of its segments.
	 */
	s[2].sector = DISK_LEN / 512 - 299;
	s[0].sector = 20;
	assert_int_equal(zeroes(VIRTIO_BLK_T_WRITE_ZEROES, s, 3), VIRTIO_BLK_S_IOERR);
	/* The device must refuse a discard with the flag UNMAP, as virtio 1.2 demands. */
	assert_int_equal(zeroes(VIRTIO_BLK_T_DISCARD, s, 3), VIRTIO_BLK_S_UNSUPP);
	s[2] = (struct virtio_blk_discard_write_zeroes){30, 1, 2};
	assert_int_equal(zeroes(VIRTIO_BLK_T_WRITE_ZEROES, s, 3), VIRTIO_BLK_S_UNSUPP);
	check_disk();
	memset(s, 0, sizeof(s));
	assert_int_equal(zeroes(VIRTIO_BLK_T_DISCARD, s, 16), VIRTIO_BLK_S_OK);
	assert_int_equal(zeroes(VIRTIO_BLK_T_DISCARD, s, 17), VIRTIO_BLK_S_IOERR);
	assert_int_equal(zeroes(VIRTIO_BLK_T_DISCARD, s, 0), VIRTIO_BLK_S_IOERR);
	check_disk();
	/* Checks that a discarded range takes no space on the host. */
	struct stat before, after;
	assert_int_equal(fstat(d.plain, &before), 0);
	s[0] = (struct virtio_blk_discard_write_zeroes){512, 512, 0};
	assert_int_equal(zeroes(VIRTIO_BLK_T_DISCARD, s, 1), VIRTIO_BLK_S_OK);
	assert_int_equal(fstat(d.plain, &after), 0);
	assert_true(after.st_blocks <= before.st_blocks - 512);
	assert_int_equal(after.st_size, DISK_LEN);
	end();
}

#define WCE (1ULL << VIRTIO_BLK_F_CONFIG_WCE)
#define FLUSH (1ULL << VIRTIO_BLK_F_FLUSH)

static uint8_t wce(void)
{
	uint8_t v;

	vm_bus_read(&d.g.bus, VIRTIO_MMIO_CONFIG + offsetof(struct virtio_blk_config, wce), &v, 1);
	return v;
}

static void set_wce(uint8_t v)
{
	vm_bus_write(&d.g.bus, VIRTIO_MMIO_CONFIG + offsetof(struct virtio_blk_config, wce), &v, 1);
}

/*
 * Tests the write cache. The test cannot see whether a file's data is on the disk, so it checks the
 * flags on which flushing depends.
 */
static void write_cache(void **state)
{
	assert_true(open_disk(0));
	begin(WCE | FLUSH);
	assert_int_equal(wce(), 1);
	set_wce(0);
	assert_int_equal(wce(), 0);
	read_and_write(4, 1024, 0, 512);
	set_wce(2);
	assert_int_equal(wce(), 0);
	set_wce(1);
	assert_int_equal(wce(), 1);
	/*
	 * A reset must switch the write cache on again. A driver that has not negotiated the
	 * feature CONFIG_WCE must not be able to switch the cache off.
	 */
	set_wce(0);
	bring_up(&d.g, FLUSH);
	assert_int_equal(wce(), 1);
	set_wce(0);
	assert_int_equal(wce(), 1);
	bring_up(&d.g, 0);
	read_and_write(6, 1024, 0, 512);
	check_disk();
	/*
	 * A flush must fail if the device cannot make the data durable. The test puts a pipe in the
	 * place of the image, because fdatasync(2) refuses pipes.
	 */
	int p[2];
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	int fd = d.file.fd;
	d.file.fd = p[1];
	assert_int_equal(request(VIRTIO_BLK_T_FLUSH, 0, 0, 0, 0), VIRTIO_BLK_S_IOERR);
	/*
	 * All later flushes must fail too, because the kernel may have dropped the data that the
	 * first one could not write.
	 */
	d.file.fd = fd;
	assert_int_equal(request(VIRTIO_BLK_T_FLUSH, 0, 0, 0, 0), VIRTIO_BLK_S_IOERR);
	d.file.fd = p[1];
	d.file.sync_failed = false;
	/*
	 * When the driver switches the write cache off, the device must wake the thread that serves
	 * the queue. This thread flushes the cache, and reports an error to the driver only once.
	 */
	int kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	eventfd_t kicks = 0;
	bring_up(&d.g, WCE | FLUSH);
	d.b.dev.kicks = &kick;
	set_wce(0);
	assert_false(d.b.flush_failed);
	assert_int_equal(eventfd_read(kick, &kicks), 0);
	assert_int_equal(virtio_kick(&d.b.dev, 0), 0);
	d.file.fd = fd;
	d.file.sync_failed = false;
	assert_int_equal(request(VIRTIO_BLK_T_FLUSH, 0, 0, 0, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_FLUSH, 0, 0, 0, 0), VIRTIO_BLK_S_OK);
	fd_close(&kick);
	fd_close(&p[0]);
	fd_close(&p[1]);
	end();
}

/* An image that fails with `error` as long as `error` is not 0. */
struct sick {
	struct blk_image image;
	int error, calls;
};

static int sick_transfer(struct blk_image *i, struct iovec *iov, unsigned n, uint64_t offset)
{
	struct sick *s = (struct sick *)i;

	s->calls++;
	return -s->error;
}

static int sick_zero(struct blk_image *i, uint64_t offset, uint64_t length, bool unmap)
{
	return sick_transfer(i, NULL, 0, offset);
}

static int sick_discard(struct blk_image *i, uint64_t offset, uint64_t length)
{
	return sick_transfer(i, NULL, 0, offset);
}

static int sick_flush(struct blk_image *i)
{
	return sick_transfer(i, NULL, 0, 0);
}

struct held {
	int count, error;
	bool write;
};

static void on_held(void *ctx, int error, bool write)
{
	struct held *h = ctx;

	*h = (struct held){h->count + 1, error, write};
}

/*
 * Makes one request while the image fails with `error`. The device must hold the request if
 * `expect_held`, without an answer, and answer it after the image is well and the device was told
 * to try again. Otherwise the device must report the error at once.
 */
static void fail_once(struct blk_errors errors, uint32_t type, int error, bool expect_held)
{
	static const struct blk_image_ops sick_ops = {
		sick_transfer, sick_transfer, sick_zero, sick_discard, sick_flush};
	struct sick s = {.image = {.ops = &sick_ops,
				 .size = DISK_LEN,
				 .block = 512,
				 .physical = 4096,
				 .discard = 4096},
		.error = error};
	struct held held = {0};
	struct virtio_blk_outhdr header = {.type = type};
	const bool in = type == VIRTIO_BLK_T_IN;
	const uint32_t len = type == VIRTIO_BLK_T_WRITE_ZEROES ? 16 : 512;
	int kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	eventfd_t kicks;

	rig_memory(&d.g);
	errors.held = on_held;
	errors.ctx = &held;
	assert_int_equal(virtio_blk_init(&d.b, &d.g.memory, &s.image,
				 &(struct virtio_blk_options){.serial = "s", .errors = errors}),
		0);
	rig_attach(&d.g, &d.b.dev);
	bring_up(&d.g, FLUSH);
	d.b.dev.kicks = &kick_fd;
	memcpy(at(&d.g, DATA - 0x1000, 16), &header, 16);
	memcpy(at(&d.g, OUT, 16), &(struct virtio_blk_discard_write_zeroes){0, 1, 0}, 16);
	memset(at(&d.g, DATA - 0x800, 1), 0xee, 1);
	put_desc(desc(&d.g, 0, 0), DATA - 0x1000, 16, NEXT, 1);
	put_desc(desc(&d.g, 0, 1), in ? IN : OUT, len, NEXT | (in ? WRITE : 0), 2);
	put_desc(desc(&d.g, 0, 2), DATA - 0x800, 1, WRITE, 0);
	const uint8_t *status = at(&d.g, DATA - 0x800, 1);
	offer(&d.g, 0, 0);
	kick(&d.g, 0);
	assert_int_equal(held.count, expect_held);
	assert_int_equal(used(&d.g, 0)->idx, !expect_held);
	if (expect_held) {
		assert_int_equal(held.error, error);
		assert_int_equal(held.write, !in);
		assert_int_equal(*status, 0xee);
		/* While a request is held, a kick must not make the device try again. */
		kick(&d.g, 0);
		assert_int_equal(s.calls, 1);
		/* If the image fails again, the device must hold the request again. */
		virtio_blk_retry(&d.b);
		assert_int_equal(eventfd_read(kick_fd, &kicks), 0);
		kick(&d.g, 0);
		assert_int_equal(held.count, 2);
		s.error = 0;
		virtio_blk_retry(&d.b);
		kick(&d.g, 0);
	}
	assert_int_equal(used(&d.g, 0)->idx, 1);
	assert_int_equal(*status, expect_held ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR);
	fd_close(&kick_fd);
	rig_release(&d.g);
	virtio_blk_release(&d.b);
}

/* The policies decide which failed requests are held, and which the driver sees fail. */
static void errors_of_the_host(void **state)
{
	static const uint32_t writes[] = {
		VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_WRITE_ZEROES};
	const struct blk_errors stop = {BLK_ERROR_STOP, BLK_ERROR_STOP, NULL, NULL};
	const struct blk_errors report = {BLK_ERROR_REPORT, BLK_ERROR_REPORT, NULL, NULL};
	const struct blk_errors enospc = {BLK_ERROR_ENOSPC, BLK_ERROR_REPORT, NULL, NULL};

	for (size_t i = 0; i < ARRAY_SIZE(writes); i++) {
		fail_once(stop, writes[i], EIO, true);
		fail_once(stop, writes[i], ENOSPC, true);
		fail_once(report, writes[i], ENOSPC, false);
		fail_once(enospc, writes[i], EIO, false);
		fail_once(enospc, writes[i], ENOSPC, true);
	}
	fail_once(stop, VIRTIO_BLK_T_IN, EIO, true);
	fail_once(enospc, VIRTIO_BLK_T_IN, EIO, false);
}

static void topology(void **state)
{
	struct stat st;

	assert_true(open_disk(0));
	begin(0);
	assert_int_equal(fstat(d.fd, &st), 0);
	assert_true(d.b.dev.features & 1ULL << VIRTIO_BLK_F_TOPOLOGY);
	assert_int_equal(d.b.config.blk_size, 512);
	assert_int_equal(512 << d.b.config.physical_block_exp, st.st_blksize);
	assert_int_equal(d.b.config.min_io_size * 512, st.st_blksize);
	assert_int_equal(d.b.config.discard_sector_alignment * 512, st.st_blksize);
	assert_int_equal(d.b.config.alignment_offset, 0);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buffered),
		cmocka_unit_test(direct),
		cmocka_unit_test(direct_needs_whole_blocks),
		cmocka_unit_test(segments),
		cmocka_unit_test(write_cache),
		cmocka_unit_test(errors_of_the_host),
		cmocka_unit_test(topology),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
