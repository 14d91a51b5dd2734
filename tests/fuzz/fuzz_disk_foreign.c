/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the readers of VDI, VMDK, VHD and VHDX images: the image is opened, mapped, read and
 * checked. Nothing may crash, hang or fail without a message. The input's first byte chooses the
 * format. Then come pieces: a place in the file (4 bytes, in units of 4 bytes), a length (2 bytes),
 * and that many bytes. The rest of the file is zeros. The fuzzer corrects the checksums of VHD and
 * VHDX, because a mutation would never guess them.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "images/disk/vhdx/internal.h"

#define FILE_SIZE (6u << 20)
#define VHDX_LOG_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = {"vdi", "vmdk", "vpc", "vhdx"};

static void put_le32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

/*
 * Writes the pieces that the input describes into the file. Returns the length of the file, which
 * ends with the last byte of a piece.
 */
static size_t lay_out(const uint8_t *data, size_t size, uint8_t *file)
{
	size_t end = 0;

	while (size >= 6) {
		size_t at = (size_t)le32(data) * 4, len = le16(data + 4);

		data += 6;
		size -= 6;
		if (len > size)
			len = size;
		if (at > FILE_SIZE - len)
			at = (FILE_SIZE - len) / 4 * 4;
		memcpy(file + at, data, len);
		if (at + len > end)
			end = at + len;
		data += len;
		size -= len;
	}
	return end;
}

static void sum_vhd(uint8_t *p, size_t len, size_t field)
{
	uint32_t sum = 0;

	put_be32(p + field, 0);
	for (size_t i = 0; i < len; i++)
		sum += p[i];
	put_be32(p + field, ~sum);
}

static void sum_vhdx_log(uint8_t *file, uint64_t at, uint64_t len)
{
	if (len > VHDX_LOG_MAX || at > FILE_SIZE || len > FILE_SIZE - at)
		return;
	for (uint64_t i = at; i + VHDX_PAGE <= at + len; i += VHDX_PAGE) {
		uint32_t n = le32(file + i + 8);

		if (memcmp(file + i, "loge", 4) == 0 && n >= 8 && n <= at + len - i)
			put_le32(file + i + 4, vhdx_crc(file + i, n, 4));
	}
}

static void put_sums_right(unsigned format, uint8_t *file, size_t size)
{
	if (format == 2 && size >= 2048) {
		sum_vhd(file, 512, 64);
		sum_vhd(file + 512, 1024, 36);
		sum_vhd(file + size - 512, 512, 64);
	}
	if (format == 3 && size >= 320 << 10) {
		sum_vhdx_log(file, le64(file + (64 << 10) + 72), le32(file + (64 << 10) + 68));
		put_le32(file + (64 << 10) + 4, vhdx_crc(file + (64 << 10), 4096, 4));
		put_le32(file + (128 << 10) + 4, vhdx_crc(file + (128 << 10), 4096, 4));
		put_le32(file + (192 << 10) + 4, vhdx_crc(file + (192 << 10), 64 << 10, 4));
	}
}

static void must_tell(int r)
{
	if (r < 0 && !*err_msg())
		abort();
	err_clear();
}

static void look(struct disk *d)
{
	static uint8_t buf[70000];
	struct disk_info info;
	struct disk_extent e;
	unsigned depth;
	uint64_t at = 0;

	must_tell(disk_get_info(d, &info));
	disk_info_release(&info);
	for (unsigned i = 0; i < 64 && at < disk_size(d); i++) {
		int r = disk_map_chain(d, at, disk_size(d) - at, &e, &depth);

		must_tell(r);
		if (r < 0)
			break;
		if (e.length == 0 || e.length > disk_size(d) - at)
			abort();
		at += e.length;
	}
	for (unsigned i = 0; i < 8 && disk_size(d) >= sizeof(buf); i++) {
		uint64_t room = disk_size(d) - sizeof(buf);

		must_tell(disk_read(d, buf, sizeof(buf), i == 7 ? room : room / 7 * i + i));
	}
}

static void count_line(void *data, const char *line)
{
	uint64_t *lines = data;

	if (!*line)
		abort();
	++*lines;
}

static void check(struct disk *d)
{
	uint64_t lines = 0;
	struct disk_check c = {.report = count_line, .data = &lines};
	int r = disk_run_check(d, &c);

	must_tell(r);
	if (r >= 0 && (lines == 0) != (c.errors == 0 && c.leaks == 0))
		abort();
	/* A check that reports no error means that all of the disk can be mapped. */
	struct disk_extent e;
	uint64_t at = 0;
	for (unsigned i = 0; r >= 0 && c.errors == 0 && i < 64 && at < disk_size(d); i++) {
		if (disk_map(d, at, disk_size(d) - at, &e) < 0)
			abort();
		at += e.length;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct disk_dir none = {.fd = -EBADF};
	struct disk_options o = {.name = "fuzz", .dir = &none, .path = "fuzz"};
	struct disk *d;

	if (size < 1)
		return 0;
	unsigned format = data[0] % ARRAY_SIZE(names);
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, FILE_SIZE) < 0)
		abort();
	uint8_t *file = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (file == MAP_FAILED)
		abort();
	size_t end = lay_out(data + 1, size - 1, file);
	put_sums_right(format, file, end);
	munmap(file, FILE_SIZE);
	if (ftruncate(fd, (off_t)end) < 0)
		abort();
	o.format = names[format];
	/*
	 * `caisson-disk info` opens an image alone. All other commands also open the files that the
	 * image names.
	 */
	o.alone = data[0] & 0x80;
	err_clear();
	int r = disk_open(&d, fd, &o);
	must_tell(r);
	if (r >= 0) {
		look(d);
		check(d);
	}
	disk_close(d);
	return 0;
}
