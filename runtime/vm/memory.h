/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM, and the only function that turns a guest address into a pointer.
 *
 *	vm_memory_init(&m, &options)   maps the RAM
 *	vm_kvm_add_memory(&kvm, &m)    gives the RAM to KVM (kvm.h)
 *	p = vm_memory_at(&m, guest, len)
 *	vm_memory_release(&m)          after the last vCPU and device thread has ended
 *
 * RAM is one memfd, mapped shared, so that a vhost-user back end or QEMU can map the same pages.
 * The memfd's size is sealed, because a process that got the descriptor could otherwise truncate
 * the file and make accesses of this process fault. With transparent huge pages the RAM is a file
 * in a tmpfs instead, which has no seals. A back end can then make this process crash, which gains
 * it nothing, because it can change the guest's memory anyway. The layout never changes after init,
 * so any thread may translate addresses without a lock.
 *
 * RAM can also be a private mapping of a file (a snapshot's, vm/snapshot/memory.h). Then there is
 * no descriptor that another process could map.
 *
 * In a vhost-user back end the RAM belongs to another monitor. vm_memory_attach() maps each region
 * that this monitor announces, and vm_memory_at() translates addresses in these regions too. While
 * the machine runs, that monitor may change its layout. The transport (vhost/back.c) makes the
 * device stop using the memory before such a change.
 */
#pragma once
#include <stdint.h>

#include "base/err.h"
#include "base/fd.h"

/*
 * The hole in the guest's physical addresses on x86-64: RAM ends at VM_HOLE_START and continues at
 * 4 GiB, because the addresses between are for MMIO, the IOAPIC and the LAPICs.
 */
#define VM_HOLE_START UINT64_C(0xc0000000)
#define VM_HOLE_END UINT64_C(0x100000000)

#define VM_MEMORY_MIN (UINT64_C(2) << 20)
#define VM_MEMORY_MAX (UINT64_C(1) << 40)

enum vm_pages {
	VM_PAGES_SMALL, /* the host's default page size */
	/*
	 * Transparent huge pages of 2 MiB where the host has them free. A process that may not
	 * mount a tmpfs gets them only if the host's shmem_enabled is "advise" or "within_size".
	 */
	VM_PAGES_TRANSPARENT,
	/* 2 MiB pages from the host's reserved pool; it is an error if the pool has too few */
	VM_PAGES_HUGETLB,
};

struct vm_memory_options {
	uint64_t size; /* size of guest RAM in bytes, a multiple of 2 MiB */
	/*
	 * size in bytes, a multiple of 2 MiB, of a region behind RAM for memory that the guest gets
	 * while it runs (virtio/mem.h); 0: there is none
	 */
	uint64_t hot;
	enum vm_pages pages;
	/*
	 * Lets KSM merge equal pages. KSM merges private pages only, so this RAM is anonymous
	 * memory without a descriptor and cannot be shared with a vhost-user process. A guest can
	 * find out by timing which pages another guest holds, so this is only for machines of one
	 * owner.
	 */
	bool mergeable;
	/*
	 * Descriptor of a file with the contents of the RAM, which is mapped privately: pages that
	 * the guest does not write are those of the file's page cache, and the file never changes.
	 * Such RAM cannot be shared with a vhost-user process. The file must be regular, have at
	 * least `size` + `file_hot` bytes, and keep them, because an access behind its end would
	 * kill this process. 0: there is no file.
	 */
	int file;
	/* how many bytes of the hot region the file has behind those of RAM, a multiple of 2 MiB */
	uint64_t file_hot;
};

/* a vhost-user message describes at most 8 regions; a machine that caisson builds has up to 3 */
#define VM_MEMORY_REGIONS_MAX 8

struct vm_memory_region {
	uint64_t guest; /* first guest-physical address of the region */
	uint64_t size;
	uint64_t offset; /* offset of the region in its file */
	uint64_t user;   /* attached regions only: the region's address in the monitor's process */
	uint8_t *host;
	bool hot; /* the region is for memory that the guest gets while it runs, and not RAM */
	/* attached regions only: address range reserved for the region, with guard pages */
	void *map;
	size_t map_len;
};

struct vm_memory {
	int fd;        /* descriptor of the RAM's file; -EBADF if the RAM is private or attached */
	bool mapped;   /* the RAM is a private mapping of vm_memory_options.file */
	uint64_t size; /* of RAM, without the hot region */
	/* number of regions: 1, one more if RAM continues above the hole, and the hot one */
	unsigned count;
	struct vm_memory_region regions[VM_MEMORY_REGIONS_MAX];
	void *map; /* reserved address range: guard page, RAM, guard page */
	size_t map_len;
};

int vm_memory_init(struct vm_memory *ret, const struct vm_memory_options *options) must_check;
void vm_memory_release(struct vm_memory *m);

/* Initial value for a memory without regions, to which vm_memory_attach() can add them */
#define VM_MEMORY_NONE ((struct vm_memory){.fd = -EBADF})

/*
 * Maps a region of the file `fd`, which the caller still owns, with a guard on each side. Reads
 * guest, size, user and offset of *region and ignores its other members. Returns -EPROTO, with a
 * message, if the region is empty, does not begin at a page, wraps around, overlaps another, or
 * reaches beyond its file, because an access there would raise SIGBUS. A process that can still
 * shrink the file must be trusted not to do so; QEMU seals the file.
 */
int vm_memory_attach(struct vm_memory *m, const struct vm_memory_region *region, int fd) must_check;

/*
 * Translates `user`, an address in the monitor's process, into a guest address. Returns -EPROTO,
 * without a message, if no region contains it.
 */
int vm_memory_from_user(const struct vm_memory *m, uint64_t user, uint64_t *ret_guest) must_check;

/*
 * Returns the host address of the guest bytes [guest, guest + len), or NULL if they are not RAM,
 * wrap around, or leave the region in which they start. A len of 0 gives NULL too, because there is
 * nothing that the caller may touch. Sets no error message, because only the caller knows what the
 * address stands for.
 */
void *vm_memory_at(const struct vm_memory *m, uint64_t guest, uint64_t len) must_check;

/* Returns the hot region, or NULL. */
const struct vm_memory_region *vm_memory_hot(const struct vm_memory *m);

/*
 * Frees the host's memory behind the bytes [host, host + len) of guest RAM, which must be whole
 * pages inside one region. The guest's next access finds zeroes or, in private memory, what was
 * there before the first write. The kernel may ignore the request; then the memory keeps its
 * contents.
 */
void vm_memory_discard(const struct vm_memory *m, void *host, size_t len);

/*
 * Copies data to a guest address. Returns -EFAULT, with a message that names `what`, if the range
 * is not RAM.
 */
int vm_memory_write(const struct vm_memory *m, uint64_t guest, const void *data, size_t len,
	const char *what) must_check;
