/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the vCPUs of a machine. Each vCPU has a thread; the threads are started, paused, resumed and
 * stopped together.
 *
 *	vcpus_init(&c, &options)              creates the vCPUs in KVM and sets their CPUID
 *	arch_set_entry(vcpus_fd(&c, 0), ...)  sets where the first one starts; the others wait for
 *	                                      its start-up interrupt (SIPI)
 *	vcpus_start(&c)                       starts the threads, all paused
 *	vcpus_resume(&c); vcpus_pause(&c); ...
 *	poll(c.ended); vcpus_stop(&c)         joins the threads; c.end and c.why say how the
 *	                                      machine ended
 *	vcpus_release(&c)
 *
 * Only the machine's main thread may make these calls. Any thread may call vcpus_end().
 */
#pragma once
#include <pthread.h>

#include "vm/bus.h"
#include "vm/kvm.h"

enum vm_end {
	VM_END_NONE, /* the machine still runs */
	VM_END_POWEROFF,
	VM_END_RESET,
	VM_END_STOPPED, /* vcpus_stop() ended the machine */
	/*
	 * Something went wrong. `why` has an error text, with the vCPU's registers if a vCPU
	 * failed.
	 */
	VM_END_FAULT,
	VM_END_LOST, /* the connection to a process that serves a device of the guest was lost */
};

enum vcpu_want { VCPU_PAUSE, VCPU_RUN, VCPU_STOP };

struct vcpu;

struct vcpus {
	const struct vm_kvm *kvm;
	const struct vm_memory *memory;
	const struct vm_bus *pio, *mmio;
	unsigned count;
	bool nested;      /* the guest may run virtual machines of its own */
	unsigned threads; /* number of threads that were started */
	int (*enter)(void *ctx);
	void *enter_ctx;
	struct vcpu *cpu;
	int ended; /* eventfd, readable after the first call of vcpus_end() */

	pthread_mutex_t lock; /* protects the members below */
	pthread_cond_t changed;
	enum vcpu_want want;
	/* number of vCPU threads that wait outside of KVM_RUN, because the vCPUs are paused */
	unsigned parked;
	enum vm_end end;
	char why[ERR_MAX];
};

struct vcpus_options {
	const struct vm_kvm *kvm;
	const struct vm_memory *memory;
	const struct vm_bus *pio, *mmio;
	unsigned count; /* number of vCPUs: from 1 to VCPUS_MAX or to KVM's limit */
	/*
	 * Each vCPU thread calls this first; if it fails, the machine ends. NULL: nothing is
	 * called.
	 */
	int (*enter)(void *ctx);
	void *enter_ctx;
	/*
	 * The guest may run virtual machines of its own. If KVM cannot do that, vcpus_init()
	 * returns -ENOTSUP.
	 */
	bool nested;
};

/*
 * 8-bit APIC ids cannot address more vCPUs. More would need x2APIC ids, which the ACPI tables do
 * not describe.
 */
#define VCPUS_MAX 254

int vcpus_init(struct vcpus *ret, const struct vcpus_options *options) must_check;
void vcpus_release(struct vcpus *c);
int vcpus_fd(const struct vcpus *c, unsigned index);

int vcpus_start(struct vcpus *c) must_check;
void vcpus_resume(struct vcpus *c);
/* Pauses the vCPUs. Returns when no vCPU runs guest code and every exit is handled. */
void vcpus_pause(struct vcpus *c);
/* Ends and joins every vCPU thread, whatever the guest does. */
void vcpus_stop(struct vcpus *c);

/*
 * Records that the machine has ended and why, and wakes the thread that polls c->ended. If it is
 * called several times, the first reason stays.
 */
void vcpus_end(struct vcpus *c, enum vm_end end, const char *fmt, ...) printf_like(3, 4);
