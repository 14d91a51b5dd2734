/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vCPUs: each has a thread; they are started, paused, resumed and stopped together.
 *
 *	vcpus_init(&c, &options)              creates them in KVM and sets CPUID
 *	arch_set_entry(vcpus_fd(&c, 0), ...)  sets where the first one starts; the others wait for
 *	                                      its start-up interrupt (SIPI)
 *	vcpus_start(&c)                       starts the threads, all paused
 *	vcpus_resume(&c); vcpus_pause(&c); ...
 *	poll(c.ended); vcpus_stop(&c)         joins the threads; c.end and c.why say how it ended
 *	vcpus_release(&c)
 *
 * Only one thread, the machine's, makes these calls. Any thread may call vcpus_end().
 */
#pragma once
#include <pthread.h>

#include "vm/bus.h"
#include "vm/kvm.h"

enum vm_end {
	VM_END_NONE, /* still running */
	VM_END_POWEROFF,
	VM_END_RESET,
	VM_END_STOPPED, /* by vcpus_stop() */
	/* Something went wrong; `why` has the text and the registers. */
	VM_END_FAULT,
	VM_END_LOST, /* the server of a device that the guest needs has gone */
};

enum vcpu_want { VCPU_PAUSE, VCPU_RUN, VCPU_STOP };

struct vcpu;

struct vcpus {
	const struct vm_kvm *kvm;
	const struct vm_memory *memory;
	const struct vm_bus *pio, *mmio;
	unsigned count;
	bool nested;      /* as in struct vcpus_options */
	unsigned threads; /* started */
	int (*enter)(void *ctx);
	void *enter_ctx;
	struct vcpu *cpu;
	int ended; /* eventfd; readable after the first vcpus_end() */

	pthread_mutex_t lock; /* protects the following members */
	pthread_cond_t changed;
	enum vcpu_want want;
	unsigned parked; /* threads that wait outside KVM_RUN */
	enum vm_end end;
	char why[ERR_MAX];
};

struct vcpus_options {
	const struct vm_kvm *kvm;
	const struct vm_memory *memory;
	const struct vm_bus *pio, *mmio;
	unsigned count; /* 1 .. VCPUS_MAX and what KVM allows */
	/* Called first in each thread; if it fails, the machine ends. NULL: nothing is called. */
	int (*enter)(void *ctx);
	void *enter_ctx;
	/* The guest may run virtual machines of its own. -ENOTSUP if KVM cannot do it. */
	bool nested;
};

/*
 * 8-bit APIC ids address no more. More vCPUs need x2APIC ids, which the ACPI tables do not
 * describe.
 */
#define VCPUS_MAX 254

int vcpus_init(struct vcpus *ret, const struct vcpus_options *options) must_check;
void vcpus_release(struct vcpus *c);
int vcpus_fd(const struct vcpus *c, unsigned index);

int vcpus_start(struct vcpus *c) must_check;
void vcpus_resume(struct vcpus *c);
/*
 * Returns when no vCPU runs guest code and every exit is handled. For snapshots (issue 18): until
 * these come, only tests call it.
 */
void vcpus_pause(struct vcpus *c);
/* Ends and joins every thread, whatever the guest does. */
void vcpus_stop(struct vcpus *c);

/*
 * Records that the machine has ended, and wakes the thread that polls c.ended. Only the first call
 * sets the reason.
 */
void vcpus_end(struct vcpus *c, enum vm_end end, const char *fmt, ...) printf_like(3, 4);
