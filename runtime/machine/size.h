/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What sizes a machine may have. caisson-inside checks the sizes of its options with the same
 * functions before it makes config.json, so that its messages name the options.
 */
#pragma once
#include <stdint.h>

#include "base/err.h"

/* how many vCPUs the ACPI tables can list, because their APIC ids have 8 bits */
#define MACHINE_CPUS_MAX 254
/*
 * Smallest memory of a machine, in bytes. With less memory Debian's kernel does not get as far as
 * starting /init.
 */
#define MACHINE_MEMORY_MIN (UINT64_C(64) << 20)

/* Returns the bytes of memory that the host has. */
uint64_t machine_host_memory(void);

/* Check a size, which the user gave as `field`: a field of config.json, or an option. */
int machine_check_memory(const char *field, uint64_t bytes) must_check;
int machine_check_cpus(const char *field, uint64_t cpus) must_check;
