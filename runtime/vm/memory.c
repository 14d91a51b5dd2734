/* SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"

#include <inttypes.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE (UINT64_C(2) << 20)

static int check_options(const struct vm_memory_options *o)
{
	if (o->size < VM_MEMORY_MIN || o->size > VM_MEMORY_MAX || o->size % HUGE_PAGE)
		return err_set(EINVAL,
			"guest memory of %" PRIu64
			" bytes: expected a multiple of 2 MiB from %" PRIu64 " MiB to %" PRIu64
			" MiB",
			o->size, VM_MEMORY_MIN >> 20, VM_MEMORY_MAX >> 20);
	if (o->mergeable && o->pages == VM_PAGES_HUGETLB)
		return err_set(EINVAL, "guest memory: the kernel can't merge (KSM) huge pages; "
				       "choose one of the two");
	return 0;
}

static int open_ram(uint64_t size, bool hugetlb)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;

	if (hugetlb)
		flags |= MFD_HUGETLB | MFD_HUGE_2MB;
	_cleanup_fd_ int fd = memfd_create("caisson-guest-ram", flags);
	if (fd < 0)
		return err_sys("create guest memory%s", hugetlb ? " of 2 MiB huge pages" : "");
	if (ftruncate(fd, (off_t)size) < 0)
		return err_sys("size guest memory to %" PRIu64 " MiB", size >> 20);
	/* Whoever is handed this descriptor must not be able to make our own accesses fault. */
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return err_sys("seal the size of guest memory");
	return take_fd(&fd);
}

/*
 * Reserves a guard on each side and maps RAM between them: an access that slips past a check faults
 * instead of reaching the heap of the VMM.
 */
static int map_ram(struct vm_memory *m, const struct vm_memory_options *o)
{
	m->map_len = m->size + 3 * HUGE_PAGE;
	void *map = mmap(
		NULL, m->map_len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED)
		return err_sys(
			"reserve %" PRIu64 " MiB of address space for the guest", m->size >> 20);
	m->map = map;
	/* Aligned for huge pages, with at least one huge page of guard before and after. */
	uintptr_t ram = ((uintptr_t)map + 2 * HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1);
	int flags = MAP_FIXED | MAP_NORESERVE |
		    (o->mergeable ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
	if (o->pages == VM_PAGES_HUGETLB)
		flags &= ~MAP_NORESERVE; /* an empty pool is an error now, not a SIGBUS later */
	/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
	uint8_t *host = mmap(
		(void *)ram, m->size, PROT_READ | PROT_WRITE, flags, o->mergeable ? -1 : m->fd, 0);
	if (host == MAP_FAILED)
		return err_sys("map %" PRIu64 " MiB of guest memory%s", m->size >> 20,
			o->pages == VM_PAGES_HUGETLB
				? " (see /proc/sys/vm/nr_hugepages for the pool of huge pages)"
				: "");
	uint64_t low = m->size < VM_HOLE_START ? m->size : VM_HOLE_START;
	m->regions[m->count++] = (struct vm_memory_region){.size = low, .host = host};
	if (m->size > low)
		m->regions[m->count++] = (struct vm_memory_region){
			.guest = VM_HOLE_END,
			.size = m->size - low,
			.offset = low,
			.host = host + low,
		};
	if (o->pages == VM_PAGES_TRANSPARENT && madvise(host, m->size, MADV_HUGEPAGE) < 0)
		return err_sys("advise huge pages for guest memory");
	if (o->mergeable && madvise(host, m->size, MADV_MERGEABLE) < 0)
		return err_sys("let KSM merge guest memory");
	/* A core dump of the VMM is no place for the guest's secrets, nor of that size. */
	if (madvise(host, m->size, MADV_DONTDUMP) < 0)
		return err_sys("keep guest memory out of core dumps");
	return 0;
}

int vm_memory_init(struct vm_memory *ret, const struct vm_memory_options *options)
{
	int r = check_options(options);

	if (r < 0)
		return r;
	*ret = (struct vm_memory){.fd = -EBADF, .size = options->size};
	if (!options->mergeable) {
		ret->fd = open_ram(options->size, options->pages == VM_PAGES_HUGETLB);
		if (ret->fd < 0)
			return ret->fd;
	}
	r = map_ram(ret, options);
	if (r < 0)
		vm_memory_release(ret);
	return r;
}

void vm_memory_release(struct vm_memory *m)
{
	if (m->map)
		munmap(m->map, m->map_len);
	if (m->fd >= 0)
		fd_close(&m->fd);
	*m = (struct vm_memory){.fd = -EBADF};
}

void *vm_memory_at(const struct vm_memory *m, uint64_t guest, uint64_t len)
{
	if (len == 0)
		return NULL;
	for (unsigned i = 0; i < m->count; i++) {
		const struct vm_memory_region *g = &m->regions[i];

		if (guest < g->guest || guest - g->guest >= g->size)
			continue;
		/* Both sides were shown to be in range, so nothing here can wrap (CVE-2019-18960).
		 */
		if (len > g->size - (guest - g->guest))
			return NULL;
		return g->host + (guest - g->guest);
	}
	return NULL;
}

int vm_memory_write(
	const struct vm_memory *m, uint64_t guest, const void *data, size_t len, const char *what)
{
	if (len == 0)
		return 0;
	void *to = vm_memory_at(m, guest, len);

	if (!to)
		return err_set(EFAULT,
			"%s: %zu bytes at guest address 0x%" PRIx64
			" do not fit into guest memory (%" PRIu64
			" MiB); give the machine more memory",
			what, len, guest, m->size >> 20);
	memcpy(to, data, len);
	return 0;
}
