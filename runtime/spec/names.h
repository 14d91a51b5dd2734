/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names that config.json's enumerations allow, with the kernel's or libseccomp's numbers for
 * them.
 */
#pragma once
#include "spec/parse.h"

extern const struct spec_name spec_namespace_names[];
extern const struct spec_name spec_capability_names[]; /* value: 1 << CAP_* */
extern const struct spec_name spec_rlimit_names[];
extern const struct spec_name spec_scheduler_policy_names[], spec_scheduler_flag_names[];
extern const struct spec_name spec_io_class_names[];
extern const struct spec_name spec_propagation_names[]; /* MS_*, with or without MS_REC */
extern const struct spec_name spec_personality_names[];
extern const struct spec_name spec_mempolicy_mode_names[], spec_mempolicy_flag_names[];
extern const struct spec_name spec_seccomp_action_names[]; /* without the errno */
extern const struct spec_name spec_seccomp_operator_names[], spec_seccomp_arch_names[],
	spec_seccomp_flag_names[];

/* Returns the name of value, or NULL if it has none. */
const char *spec_name_of(const struct spec_name *names, uint64_t value);
