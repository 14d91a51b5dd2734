/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the guest's memory, the translation of its addresses at every boundary, and the bus and its
 * access widths. The tests run without KVM.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "vm/bus.h"
#include "vm/memory.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static void ram(struct vm_memory *m, uint64_t size)
{
	int r = vm_memory_init(m, &(struct vm_memory_options){.size = size});

	if (r < 0)
		fail_msg("%s", err_msg());
}

static void edges_of_one_region(void **state)
{
	struct vm_memory m;

	ram(&m, 16 * MIB);
	uint8_t *base = vm_memory_at(&m, 0, 1);
	assert_non_null(base);
	assert_ptr_equal(vm_memory_at(&m, 0, 16 * MIB), base);
	assert_ptr_equal(vm_memory_at(&m, 16 * MIB - 1, 1), base + 16 * MIB - 1);
	assert_null(vm_memory_at(&m, 16 * MIB - 1, 2));
	assert_null(vm_memory_at(&m, 16 * MIB, 1));
	assert_null(vm_memory_at(&m, 0, 16 * MIB + 1));
	assert_null(vm_memory_at(&m, 0, 0));
	/*
	 * The sum of address and length wraps around to a small number (CVE-2019-18960), so
	 * vm_memory_at() must return NULL.
	 */
	assert_null(vm_memory_at(&m, 4096, UINT64_MAX));
	assert_null(vm_memory_at(&m, 4096, UINT64_MAX - 4095));
	assert_null(vm_memory_at(&m, UINT64_MAX, 2));
	assert_null(vm_memory_at(&m, UINT64_MAX - 4095, 8192));
	base[16 * MIB - 1] = 1;
	vm_memory_release(&m);
	assert_null(vm_memory_at(&m, 0, 1));
}

static void the_hole(void **state)
{
	struct vm_memory m;

	ram(&m, 4 * GIB);
	assert_int_equal(m.count, 2);
	uint8_t *low = vm_memory_at(&m, 0, 3 * GIB), *high = vm_memory_at(&m, 4 * GIB, GIB);
	assert_non_null(low);
	assert_non_null(high);
	/*
	 * The two regions of memory are adjacent on the host, but no range may run from one region
	 * into the other.
	 */
	assert_ptr_equal(high, low + 3 * GIB);
	assert_null(vm_memory_at(&m, 3 * GIB - 1, 2));
	assert_null(vm_memory_at(&m, 3 * GIB, 1));
	assert_null(vm_memory_at(&m, 4 * GIB - 1, 1));
	assert_null(vm_memory_at(&m, 4 * GIB - 1, 2));
	assert_null(vm_memory_at(&m, 0, 4 * GIB));
	assert_null(vm_memory_at(&m, 5 * GIB, 1));
	assert_non_null(vm_memory_at(&m, 5 * GIB - 1, 1));
	assert_null(vm_memory_at(&m, 5 * GIB - 1, 2));
	/*
	 * Guest memory of exactly 3 GiB must have one region, and no empty second region behind it.
	 */
	vm_memory_release(&m);
	ram(&m, 3 * GIB);
	assert_int_equal(m.count, 1);
	vm_memory_release(&m);
}

static void shared_and_sealed(void **state)
{
	struct vm_memory m;

	ram(&m, 4 * MIB);
	uint8_t *other = mmap(NULL, 4096, PROT_READ, MAP_SHARED, m.fd, 4096);
	assert_ptr_not_equal(other, MAP_FAILED);
	assert_int_equal(vm_memory_write(&m, 4096, "seen", 4, "x"), 0);
	assert_memory_equal(other, "seen", 4);
	munmap(other, 4096);
	assert_int_equal(ftruncate(m.fd, 4096), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(m.fd, (off_t)(8 * MIB)), -1);
	vm_memory_release(&m);
}

/*
 * Checks that guest memory with transparent huge pages can be shared with another process, as guest
 * memory in a memfd can.
 */
