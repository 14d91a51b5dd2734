/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/vmclock.h"

#include <endian.h>
#include <string.h>
#include <sys/random.h>

#include "vm/arch/x86_64/arch.h"

_Static_assert(offsetof(struct vmclock_page, vm_generation_counter) == 0x68, "as in Linux");

int vm_vmclock_renew(const struct vm_memory *m)
{
	const struct vmclock_page *before = vm_memory_at(m, ARCH_VMCLOCK, sizeof(*before));
	uint64_t random[2];

	if (!before)
		return err_set(EFAULT, "VMClock: the guest has no memory at 0x%x", ARCH_VMCLOCK);
	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return err_sys("draw the machine's VMClock markers");
	const struct vmclock_page page = {.magic = htole32(VMCLOCK_MAGIC),
		.size = htole32(VM_VMCLOCK_LEN),
		.version = htole16(VMCLOCK_VERSION),
		.counter_id = VMCLOCK_COUNTER_INVALID,
		/* The next even number, because a program of the guest may be reading the page. */
		.seq_count = htole32((le32toh(before->seq_count) | 1) + 1),
		.disruption_marker = random[0],
		.flags = htole64(
			VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT | VMCLOCK_FLAG_NOTIFICATION_PRESENT),
		.clock_status = VMCLOCK_STATUS_UNKNOWN,
		.vm_generation_counter = random[1]};
	return vm_memory_write(m, ARCH_VMCLOCK, &page, sizeof(page), "VMClock");
}
