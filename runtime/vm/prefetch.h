/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages of its memory a machine has touched since it started from a snapshot, and the
 * prefetch of these pages in the next machine that starts from the same snapshot.
 *
 * Without the prefetch the guest's first access to each page makes KVM leave the guest and map the
 * page. A page that the guest first reads and then writes costs a second exit, because it has to be
 * copied then. The prefetch copies the pages that were written, all at once, and lets KVM map all
 * pages if the host's kernel can do that (KVM_PRE_FAULT_MEMORY, Linux 6.11).
 */
#pragma once
#include "vm/kvm.h"

#define VM_PAGE 4096U
/* How many pages a record names at most as written: these take up memory in each machine. */
#define VM_WRITTEN_MAX 2048U

/* Pages that follow one another in the file with the guest's memory. */
struct vm_page_run {
	uint32_t first; /* number of the first page */
	uint32_t count;
	bool written; /* whether the guest has written the pages, or else only read them */
};

/*
 * Finds the pages that the guest has touched since its memory was mapped from the file of a
 * snapshot. `pagemap` is the descriptor of this process's /proc/self/pagemap. Writes up to `max`
 * runs, in the order of the pages, and returns their number. What is beyond the limits is left out.
 */
int vm_pages_record(const struct vm_memory *m, int pagemap, struct vm_page_run *runs, size_t max)
	must_check;

/*
 * Prepares the pages of the runs for the guest, before it runs. `vcpu` is the descriptor of one of
 * its vCPUs. What the host's kernel cannot do is left to the guest's first access, so there is no
 * error.
 */
void vm_prefetch(const struct vm_memory *m, const struct vm_kvm *k, int vcpu,
	const struct vm_page_run *runs, size_t n);
