/* SPDX-License-Identifier: Apache-2.0 */
/* Reads and writes the capability sets of this process, each as a bit set. */
#pragma once
#include "spec/spec.h"

struct cap_sets {
	uint64_t effective, permitted, inheritable;
};

int cap_sets_read(struct cap_sets *ret) must_check;
int cap_sets_write(const struct cap_sets *sets) must_check;

/*
 * Returns those of the capabilities `caps` that a process can be given whose present capability
 * sets are `now`. If `caps` is NULL, the result is empty.
 */
struct cap_sets cap_sets_grantable(
	const struct spec_capabilities *caps, const struct cap_sets *now);
