/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The guest's memory is a private mapping of a snapshot's file. The kernel
 * tells in /proc/self/pagemap of each page whether it is mapped, and whether it is a page of the
 * file or one that this process has for itself, which means that the guest has written the page.
 * The kernel also maps some pages of the file around one that the guest has read ("fault-around"),
 * so more pages count as read than the guest has read. They cost nothing, because they stay pages
 * of the file.
 */
#include "vm/prefetch.h"

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* Linux 5.14 and Linux 6.11 have these; Debian 12's headers lack those of 6.11. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#define CAP_PRE_FAULT_MEMORY 236
struct pre_fault_memory {
	uint64_t gpa, size, flags, padding[5];
};
#define PRE_FAULT_MEMORY _IOWR(KVMIO, 0xd5, struct pre_fault_memory)

/* bits of an entry of /proc/PID/pagemap */
#define PAGE_PRESENT (UINT64_C(1) << 63)
#define PAGE_OF_FILE (UINT64_C(1) << 61)
#define ENTRIES 512U /* how many entries are read at once */

/* A record that is being made. */
struct record {
	struct vm_page_run *runs;
	size_t n, max;
	uint32_t written; /* number of the pages in it that were written */
};

/* Adds a page to the record. Returns false if the record has no room for the page. */
static bool add_page(struct record *r, uint32_t page, bool written)
{
	struct vm_page_run *last = r->n ? &r->runs[r->n - 1] : NULL;

	if (written && r->written == VM_WRITTEN_MAX)
		return true;
	r->written += written;
	if (last && last->written == written && last->first + last->count == page) {
		last->count++;
		return true;
	}
	if (r->n == r->max)
		return false;
	r->runs[r->n++] = (struct vm_page_run){page, 1, written};
	return true;
}

int vm_pages_record(const struct vm_memory *m, int pagemap, struct vm_page_run *runs, size_t max)
{
	const uint64_t host = (uintptr_t)m->regions[0].host / VM_PAGE, pages = m->size / VM_PAGE;
	struct record r = {.runs = runs, .max = max};
	uint64_t entries[ENTRIES];

	if (!m->mapped || pages > UINT32_MAX)
		return 0;
	for (uint64_t at = 0; at < pages; at += ENTRIES) {
		const size_t n = pages - at < ENTRIES ? pages - at : ENTRIES, len = n * 8;

		if (pread(pagemap, entries, len, (off_t)((host + at) * 8)) != (ssize_t)len)
			return err_sys("read which pages of the guest are mapped");
		for (size_t i = 0; i < n; i++)
			if (entries[i] & PAGE_PRESENT &&
				!add_page(&r, (uint32_t)(at + i), !(entries[i] & PAGE_OF_FILE)))
				return (int)r.n;
	}
	return (int)r.n;
}

/* Lets KVM map `len` bytes of the guest. Returns false if KVM does not do that. */
static bool map_in_kvm(int vcpu, uint64_t guest, uint64_t len)
{
	struct pre_fault_memory p = {.gpa = guest, .size = len};

	/* The kernel moves gpa and size on when a signal interrupts it. */
	while (p.size > 0)
		if (ioctl(vcpu, PRE_FAULT_MEMORY, &p) < 0 && errno != EINTR && errno != EAGAIN)
			return false;
	return true;
}

/* Prepares the part of a run that lies in the region. Returns false if KVM does not map it. */
static bool prefetch_in(const struct vm_memory_region *g, int vcpu, const struct vm_page_run *run)
{
	const uint64_t begin = (uint64_t)run->first * VM_PAGE;
	const uint64_t end = begin + (uint64_t)run->count * VM_PAGE, limit = g->offset + g->size;
	const uint64_t from = begin > g->offset ? begin : g->offset;
	const uint64_t to = end < limit ? end : limit;

	if (from >= to || g->hot)
		return true;
	if (run->written)
		(void)madvise(g->host + (from - g->offset), to - from, MADV_POPULATE_WRITE);
	return vcpu < 0 || map_in_kvm(vcpu, g->guest + (from - g->offset), to - from);
}

void vm_prefetch(const struct vm_memory *m, const struct vm_kvm *k, int vcpu,
	const struct vm_page_run *runs, size_t n)
{
	if (!m->mapped)
		return;
	if (ioctl(k->vm, KVM_CHECK_EXTENSION, CAP_PRE_FAULT_MEMORY) <= 0)
		vcpu = -EBADF;
	for (size_t i = 0; i < n; i++)
		for (unsigned j = 0; j < m->count; j++)
			if (!prefetch_in(&m->regions[j], vcpu, &runs[i]))
				vcpu = -EBADF;
}
