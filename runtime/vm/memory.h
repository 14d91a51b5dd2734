/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM, and the only function that turns a guest address into a pointer.
 *
 *	vm_memory_init(&m, &options)   maps it
 *	vm_kvm_add_memory(&kvm, &m)    gives it to KVM (kvm.h)
 *	p = vm_memory_at(&m, guest, len)
 *	vm_memory_release(&m)          after the last vCPU and device thread has ended
 *
 * RAM is one file of memory, mapped shared, so that a vhost-user back end or QEMU can map the same
 * pages. A memfd's size is sealed, because a process that got the descriptor could otherwise
 * truncate the file and make accesses of this process fault. With transparent huge pages the file
 * is in a tmpfs instead, which has no seals. A back end can then end this process; it can do
 * anything to the guest anyway. The layout never changes after init, so any thread may translate
 * addresses without a lock.
 *
 * In a vhost-user back end the RAM belongs to another monitor. vm_memory_attach() maps each region
 * that this monitor announces, and vm_memory_at() works as before. That layout changes when the
 * monitor says so; the transport (vhost/back.c) makes the device stop using the memory first.
 */
#pragma once
#include <stdint.h>

#include "base/err.h"
#include "base/fd.h"

/*
 * On x86-64 RAM ends at VM_HOLE_START and continues at 4 GiB, because the hole between holds MMIO,
 * the IOAPIC and the LAPICs.
 */
#define VM_HOLE_START UINT64_C(0xc0000000)
#define VM_HOLE_END UINT64_C(0x100000000)

#define VM_MEMORY_MIN (UINT64_C(2) << 20)
#define VM_MEMORY_MAX (UINT64_C(1) << 40)

enum vm_pages {
	VM_PAGES_SMALL, /* what the host does without advice */
	/*
	 * Pages of 2 MiB if the host finds them. A process that may not mount a tmpfs gets them
	 * only if the host's shmem_enabled is "advise" or "within_size".
	 */
	VM_PAGES_TRANSPARENT,
	VM_PAGES_HUGETLB, /* pages of 2 MiB from the reserved pool, or an error */
};

struct vm_memory_options {
	uint64_t size; /* bytes; a multiple of 2 MiB */
	enum vm_pages pages;
	/*
	 * Lets KSM merge equal pages. The kernel merges private pages only, so this RAM is
	 * anonymous, has no descriptor, and cannot be shared with a vhost-user process. The timing
	 * of merged pages shows which pages another guest holds, so this is only for machines of
	 * one owner.
	 */
	bool mergeable;
};

/* as many as a vhost-user message holds; a machine of our own has 1 or 2 */
#define VM_MEMORY_REGIONS_MAX 8

struct vm_memory_region {
	uint64_t guest; /* first guest-physical address */
	uint64_t size;
	uint64_t offset; /* in the file */
	uint64_t user;   /* its address in the monitor; attached regions only */
	uint8_t *host;
	void *map; /* the reservation around it, with guard pages; attached regions only */
	size_t map_len;
};

struct vm_memory {
	int fd; /* the file; -EBADF if mergeable or attached */
	uint64_t size;
	unsigned count; /* regions: 1, or 2 around the hole */
	struct vm_memory_region regions[VM_MEMORY_REGIONS_MAX];
	void *map; /* the reservation: guard page, RAM, guard page */
	size_t map_len;
};

int vm_memory_init(struct vm_memory *ret, const struct vm_memory_options *options) must_check;
void vm_memory_release(struct vm_memory *m);

/* Memory without any region, which vm_memory_attach() can add to. */
#define VM_MEMORY_NONE ((struct vm_memory){.fd = -EBADF})

/*
 * Maps a region of the file `fd`, which stays the caller's, with a guard on each side. It reads
 * guest, size, user and offset of *region and ignores the rest. -EPROTO, with a message, if the
 * region is empty, does not begin at a page, wraps around, overlaps another, or reaches beyond its
 * file, because an access there would raise SIGBUS. Whoever can still shrink the file must be
 * trusted not to do so; QEMU seals it.
 */
int vm_memory_attach(struct vm_memory *m, const struct vm_memory_region *region, int fd) must_check;

/*
 * Finds the guest address of the monitor's address `user`. -EPROTO, without a message, if there is
 * none.
 */
int vm_memory_from_user(const struct vm_memory *m, uint64_t user, uint64_t *ret_guest) must_check;

/*
 * Returns the host address of the guest bytes [guest, guest + len), or NULL if they are not RAM,
 * wrap around, or leave the region in which they start. A len of 0 gives NULL too, because there is
 * nothing that the caller may touch. Sets no message, because only the caller knows what the
 * address stands for.
 */
void *vm_memory_at(const struct vm_memory *m, uint64_t guest, uint64_t len) must_check;

/*
 * Gives the memory behind the host bytes [host, host + len) back to the host. They must be whole
 * pages inside one region. The next access finds zeroes, or in private memory what was there before
 * the first write. It is a hint: memory that the kernel does not free stays as it is.
 */
void vm_memory_discard(const struct vm_memory *m, void *host, size_t len);

/*
 * Copies data to a guest address. -EFAULT, with a message that names `what`, if it does not lie in
 * RAM.
 */
int vm_memory_write(const struct vm_memory *m, uint64_t guest, const void *data, size_t len,
	const char *what) must_check;
