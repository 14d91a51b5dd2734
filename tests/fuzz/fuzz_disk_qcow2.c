/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the qcow2 code: the input is the beginning of a qcow2 image, in a sparse memory file. The
 * image is opened, read and checked; a copy is opened for writing, written, zeroed, discarded,
 * given a snapshot and repaired, at places that the image's own numbers decide. Nothing may crash
 * or hang, or fail without a message.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "images/disk/disk.h"
#include "images/disk/qcow2.h"

#define FILE_SIZE (4u << 20) /* length of the image file; behind the fuzzer's input it has zeros */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int open_image(const uint8_t *data, size_t size, struct disk_options *o, struct disk **ret)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	o->format = "qcow2";
	o->name = "fuzz";
	o->unsafe = true;
	o->cache = 65536;
	if (fd < 0 || ftruncate(fd, FILE_SIZE) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
		abort();
	err_clear();
	int r = disk_open(ret, fd, o);
	if (r < 0 && !*err_msg())
		abort();
	return r;
}

static void must_tell(int r)
{
	if (r < 0 && !*err_msg())
		abort();
	err_clear();
}

/*
 * Returns the i-th offset at which the fuzzer reads and writes the disk: its beginning, its end,
 * and some between.
 */
static uint64_t place(const struct disk *d, unsigned i, size_t len)
{
	uint64_t room = disk_size(d) - len;

	return i == 0 ? 0 : i == 1 ? room : room / 7 * (i % 7) + i % 512;
}

static void read_all(struct disk *d, uint8_t *buf, size_t len)
{
	struct disk_extent e;
	unsigned depth;
	uint64_t at = 0;

	for (unsigned i = 0; i < 6; i++)
		must_tell(disk_read(d, buf, len, place(d, i, len)));
	for (unsigned i = 0; i < 64 && at < disk_size(d); i++) {
		int r = disk_map_chain(d, at, disk_size(d) - at, &e, &depth);

		must_tell(r);
		if (r < 0)
			return;
		if (e.length == 0 || e.length > disk_size(d) - at)
			abort();
		at += e.length;
	}
}

static void look(const uint8_t *data, size_t size, uint8_t *buf, size_t len)
{
	struct qcow2_snapshots all = {0};
	struct disk_options o = {.alone = false};
	struct disk_check c = {0};
	struct disk_info info;
	struct disk *d;

	if (open_image(data, size, &o, &d) >= 0) {
		if (disk_size(d) >= len)
			read_all(d, buf, len);
		disk_close(d);
	}
	o = (struct disk_options){.alone = true, .ignore_dirty = true};
	if (open_image(data, size, &o, &d) < 0)
		return;
	must_tell(disk_get_info(d, &info));
	disk_info_release(&info);
	must_tell(qcow2_snapshots_read(d, &all));
	qcow2_snapshots_release(&all);
	must_tell(disk_run_check(d, &c));
	disk_close(d);
}

static void change(const uint8_t *data, size_t size, uint8_t *buf, size_t len)
{
	struct disk_options o = {.write = true};
	struct disk_check c = {.fix_all = true, .fix_leaks = true};
	struct disk *d;

	if (open_image(data, size, &o, &d) >= 0 && disk_size(d) >= len) {
		for (unsigned i = 0; i < 4; i++) {
			must_tell(disk_write(d, buf, len, place(d, i, len)));
			must_tell(disk_zero(d, place(d, i + 3, len), len));
			must_tell(disk_discard(d, place(d, i + 1, len), len));
		}
		must_tell(disk_flush(d));
		must_tell(qcow2_snapshot_create(d, "s"));
		must_tell(disk_write(d, buf, 1000, place(d, 2, len)));
		must_tell(qcow2_snapshot_apply(d, "s"));
		must_tell(qcow2_snapshot_delete(d, "s"));
		must_tell(disk_resize(d, disk_size(d) / 1024 * 512));
	}
	disk_close(d);
	o = (struct disk_options){.write = true, .alone = true, .ignore_dirty = true};
	if (open_image(data, size, &o, &d) < 0)
		return;
	must_tell(disk_run_check(d, &c));
	disk_close(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t buf[70000];

	if (size > FILE_SIZE / 2)
		return 0;
	look(data, size, buf, sizeof(buf));
	change(data, size, buf, sizeof(buf));
	return 0;
}
