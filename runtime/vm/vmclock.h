/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMClock (UAPI.13): a page of guest memory at ARCH_VMCLOCK. Other values of two of its members
 * tell the guest that its clocks have jumped and that another machine may have the same state.
 * Programs in the guest can map the page, so that they need not ask the kernel each time. Linux has
 * the driver since 6.13. The host writes the page each time that a machine starts from a snapshot,
 * and then raises the interrupt of the generation id (vm/genid.h), which is for both devices.
 *
 * The page says that it has no precise clock, because guests take kvm-clock for that. A guest that
 * writes to the page misleads only its own programs: of the page's contents the host uses only the
 * member seq_count, whose next value it computes.
 */
#pragma once
#include "vm/memory.h"

#define VM_VMCLOCK_LEN 4096

/*
 * The contents of the page, as in Linux's uapi/linux/vmclock-abi.h. The text of UAPI.13 1.0 has
 * another offset for vm_generation_counter and other bits for the flags, but QEMU, Firecracker,
 * AWS-LC and Linux all use those of the header. Numbers are little-endian.
 */
struct vmclock_page {
	uint32_t magic, size;
	uint16_t version;
	uint8_t counter_id, time_type;
	uint32_t seq_count; /* odd while the members below are changed */
	uint64_t disruption_marker;
	uint64_t flags;
	uint8_t pad[2];
	uint8_t clock_status;
	uint8_t time[0x68 - 0x23]; /* the precise clock, which is not there */
	uint64_t vm_generation_counter;
};

#define VMCLOCK_MAGIC 0x4b4c4356 /* "VCLK" */
#define VMCLOCK_VERSION 1
#define VMCLOCK_COUNTER_INVALID 0xff
#define VMCLOCK_STATUS_UNKNOWN 0
#define VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT (1U << 8)
#define VMCLOCK_FLAG_NOTIFICATION_PRESENT (1U << 9)

/* Writes the page with new values. No vCPU may run. The caller raises the interrupt. */
int vm_vmclock_renew(const struct vm_memory *m) must_check;
