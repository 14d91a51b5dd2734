/* SPDX-License-Identifier: Apache-2.0 */
/* Changes the limits in the guest of a microVM, and the size of its machine with them. */
#pragma once
#include "launch/vm_size.h"

/* What vm_update_guest() has changed, for vm_undo_guest(). */
struct vm_change {
	bool limits;                  /* the limits that the guest's kernel enforces */
	uint64_t cpus;                /* the number of vCPUs before; 0: unchanged */
	struct vm_size_memory memory; /* the machine's memory before */
};

#define VM_UNCHANGED \
	{ \
		.memory = {.growth = VM_SIZE_UNKNOWN } \
	}

/*
 * Makes the machine's memory as large as the limits need it, changes the number of vCPUs, and sends
 * the guest the limits `guest`, which its kernel enforces. `all` are the limits of host and guest.
 * cpus_quota is that of --cpus in VM_SIZE_PERIOD; 0: the vCPUs follow the limits. After an error
 * nothing has changed.
 */
int vm_update_guest(struct container *c, const struct cg_resources *all,
	const struct cg_resources *guest, int64_t cpus_quota, struct vm_change *ret) must_check;
/*
 * Takes back what vm_update_guest() has changed, because what followed has failed with `error`.
 * Returns `error`, whose message stays.
 */
int vm_undo_guest(struct container *c, struct vm_change *u, int error) must_check;
