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
			"annotation " MACHINE_MAX_VCPUS
			": caisson puts no vCPUs on line in a foreign guest (annotation " SPEC_GUEST
			"): leave it out");
	if (str_to_u64(text, &wanted) < 0 || wanted < m->cpus || wanted > most)
		return err_set(EINVAL,
			"annotation " MACHINE_MAX_VCPUS
			": \"%s\": expected a number from %u, the vCPUs that the microVM starts "
			"with, to %llu (four for each CPU of this host)",
			text, m->cpus, (unsigned long long)most);
	m->max_cpus = (unsigned)wanted;
	return 0;
}

/* how Linux on x86-64 adds memory: in blocks of this many bytes, or of more */
#define LINUX_BLOCK (UINT64_C(128) << 20)

static int refuse_memory(const char *text, const char *why)
{
	return err_set(ENOTSUP, "annotation " MACHINE_MAX_MEMORY ": \"%s\": %s", text, why);
}

int machine_decide_max_memory(const struct spec *s, struct machine_config *m)
{
	const char *text = spec_annotation(s, MACHINE_MAX_MEMORY);
	uint64_t wanted;

	if (!text)
		return 0;
	if (m->foreign)
		return refuse_memory(text, "caisson gives a foreign guest (annotation " SPEC_GUEST
					   ") no memory while it runs: leave it out");
	if (m->hypervisor != HYPERVISOR_KVM)
		return refuse_memory(text,
			"QEMU's microvm machine has no virtio-mem device: --hypervisor kvm has "
			"one, and without the annotation the microVM keeps its size");
	if (m->pages == VM_PAGES_HUGETLB)
		return refuse_memory(text,
			"the host's pool of huge pages (io.caisson.vm.pages: hugetlb) is reserved "
			"at the start: leave one of the two out");
	if (str_to_size(text, &wanted) < 0 || wanted < m->memory + LINUX_BLOCK ||
		wanted > VM_MEMORY_MAX)
		return err_set(EINVAL,
			"annotation " MACHINE_MAX_MEMORY
			": \"%s\": expected a size such as 4g, from %llu to %llu bytes: at least "
			"128 MiB more than the microVM starts with",
			text, (unsigned long long)(m->memory + LINUX_BLOCK),
			(unsigned long long)VM_MEMORY_MAX);
	m->hot_memory = (wanted - m->memory) / LINUX_BLOCK * LINUX_BLOCK;
	return 0;
}
