/* SPDX-License-Identifier: Apache-2.0 */
/* Intel RDT: a container's class of service and its monitoring group in resctrl. */
#pragma once
#include <sys/types.h>

#include "spec/spec.h"

/* Makes the class and the group if needed, writes the schemata, and moves the process there. */
int rdt_assign(const struct spec_intel_rdt *rdt, const char *id, pid_t pid) must_check;

/*
 * Removes the group. Removes the class too, unless config.json named it, because a named class is
 * shared.
 */
int rdt_remove(const char *id, const struct spec_intel_rdt *rdt) must_check;