static void transparent_is_shared(void **state)
{
	const struct vm_memory_options o = {.size = 8 * MIB, .pages = VM_PAGES_TRANSPARENT};
	struct vm_memory m, other = VM_MEMORY_NONE;

	assert_int_equal(vm_memory_init(&m, &o), 0);
	assert_int_equal((uintptr_t)vm_memory_at(&m, 0, 1) % (2 * MIB), 0);
	const struct vm_memory_region all = {.size = 8 * MIB, .user = 0x7f0000000000};
	assert_int_equal(vm_memory_attach(&other, &all, m.fd), 0);
	for (uint64_t at = 0; at < 8 * MIB; at += MIB) {
		assert_int_equal(vm_memory_write(&m, at, "seen", 4, "x"), 0);
		assert_memory_equal(vm_memory_at(&other, at, 4), "seen", 4);
	}
	/* The memory must also give back to the host a range that is only a part of a huge page. */
	vm_memory_discard(&m, vm_memory_at(&m, 3 * MIB, 4096), 4096);
	assert_memory_equal(vm_memory_at(&other, 3 * MIB, 4), "\0\0\0", 4);
	assert_memory_equal(vm_memory_at(&other, 2 * MIB, 4), "seen", 4);
	vm_memory_discard(&m, vm_memory_at(&m, 4 * MIB, 4 * MIB), 4 * MIB);
	assert_memory_equal(vm_memory_at(&other, 5 * MIB, 4), "\0\0\0", 4);
	vm_memory_release(&other);
	vm_memory_release(&m);
}

static void mergeable_is_private(void **state)
{
	struct vm_memory m;
	int r = vm_memory_init(&m, &(struct vm_memory_options){.size = 4 * MIB, .mergeable = true});

	if (r == -EINVAL) /* with EINVAL the kernel says that it was built without CONFIG_KSM */
		assert_non_null(strstr(err_msg(), "KSM"));
	else {
		assert_int_equal(r, 0);
		assert_int_equal(m.fd, -EBADF);
		memset(vm_memory_at(&m, 0, 4 * MIB), 1, 4 * MIB);
		vm_memory_release(&m);
	}
}

static void refused(void **state)
{
	static const uint64_t sizes[] = {0, 1, MIB, 2 * MIB - 1, 3 * MIB, 4 * MIB + 4096,
		(UINT64_C(1) << 40) + 2 * MIB, UINT64_MAX};
	struct vm_memory m;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		assert_int_equal(
			vm_memory_init(&m, &(struct vm_memory_options){.size = sizes[i]}), -EINVAL);
		assert_non_null(strstr(err_msg(), "multiple of 2 MiB"));
	}
	assert_int_equal(vm_memory_init(&m, &(struct vm_memory_options){.size = 4 * MIB,
						    .pages = VM_PAGES_HUGETLB,
						    .mergeable = true}),
		-EINVAL);
	/*
	 * No host has a pool of huge pages as large as this memory. vm_memory_init() must fail,
	 * because otherwise the guest would get a SIGBUS later.
	 */
	assert_true(vm_memory_init(&m, &(struct vm_memory_options){.size = VM_MEMORY_MAX,
					       .pages = VM_PAGES_HUGETLB}) < 0);
	ram(&m, 2 * MIB);
	assert_int_equal(vm_memory_write(&m, 2 * MIB - 1, "ab", 2, "initramfs"), -EFAULT);
	assert_non_null(strstr(err_msg(), "initramfs: 2 bytes at guest address 0x1fffff"));
	vm_memory_release(&m);
}

/*
 * Tests guest memory that another monitor provides: regions of a file, each with a guest address of
 * its own.
 */
