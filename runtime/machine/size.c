/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/size.h"

#include <unistd.h>

uint64_t machine_host_memory(void)
{
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

int machine_check_memory(const char *field, uint64_t bytes)
{
	uint64_t host = machine_host_memory();

	if (bytes < MACHINE_MEMORY_MIN)
		return err_set(EINVAL, "%s: %llu bytes: a microVM needs at least %llu", field,
			(unsigned long long)bytes, (unsigned long long)MACHINE_MEMORY_MIN);
	if (bytes > host)
		return err_set(EINVAL, "%s: %llu bytes: this host has %llu", field,
			(unsigned long long)bytes, (unsigned long long)host);
	return 0;
}

int machine_check_cpus(const char *field, uint64_t cpus)
{
	uint64_t online = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN);

	if (!cpus || cpus > MACHINE_CPUS_MAX)
		return err_set(EINVAL, "%s: %llu vCPUs: expected 1 to %d", field,
			(unsigned long long)cpus, MACHINE_CPUS_MAX);
	if (cpus > 4 * online)
		return err_set(EINVAL,
			"%s: %llu vCPUs: this host has %llu CPUs, at most four vCPUs "
			"for each make sense",
			field, (unsigned long long)cpus, (unsigned long long)online);
	return 0;
}
