/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Types for values that may be absent; {0} stands for absent. They are needed because config.json
 * gives absent and zero different meanings.
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