static void attached(void **state)
{
	struct vm_memory m = VM_MEMORY_NONE;
	int fd = memfd_create("guest", MFD_CLOEXEC);
	uint64_t guest = 1;

	assert_int_equal(ftruncate(fd, (off_t)(4 * MIB)), 0);
	const struct vm_memory_region high = {
		.guest = 4 * GIB, .size = MIB, .user = 0x7f0000000000, .offset = 3 * MIB + 4096};
	const struct vm_memory_region low = {.guest = MIB, .size = MIB, .user = 0x10000};
	assert_int_equal(vm_memory_attach(&m, &high, fd), -EPROTO);
	assert_non_null(strstr(err_msg(), "reaches beyond its file: 4198400 of 4194304"));
	struct vm_memory_region fits = high;
	fits.size -= 4096;
	assert_int_equal(vm_memory_attach(&m, &fits, fd), 0);
	assert_int_equal(vm_memory_attach(&m, &low, fd), 0);
	assert_int_equal(vm_memory_attach(&m, &low, fd), -EPROTO);
	assert_int_equal(m.count, 2);
	/*
	 * What is written to a region of the guest's memory must be in the file, from the offset on
	 * that the region has there.
	 */
	memcpy(vm_memory_at(&m, 4 * GIB + 8, 4), "high", 4);
	memcpy(vm_memory_at(&m, 2 * MIB - 3, 3), "low", 3);
	char seen[5] = "";
	assert_int_equal(pread(fd, seen, 4, (off_t)(3 * MIB + 4096 + 8)), 4);
	assert_string_equal(seen, "high");
	assert_int_equal(pread(fd, seen, 4, (off_t)(MIB - 3)), 4);
	assert_string_equal(seen, "low");
	close(fd); /* the regions stay mapped although the test closes the file's descriptor */
	static const uint64_t outside[] = {
		0, MIB - 1, 2 * MIB, 4 * GIB - 1, 5 * GIB - 4096, 4 * GIB + MIB - 4096, UINT64_MAX};
	for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++)
		assert_null(vm_memory_at(&m, outside[i], 1));
	assert_null(vm_memory_at(&m, 2 * MIB - 3, 4));
	assert_null(vm_memory_at(&m, MIB, UINT64_MAX));
	/*
	 * vm_memory_from_user() must translate the addresses that the regions have in the other
	 * monitor's process.
	 */
	assert_int_equal(vm_memory_from_user(&m, 0x7f0000000000, &guest), 0);
	assert_int_equal(guest, 4 * GIB);
	assert_int_equal(vm_memory_from_user(&m, 0x10000 + MIB - 1, &guest), 0);
	assert_int_equal(guest, 2 * MIB - 1);
	assert_int_equal(vm_memory_from_user(&m, 0x10000 + MIB, &guest), -EPROTO);
	assert_int_equal(vm_memory_from_user(&m, 0xffff, &guest), -EPROTO);
	assert_int_equal(vm_memory_from_user(&m, UINT64_MAX, &guest), -EPROTO);
	vm_memory_release(&m);
	assert_int_equal(m.count, 0);
	assert_int_equal(vm_memory_from_user(&m, 0x10000, &guest), -EPROTO);
	/*
	 * Memory that this process has made itself has no addresses of another monitor's process,
	 * so there is nothing to translate.
	 */
	ram(&m, 2 * MIB);
	assert_int_equal(vm_memory_from_user(&m, 0, &guest), -EPROTO);
	vm_memory_release(&m);
}

