/* SPDX-License-Identifier: Apache-2.0 */
/* What kvm.c and kvm_change.c, the parts of the built-in engine, share. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "engine/engine.h"
#include "vm/machine.h"

/*
 * What a function of the devices' thread returned, for the monitor's thread. It has a copy of the
 * error message, because each thread has an error message of its own (base/err.h).
 */
struct outcome {
	int r;
	char why[ERR_MAX]; /* the error message if r < 0 */
};

struct kvm_engine {
	struct machine machine;
	bool built, has_thread;
	bool foreign; /* whether the guest is a foreign one, whose reset ends the machine */
	pthread_t thread;
	/*
	 * duplicates of the descriptors in the description, because the caller may close its own
	 * descriptors while the devices still use them; -EBADF: the machine has no such file
	 */
	int log, image, seed, guest_agent;
	/* a program of the guest has opened or closed its port, and the caller does not know yet */
	atomic_bool port_changed;
	/*
	 * the error after which vm.image holds requests: errno after a failed write, -errno after a
	 * failed read; 0: the caller knows of every such error
	 */
	atomic_int held;
	uint64_t size; /* new size of vm.image for resize_now() */
	/* resize_now() has ended with the outcome `resize`, and the caller does not know it yet */
	atomic_bool resized;
	struct outcome resize;
	struct outcome run; /* of machine_run() */
	/* what the engine saves in a snapshot, and into which files */
	const struct engine_save *save;
	struct outcome saved;         /* of write_snapshot() */
	struct engine_change *change; /* what the devices' thread changes in the machine */
	struct outcome changed;       /* of the change */
};

/* Notes the result r of a function, with the error message. */
void kvm_note(struct outcome *o, int r);
/* Returns the outcome in the monitor's thread, with the error message. */
int kvm_outcome(const struct outcome *o) must_check;

/*
 * kvm_change.c: saves the machine, and attaches devices to it and detaches them, in the devices'
 * thread. The functions are those of struct engine_ops.
 */
int kvm_save(struct engine *e, const struct engine_save *s) must_check;
int kvm_saved(struct engine *e) must_check;
void kvm_go_on(struct engine *e);
int kvm_change(struct engine *e, struct engine_change *c) must_check;
int kvm_changed(struct engine *e) must_check;
int kvm_place_late(struct engine *e) must_check;
