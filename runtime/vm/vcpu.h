/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vCPUs: one thread each, started, paused, resumed and stopped together.
 *
 *	vcpus_init(&c, &options)      creates them in KVM, with CPUID set
 *	arch_set_entry(vcpus_fd(&c, 0), ...)   where the first one starts; the others wait for its
 *SIPI vcpus_start(&c)               threads, all paused vcpus_resume(&c); vcpus_pause(&c); ...
 *	poll(c.ended) ; vcpus_stop(&c)        joins the threads; then c.end and c.why say how it
 *went vcpus_release(&c)
 *
 * One thread, the machine's, makes these calls. vcpus_end() may be called from any.
 */
#pragma once
#include <pthread.h>

#include "vm/bus.h"
#include "vm/kvm.h"

enum vm_end {
	VM_END_NONE, /* it runs */
	VM_END_POWEROFF,
	VM_END_RESET,
	VM_END_STOPPED, /* by vcpus_stop() */
	VM_END_FAULT,   /* why says what, with the registers */
	VM_END_LOST,    /* the server of one of its devices has gone */
};

enum vcpu_want { VCPU_PAUSE, VCPU_RUN, VCPU_STOP };

struct vcpu;

struct vcpus {
	const struct vm_kvm *kvm;
	const struct vm_memory *memory;
	const struct vm_bus *pio, *mmio;
	unsigned count;
	unsigned threads; /* started */
	int (*enter)(void *ctx);
	void *enter_ctx;
	struct vcpu *cpu;
	int ended; /* eventfd, readable from the first vcpus_end() on */

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t changed;
	enum vcpu_want want;
	unsigned parked; /* threads that are out of KVM_RUN and wait */
	enum vm_end end;
	char why[ERR_MAX];
};

struct vcpus_options {
	const struct vm_kvm *kvm;
	const struct vm_memory *memory;
	const struct vm_bus *pio, *mmio;
	unsigned count; /* 1 .. VCPUS_MAX and what KVM allows */
	/* Called first in each thread, which ends the machine where it fails; NULL: nothing is. */
	int (*enter)(void *ctx);
	void *enter_ctx;
};

/* What 8-bit APIC ids address: more needs x2APIC ids, which the tables don't describe yet. */
#define VCPUS_MAX 254

int vcpus_init(struct vcpus *ret, const struct vcpus_options *options) must_check;
void vcpus_release(struct vcpus *c);
int vcpus_fd(const struct vcpus *c, unsigned index);

int vcpus_start(struct vcpus *c) must_check;
void vcpus_resume(struct vcpus *c);
/* Returns when no vCPU runs guest code and every exit is dealt with. */
void vcpus_pause(struct vcpus *c);
/* Ends and joins every thread, whatever the guest does. */
void vcpus_stop(struct vcpus *c);

/* The machine has ended; the first call is the one that counts. Wakes the thread that polls. */
void vcpus_end(struct vcpus *c, enum vm_end end, const char *fmt, ...) printf_like(3, 4);
