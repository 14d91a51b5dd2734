/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells a microVM that runs of interfaces that `caisson net attach` has put into its network
 * namespace, by `caisson update`, which can talk to the microVM's monitor.
 */
#pragma once
#include "network/tool.h"

/* Environment variable by which `caisson net` tells caisson-net the path of the program caisson. */
#define MICROVM_PROGRAM "CAISSON_PROGRAM"

/* Gives the microVM of the container `id` an interface of its namespace. */
int microvm_add(struct host *h, const struct tool_globals *g, const char *id, const char *interface)
	must_check;
/*
 * Takes an interface away from the microVM of a container that runs. It is no error if the microVM
 * does not have the interface, because `attach` may have been killed before it gave it.
 */
int microvm_remove(struct host *h, const struct tool_globals *g, const char *id,
	const char *interface) must_check;
