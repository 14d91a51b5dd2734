/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes and removes a container's class of service and monitoring group of Intel RDT (Resource
 * Director Technology), which limits how much of the CPU's caches and of the memory bandwidth a
 * process uses.
 */
#pragma once
#include <sys/types.h>

#include "spec/spec.h"

/*
 * Makes the container's class of service and monitoring group if config.json asks for them, writes
 * the schemata, and moves the process into both.
 */
int rdt_assign(const struct spec_intel_rdt *rdt, const char *id, pid_t pid) must_check;

/*
 * Removes the container's monitoring group. Also removes its class of service unless config.json
 * named the class, because a named class is shared with other containers.
 */
int rdt_remove(const char *id, const struct spec_intel_rdt *rdt) must_check;
