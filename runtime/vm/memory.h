/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM, and the only way from a guest address to a pointer.
 *
 *	vm_memory_init(&m, &options)   maps it
 *	vm_kvm_add_memory(&kvm, &m)    gives it to KVM (kvm.h)
 *	p = vm_memory_at(&m, guest, len)
 *	vm_memory_release(&m)          after the last vCPU and device thread has ended
 *
 * RAM is one file of memory, mapped shared, so that a vhost-user back end or QEMU can map the same
 * pages. A memfd's size is sealed: a process that was handed the descriptor can't truncate it under
 * our feet. With transparent huge pages it is a file in a tmpfs instead, which knows no seals: a
 * back end, which can do to the guest what it likes anyway, can then end this process too.
 * The layout never changes after init, so any thread may translate without a lock.
 *
 * In a back end of vhost-user the RAM is another monitor's: vm_memory_attach() maps each region it
 * tells of, and vm_memory_at() is the same. That layout changes when the monitor says so; the
 * transport (vhost/back.c) first makes the device let go of it.
 */
#pragma once
#include <stdint.h>

#include "base/err.h"
#include "base/fd.h"

/*
 * x86-64: RAM ends here, goes on at 4 GiB; the hole between holds MMIO, the IOAPIC and the
 * LAPICs.
 */
#define VM_HOLE_START UINT64_C(0xc0000000)
#define VM_HOLE_END UINT64_C(0x100000000)

#define VM_MEMORY_MIN (UINT64_C(2) << 20)
#define VM_MEMORY_MAX (UINT64_C(1) << 40)

enum vm_pages {
	VM_PAGES_SMALL,       /* the host's default, no advice given */
	VM_PAGES_TRANSPARENT, /* 2 MiB where the host finds them; who may not mount a tmpfs: only
				 with shmem_enabled=advise or within_size */
	VM_PAGES_HUGETLB,     /* 2 MiB from the reserved pool, or an error */
};

struct vm_memory_options {
	uint64_t size; /* bytes; a multiple of 2 MiB */
	enum vm_pages pages;
	/*
	 * Let KSM merge equal pages. The kernel merges private pages only, so this RAM is
	 * anonymous, has no descriptor and can't be shared with a vhost-user process. Merging leaks
	 * by timing which pages another guest holds: for machines of one owner only.
	 */
	bool mergeable;
};

#define VM_MEMORY_REGIONS_MAX 8 /* what a vhost-user message holds; of our own: 1 or 2 */

struct vm_memory_region {
	uint64_t guest; /* first guest-physical address */
	uint64_t size;
	uint64_t offset; /* in the file */
	uint64_t user;   /* attached: its address in the monitor */
	uint8_t *host;
	void *map; /* attached: the reservation around it, with guards */
	size_t map_len;
};

struct vm_memory {
	int fd; /* the file; -EBADF where mergeable or attached */
	uint64_t size;
	unsigned count; /* regions: 1, or 2 around the hole */
	struct vm_memory_region regions[VM_MEMORY_REGIONS_MAX];
	void *map; /* the reservation: guard page, RAM, guard page */
	size_t map_len;
};

int vm_memory_init(struct vm_memory *ret, const struct vm_memory_options *options) must_check;
void vm_memory_release(struct vm_memory *m);

/* No memory at all: what vm_memory_attach() begins with. */
#define VM_MEMORY_NONE ((struct vm_memory){.fd = -EBADF})

/*
 * Maps guest, size, user and offset of *region (the rest is ignored) from fd, which stays the
 * caller's, with a guard on each side. -EPROTO with a message where the region is empty, begins
 * within a page (host addresses are as aligned as guest addresses then), wraps, overlaps another,
 * or reaches beyond its file (a page there would be a SIGBUS; whoever may still shrink the file
 * must be trusted not to: QEMU seals it).
 */
int vm_memory_attach(struct vm_memory *m, const struct vm_memory_region *region, int fd) must_check;

/* The guest address of the monitor's address `user`. -EPROTO, without a message: it has none. */
int vm_memory_from_user(const struct vm_memory *m, uint64_t user, uint64_t *ret_guest) must_check;

/*
 * The host address of guest bytes [guest, guest + len), or NULL: not RAM, wraps around, or leaves
 * the region in which it starts. len 0 is NULL too, for there is nothing that the caller may
 * touch. Sets no message: only the caller knows what the address was meant to be.
 */
void *vm_memory_at(const struct vm_memory *m, uint64_t guest, uint64_t len) must_check;

/*
 * Gives what is behind host bytes [host, host + len) back to the host; whole pages, inside one
 * region, from vm_memory_at(). The next access finds zeroes, or in private memory what was there
 * before anybody wrote. A hint: what the kernel does not free stays as it is.
 */
void vm_memory_discard(const struct vm_memory *m, void *host, size_t len);

/* As vm_memory_at(), which must succeed, and copies. -EFAULT with a message that names `what`. */
int vm_memory_write(const struct vm_memory *m, uint64_t guest, const void *data, size_t len,
	const char *what) must_check;
