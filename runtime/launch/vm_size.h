/* SPDX-License-Identifier: Apache-2.0 */
/* Changes how many vCPUs and how much memory a microVM has while it runs. */
#pragma once
#include "launch/container.h"

/*
 * These two check that vm_size_set_cpus() and vm_size_follow_quota() can do what they would be
 * asked for, as far as that is known before it is done.
 */
int vm_size_check_cpus(struct container *c, int64_t quota, uint64_t period) must_check;
int vm_size_check_quota(struct container *c, const struct cg_resources *limits) must_check;
#define VM_SIZE_UNKNOWN UINT64_MAX
/* the period of a quota of CPU time without one, in microseconds, as the kernel has it */
#define VM_SIZE_PERIOD 100000

/*
 * Gives the microVM the vCPUs for `quota` microseconds of CPU time in each `period`: as many whole
 * ones as that is, at least one. *ret_before is how many there were, for vm_size_undo_cpus().
 */
int vm_size_set_cpus(struct container *c, int64_t quota, uint64_t period, uint64_t *ret_before)
	must_check;

/*
 * Does the same for new limits of the container, which an engine may have given. Does nothing if
 * the limits have no quota, or if config.json does not let the number of vCPUs follow the quota. A
 * microVM that cannot have so many vCPUs gets as many as it can.
 */
int vm_size_follow_quota(
	struct container *c, const struct cg_resources *limits, uint64_t *ret_before) must_check;

/*
 * Gives the microVM as many vCPUs as it had, because what followed has failed with `error`. Returns
 * `error`, whose message stays. A guest whose agent is older does not say how many there were; the
 * message then says that they stay.
 */
int vm_size_undo_cpus(struct container *c, uint64_t before, int error) must_check;

/*
 * How much memory the machine was to have before a change, in bytes; for vm_size_undo_memory().
 */
struct vm_size_memory {
	/* what the guest was to have beyond what it has started with; VM_SIZE_UNKNOWN: unchanged */
	uint64_t growth;
	uint64_t balloon; /* what the balloon was to give to the host */
};

/*
 * Gives the guest more memory if the container's new memory limit and its kernel need more than it
 * has, and waits until the guest has taken it. Does nothing if `limits` has no memory limit.
 * *ret_before is for vm_size_undo_memory(). Returns 1 if the guest has more memory than at its
 * start, else 0, and -ETIMEDOUT if the guest does not take the memory; then it is offered no more.
 */
int vm_size_grow_memory(struct container *c, const struct cg_resources *limits,
	struct vm_size_memory *ret_before) must_check;

/*
 * Makes the guest give memory to the host if the new limit, which has been set, and its kernel need
 * less than it has. Does not wait for that memory. Does nothing if `limits` has no memory limit.
 */
int vm_size_shrink_memory(struct container *c, const struct cg_resources *limits) must_check;

/*
 * Asks the guest for the memory that it was asked for before vm_size_grow_memory(), because what
 * followed has failed with `error`. Does not wait for it. Returns `error`, whose message stays.
 */
int vm_size_undo_memory(struct container *c, const struct vm_size_memory *before, int error)
	must_check;
