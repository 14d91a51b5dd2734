/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The capability sets of the process as bit sets, for the two steps that write them. Private to
 * step/.
 */
#pragma once
#include "spec/spec.h"

struct cap_sets {
	uint64_t effective, permitted, inheritable;
};

int cap_sets_read(struct cap_sets *ret) must_check;
int cap_sets_write(const struct cap_sets *sets) must_check;

/* Which of caps a process that has the sets `now` can be given. caps NULL: none are asked for. */
struct cap_sets cap_sets_grantable(
	const struct spec_capabilities *caps, const struct cap_sets *now);
