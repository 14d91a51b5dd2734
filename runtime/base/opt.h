/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Types for values that may be absent; {0} stands for absent. These types are needed because in
 * config.json an absent number and the number 0 have different meanings.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct opt_i64 {
	bool set;
	int64_t v;
};

struct opt_u64 {
	bool set;
	uint64_t v;
};

struct opt_bool {
	bool set;
	bool v;
};
