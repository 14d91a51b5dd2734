/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decides for each limit of linux.resources whether the guest's kernel or the host's enforces it in
 * VM mode. The rule:
 *
 *  - The guest enforces limits that count the container's own processes and what they use: devices,
 *    memory, pids, hugepageLimits.
 *  - The host enforces limits on what the machine uses of the host: cpu, blockIO, rdma. The host
 *    also refuses what cgroup v2 lacks. The machine has a fixed amount of memory, and its cgroup on
 *    the host is as large (machine/machine_config.c).
 *
 * A key of `unified` belongs to the controller that it names. The host enforces cpu, cpuset, io,
 * rdma and misc, because these name the host's CPUs and device numbers. The guest enforces all
 * others. No limit is enforced by both kernels, because a limit such as the container's
 * memory.high, if it were set around the whole machine, would slow the monitor down.
 */
#include <stdlib.h>

#include "plan/vm.h"

#define MEMORY_MAX "memory.max"

static bool is_hosts_file(const char *file)
{
	static const char *const controllers[] = {"cpu.", "cpuset.", "io.", "rdma.", "misc."};

	for (size_t i = 0; i < ARRAY_SIZE(controllers); i++)
		if (str_starts(file, controllers[i]))
			return true;
	return false;
}

static int split_unified(
	struct arena *a, const struct cg_resources *all, struct plan_vm_limits *ret)
{
	struct cg_unified *guest = arena_array(a, all->nunified + 1, sizeof(*guest));
	struct cg_unified *host = arena_array(a, all->nunified + 1, sizeof(*host));
	size_t nguest = 0, nhost = 0;

	if (!guest || !host)
		return -ENOMEM;
	for (size_t i = 0; i < all->nunified; i++)
		if (is_hosts_file(all->unified[i].file))
			host[nhost++] = all->unified[i];
		else
			guest[nguest++] = all->unified[i];
	ret->guest.unified = guest;
	ret->guest.nunified = nguest;
	ret->host.unified = host;
	ret->host.nunified = nhost;
	return 0;
}

int plan_vm_split_limits(
	struct arena *a, const struct cg_resources *all, struct plan_vm_limits *ret)
{
	ret->guest = (struct cg_resources){
		.devices = all->devices,
		.ndevices = all->ndevices,
		.memory.limit = all->memory.limit,
		.memory.reservation = all->memory.reservation,
		.memory.swap = all->memory.swap,
		.memory.check_before_update = all->memory.check_before_update,
		.pids_limit = all->pids_limit,
		.hugepages = all->hugepages,
		.nhugepages = all->nhugepages,
	};
	ret->host = *all;
	ret->host.devices = NULL;
	ret->host.ndevices = 0;
	ret->host.memory.limit = (struct opt_i64){0};
	ret->host.memory.reservation = (struct opt_i64){0};
	ret->host.memory.swap = (struct opt_i64){0};
	ret->host.memory.check_before_update = (struct opt_bool){0};
	ret->host.pids_limit = (struct opt_i64){0};
	ret->host.hugepages = NULL;
	ret->host.nhugepages = 0;
	return split_unified(a, all, ret);
}

/*
 * Reads a size as the kernel does: a number, with or without a unit K, M, G, T or P. Returns 0 for
 * "max" and for text that is not a number.
 */
static uint64_t parse_size(const char *text)
{
	static const char units[] = "kmgtp";
	char *end;
	uint64_t n = strtoull(text, &end, 0);
	const char *unit = *end ? strchr(units, *end | 0x20) : NULL;

	if (unit && __builtin_mul_overflow(n, UINT64_C(1) << (10 * (unit - units + 1)), &n))
		return UINT64_MAX;
	return n;
}

uint64_t plan_vm_memory_limit(const struct cg_resources *res, const char **ret_field)
{
	*ret_field = "linux.resources.memory.limit";
	for (size_t i = 0; i < res->nunified; i++) {
		if (!streq(res->unified[i].file, MEMORY_MAX))
			continue;
		*ret_field = "linux.resources.unified[\"" MEMORY_MAX "\"]";
		return parse_size(res->unified[i].value);
	}
	return res->memory.limit.set && res->memory.limit.v > 0 ? (uint64_t)res->memory.limit.v : 0;
}