static void attached_at_most(void **state)
{
	struct vm_memory m = VM_MEMORY_NONE;
	int fd = memfd_create("guest", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, 8192), 0);
	for (uint64_t i = 0; i <= VM_MEMORY_REGIONS_MAX; i++) {
		const struct vm_memory_region r = {
			.guest = i * 8192, .size = 4096, .user = i * 8192, .offset = i % 2 * 4096};
		assert_int_equal(
			vm_memory_attach(&m, &r, fd), i < VM_MEMORY_REGIONS_MAX ? 0 : -EPROTO);
	}
	assert_non_null(strstr(err_msg(), "more than 8 memory regions"));
	/*
	 * The pages right before and behind a region must be guard pages, which cannot be accessed.
	 */
	for (unsigned i = 0; i < m.count; i++) {
		assert_int_equal(madvise(m.regions[i].host, 4096, MADV_POPULATE_READ), 0);
		assert_int_equal(madvise(m.regions[i].host + 4096, 4096, MADV_POPULATE_READ), -1);
		assert_int_equal(madvise(m.regions[i].host - 4096, 4096, MADV_POPULATE_READ), -1);
	}
	vm_memory_release(&m);
	close(fd);
}

/*
 * Tests guest memory that is a private mapping of a file, with memory above the hole, and with more
 * bytes behind it in the file.
 */
static void mapped_from_a_file(void **state)
{
	static const uint64_t data[] = {
		0, 5 * MIB, 7 * MIB, 3 * GIB + MIB, 4 * GIB - 4096, 4 * GIB};
	_cleanup_fd_ int fd = memfd_create("guest", MFD_CLOEXEC);
	struct vm_memory m;
	struct stat before, after;
	char text[5] = "";

	for (size_t i = 0; i < sizeof(data) / sizeof(data[0]); i++)
		assert_int_equal(pwrite(fd, "file", 4, (off_t)data[i]), 4);
	assert_int_equal(fstat(fd, &before), 0);
	const struct vm_memory_options o = {.size = 4 * GIB, .file = fd};
	assert_int_equal(vm_memory_init(&m, &o), 0);
	assert_true(m.fd < 0 && m.mapped);
	for (size_t i = 0; i < 5; i++) {
		const uint64_t at = data[i] < 3 * GIB ? data[i] : data[i] + GIB;
		char *p = vm_memory_at(&m, at, 4096);
		assert_memory_equal(p, "file", 4);
		memcpy(p, "mine", 4);
	}
	/* Memory in holes of the file is zero, and takes no room in the file. */
	for (uint64_t at = MIB; at < 4 * GIB; at += 64 * MIB) {
		char *p = vm_memory_at(&m, at < 3 * GIB ? at : at + GIB, 4096);
		if (at == 3 * GIB + MIB)
			continue;
		assert_memory_equal(p, "\0\0\0\0", 4);
		memcpy(p, "mine", 4);
		vm_memory_discard(&m, p, 4096);
		assert_memory_equal(p, "\0\0\0\0", 4);
	}
	vm_memory_release(&m);
	for (size_t i = 0; i < sizeof(data) / sizeof(data[0]); i++) {
		assert_int_equal(pread(fd, text, 4, (off_t)data[i]), 4);
		assert_string_equal(text, "file");
	}
	assert_int_equal(fstat(fd, &after), 0);
	/* The unit of mapping is 2 MiB, so at most a page is added next to the data at 1 MiB. */
	assert_true(after.st_blocks <= before.st_blocks + 8);
	const struct vm_memory_options longer = {.size = 4 * GIB + 2 * MIB, .file = fd};
	assert_int_equal(vm_memory_init(&m, &longer), -EBADMSG);
	assert_non_null(strstr(err_msg(), "expected 4297064448"));
}

struct probe {
	uint64_t offset, value;
	unsigned len, calls;
};

static void probe_read(void *device, uint64_t offset, void *data, unsigned len)
{
	struct probe *p = device;

	*p = (struct probe){offset, p->value, len, p->calls + 1};
	memcpy(data, &p->value, len);
}

static void probe_write(void *device, uint64_t offset, const void *data, unsigned len)
{
	struct probe *p = device;

	*p = (struct probe){offset, 0, len, p->calls + 1};
	memcpy(&p->value, data, len);
}

static const struct vm_bus_ops words = {4, probe_read, probe_write};
static const struct vm_bus_ops any = {1 | 2 | 4 | 8, probe_read, NULL};

