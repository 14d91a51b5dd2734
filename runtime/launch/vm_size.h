/* SPDX-License-Identifier: Apache-2.0 */
/* Changes how many vCPUs and how much memory a microVM has while it runs. */
#pragma once
#include "launch/container.h"

/*
 * Gives the microVM the vCPUs for `quota` microseconds of CPU time in each `period`: as many whole
 * ones as that is, at least one.
 */
int vm_size_set_cpus(struct container *c, int64_t quota, uint64_t period) must_check;

/*
 * Does the same for new limits of the container, which an engine may have given. Does nothing if
 * the limits have no quota, or if config.json does not let the number of vCPUs follow the quota. A
 * microVM that cannot have so many vCPUs gets as many as it can.
 */
int vm_size_follow_quota(struct container *c, const struct cg_resources *limits) must_check;

/*
 * Makes the guest give memory to the host, or gives it more, so that it has as much as the
 * container's new memory limit and its kernel need. With `grow` the guest only gets memory, because
 * its own limit is not changed yet, and the function waits until the guest has taken that memory.
 * Memory that the guest gives is not waited for. Does nothing if `limits` has no memory limit.
 * Returns 1 if the guest has more memory than at its start, else 0, and -ETIMEDOUT if the guest
 * does not take the memory.
 */
int vm_size_follow_memory(struct container *c, const struct cg_resources *limits, bool grow)
	must_check;
