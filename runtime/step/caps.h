/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process's capability sets as bit sets, for the two steps that write them. Private to step/.
 */
#pragma once
#include "spec/spec.h"

struct cap_sets {
	uint64_t effective, permitted, inheritable;
};

int cap_sets_read(struct cap_sets *ret) must_check;
int cap_sets_write(const struct cap_sets *sets) must_check;

/* What of caps (NULL: nothing) a process with the sets `now` can be given. */
struct cap_sets cap_sets_grantable(
	const struct spec_capabilities *caps, const struct cap_sets *now);
