/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the record of the pages that a machine of a snapshot has touched, and the prefetch of such
 * pages. The tests run without KVM, so nothing but the pages' copies is prefetched; the test host's
 * tests start whole machines.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "vm/prefetch.h"

#define MEMORY (UINT64_C(8) << 20)
#define DATA (UINT64_C(2) << 20) /* how much of the file has data, from its beginning */
#define MAX 1024

static int file = -EBADF, pagemap = -EBADF;
static struct vm_page_run runs[MAX];

static void map(struct vm_memory *m)
{
	if (vm_memory_init(m, &(struct vm_memory_options){.size = MEMORY, .file = file}) < 0)
		fail_msg("%s", err_msg());
	assert_true(m->mapped);
}

static size_t record(const struct vm_memory *m, size_t max)
{
	int n = vm_pages_record(m, pagemap, runs, max);

	if (n < 0)
		fail_msg("%s", err_msg());
	return (size_t)n;
}

/* Returns the run that contains the page, or NULL. */
static const struct vm_page_run *run_of(size_t n, uint32_t page)
{
	for (size_t i = 0; i < n; i++)
		if (page >= runs[i].first && page - runs[i].first < runs[i].count)
			return &runs[i];
	return NULL;
}

static uint8_t *page_at(const struct vm_memory *m, uint32_t page)
{
	return vm_memory_at(m, (uint64_t)page * VM_PAGE, VM_PAGE);
}

static int set_up(void **state)
{
	uint8_t page[VM_PAGE];

	file = memfd_create("snapshot", MFD_CLOEXEC);
	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (file < 0 || pagemap < 0 || ftruncate(file, MEMORY) < 0)
		return -1;
	for (uint32_t i = 0; i < DATA / VM_PAGE; i++) {
		memset(page, (int)i, sizeof(page));
		if (fd_write_all(file, page, sizeof(page)) < 0)
			return -1;
	}
	return 0;
}

static int tear_down(void **state)
{
	fd_close(&file);
	fd_close(&pagemap);
	return 0;
}

static void touched_pages_are_recorded(void **state)
{
	struct vm_memory m;

	map(&m);
	assert_int_equal(record(&m, MAX), 0);
	assert_int_equal(*page_at(&m, 3), 3);
	*page_at(&m, 100) = 1;
	*page_at(&m, 101) = 1;
	size_t n = record(&m, MAX);
	const struct vm_page_run *read = run_of(n, 3), *written = run_of(n, 101);
	assert_non_null(read);
	assert_false(read->written);
	assert_non_null(written);
	assert_true(written->written && written->first == 100 && written->count == 2);
	for (size_t i = 1; i < n; i++)
		assert_true(runs[i].first >= runs[i - 1].first + runs[i - 1].count);
	vm_memory_release(&m);
}

static void a_record_has_limits(void **state)
{
	struct vm_memory m;
	uint64_t written = 0;

	map(&m);
	for (uint32_t i = 0; i < 64; i += 2)
		*page_at(&m, 100 + i) = 1;
	assert_int_equal(record(&m, 5), 5);
	/* The whole memory is 2048 pages, and no more may be recorded as written. */
	memset(page_at(&m, 0), 1, MEMORY);
	size_t n = record(&m, MAX);
	for (size_t i = 0; i < n; i++)
		written += runs[i].written ? runs[i].count : 0;
	assert_true(written <= VM_WRITTEN_MAX && written >= DATA / VM_PAGE);
	vm_memory_release(&m);
}

static void memory_without_a_file_has_no_record(void **state)
{
	struct vm_memory m;

	if (vm_memory_init(&m, &(struct vm_memory_options){.size = MEMORY}) < 0)
		fail_msg("%s", err_msg());
	*page_at(&m, 3) = 1;
	assert_int_equal(record(&m, MAX), 0);
	vm_memory_release(&m);
}

static void written_pages_are_copied_ahead(void **state)
{
	const struct vm_kvm none = {.dev = -EBADF, .vm = -EBADF};
	const struct vm_page_run wanted[] = {{50, 1, false}, {100, 2, true}, {2040, 8, true}};
	struct vm_memory m;

	map(&m);
	vm_prefetch(&m, &none, -EBADF, wanted, ARRAY_SIZE(wanted));
	size_t n = record(&m, MAX);
	const struct vm_page_run *written = run_of(n, 100);
	assert_non_null(written);
	assert_true(written->written && written->first == 100 && written->count == 2);
	assert_null(run_of(n, 50));
	assert_non_null(run_of(n, 2047));
	assert_int_equal(*page_at(&m, 100), 100);
	assert_int_equal(*page_at(&m, 101), 101);
	assert_int_equal(*page_at(&m, 2047), 0);
	/* A page beyond the memory is none of the machine's. */
	vm_prefetch(&m, &none, -EBADF, &(struct vm_page_run){2048, UINT32_MAX >> 1, true}, 1);
	vm_memory_release(&m);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(touched_pages_are_recorded),
		TEST(a_record_has_limits),
		TEST(memory_without_a_file_has_no_record),
		TEST(written_pages_are_copied_ahead),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