static int add(struct vm_bus *b, uint64_t base, uint64_t len, struct probe *p)
{
	return vm_bus_add(b, &(struct vm_bus_entry){base, len, "probe", &words, p});
}

static void bus_dispatch(void **state)
{
	struct probe p = {.value = 0x11223344}, q = {.value = 0x55}, w = {0};
	struct vm_bus b = {0};
	uint64_t data = 0;

	assert_int_equal(add(&b, 0x2000, 0x100, &p), 0);
	assert_int_equal(vm_bus_add(&b, &(struct vm_bus_entry){0x1000, 8, "q", &any, &q}), 0);
	assert_int_equal(add(&b, 0x2100, 0x100, &w), 0);
	vm_bus_read(&b, 0x20fc, &data, 4);
	assert_int_equal(data, 0x11223344);
	assert_int_equal(p.offset, 0xfc);
	/*
	 * An access with a wrong width, across the end of a device or where no device is must not
	 * be passed to a device. A read must then give all ones.
	 */
	unsigned calls = p.calls + w.calls;
	static const struct {
		uint64_t addr;
		unsigned len;
	} deaf[] = {{0x2000, 1}, {0x2000, 2}, {0x2000, 8}, {0x20fe, 4}, {0x20ff, 4}, {0x1ffe, 4},
		{0x2200, 4}, {0, 4}, {UINT64_MAX, 4}, {UINT64_MAX - 3, 4}, {0x2000, 3}};
	for (size_t i = 0; i < sizeof(deaf) / sizeof(deaf[0]); i++) {
		data = 0;
		vm_bus_read(&b, deaf[i].addr, &data, deaf[i].len);
		assert_int_equal(data, UINT64_MAX >> (64 - 8 * deaf[i].len));
		vm_bus_write(&b, deaf[i].addr, &data, deaf[i].len);
	}
	assert_int_equal(p.calls + w.calls, calls);
	vm_bus_write(&b, 0x2100, "abcd", 4);
	assert_int_equal(w.calls, 1);
	assert_memory_equal(&w.value, "abcd", 4);
	data = 0;
	vm_bus_read(&b, 0x1007, &data, 1);
	assert_int_equal(data, 0x55);
	/* the device at this address has no write handler, so the bus must ignore the write */
	vm_bus_write(&b, 0x1000, "x", 1);
}

static void bus_refuses(void **state)
{
	struct vm_bus b = {0};
	struct probe p = {0};

	assert_int_equal(add(&b, 0x1000, 0x1000, &p), 0);
	assert_int_equal(add(&b, 0x1000, 1, &p), -EEXIST);
	assert_int_equal(add(&b, 0x1fff, 1, &p), -EEXIST);
	assert_int_equal(add(&b, 0xfff, 2, &p), -EEXIST);
	assert_int_equal(add(&b, 0, 0x3000, &p), -EEXIST);
	assert_int_equal(add(&b, 0x2000, 0, &p), -EINVAL);
	assert_int_equal(add(&b, UINT64_MAX, 2, &p), -EINVAL);
	assert_int_equal(add(&b, 0xfff, 1, &p), 0);
	assert_int_equal(add(&b, 0x2000, 1, &p), 0);
	for (uint64_t at = 0x10000; b.count < VM_BUS_MAX; at += 16)
		assert_int_equal(add(&b, at, 16, &p), 0);
	assert_int_equal(add(&b, 0x100000, 1, &p), -ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(edges_of_one_region),
		cmocka_unit_test(the_hole),
		cmocka_unit_test(shared_and_sealed),
		cmocka_unit_test(transparent_is_shared),
		cmocka_unit_test(mergeable_is_private),
		cmocka_unit_test(refused),
		cmocka_unit_test(mapped_from_a_file),
		cmocka_unit_test(attached),
		cmocka_unit_test(attached_at_most),
		cmocka_unit_test(bus_dispatch),
		cmocka_unit_test(bus_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
