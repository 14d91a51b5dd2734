/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/spare.h"

#include <unistd.h>

int machine_decide_max_cpus(const struct spec *s, struct machine_config *m)
{
	const char *text = spec_annotation(s, MACHINE_MAX_VCPUS);
	uint64_t online = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN), wanted;
	uint64_t most = 4 * online < MACHINE_CPUS_MAX ? 4 * online : MACHINE_CPUS_MAX;

	m->max_cpus = m->cpus;
	if (!text)
		return 0;
	if (m->foreign)
		return err_set(ENOTSUP,
			"annotation " MACHINE_MAX_VCPUS ": a foreign guest (annotation " SPEC_GUEST
			") has no agent that could put vCPUs on line: leave it out");
	if (str_to_u64(text, &wanted) < 0 || wanted < m->cpus || wanted > most)
		return err_set(EINVAL,
			"annotation " MACHINE_MAX_VCPUS
			": \"%s\": expected a number from %u, the vCPUs that the microVM starts "
			"with, to %llu (four for each CPU of this host)",
			text, m->cpus, (unsigned long long)most);
	m->max_cpus = (unsigned)wanted;
	return 0;
}
