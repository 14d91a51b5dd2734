/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Passes on, for --timeline, when the guest has done which steps of a plan. The monitor does so for
 * the container's first process, and the proxy for an exec.
 */
#pragma once
#include "agent/agent.h"
#include "plan/plan.h"

/*
 * What is known of the times of one process's start, all in ns of CLOCK_MONOTONIC. The guest's
 * clock has begun later than the host's: a time of the guest plus the difference of the two clocks
 * is a time of the host.
 */
struct guest_steps {
	const struct plan *plan;
	uint64_t first; /* no step of the guest has begun before this time */
	uint64_t asked; /* when the message "create" or "exec" was sent */
	/* an upper bound of the difference; 0: not yet known */
	uint64_t most_difference;
	size_t told; /* how many steps the guest has reported as done */
};

/*
 * Sends what the message "steps" of the guest says to the runtime, by the socket `channel`. Returns
 * -EPROTO if the message is malformed. An error of sending is only logged, because whoever reads
 * the socket notices by its end that the runtime has ended.
 */
int guest_steps_tell(struct guest_steps *g, const struct agent_frame *f, int channel) must_check;
