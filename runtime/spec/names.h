/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declares the names that the enumerations of config.json allow, with the kernel's or libseccomp's
 * numbers for them.
 */
#pragma once
#include "spec/parse.h"

extern const struct spec_name spec_namespace_names[];
extern const struct spec_name spec_capability_names[]; /* the values are bit masks, 1 << CAP_* */
extern const struct spec_name spec_rlimit_names[];
extern const struct spec_name spec_scheduler_policy_names[], spec_scheduler_flag_names[];
extern const struct spec_name spec_io_class_names[];
/* the values are MS_*, with or without MS_REC */
extern const struct spec_name spec_propagation_names[];
extern const struct spec_name spec_personality_names[];
extern const struct spec_name spec_mempolicy_mode_names[], spec_mempolicy_flag_names[];
/* the values are SCMP_ACT_*, without an errno in their low bits */
extern const struct spec_name spec_seccomp_action_names[];
extern const struct spec_name spec_seccomp_operator_names[], spec_seccomp_arch_names[],
	spec_seccomp_flag_names[];

/*
 * Returns the name that the table `names` has for a value, or NULL if the table has no such value.
 */
const char *spec_name_of(const struct spec_name *names, uint64_t value);
