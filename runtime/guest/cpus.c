/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts vCPUs of the machine on line and off line, for the message "cpus". The machine has all its
 * vCPUs from the beginning, and the kernel has started only some of them (maxcpus= on its command
 * line). The first one always stays on line.
 */
#include <stdio.h>
#include <unistd.h>

#include "base/fd.h"
#include "guest/guest.h"

#define CPU "/sys/devices/system/cpu/cpu%u"
/* how long, in ms, a request may take; the command waits longer (launch/vm_size.c) */
#define CPUS_MS 55000
#define CANNOT "the guest's kernel cannot put CPU %u %s line (CONFIG_HOTPLUG_CPU)"

/* Returns how many CPUs the kernel knows, on line or not. */
static unsigned count_cpus(void)
{
	char path[64];
	unsigned n = 0;

	do
		snprintf(path, sizeof(path), CPU, ++n);
	while (access(path, F_OK) == 0);
	return n;
}

static int set_online(unsigned cpu, bool online)
{
	char path[64];

	snprintf(path, sizeof(path), CPU "/online", cpu);
	int r = fd_write_file(AT_FDCWD, path, online ? "1" : "0");
	if (r == -ENOENT)
		return err_set(EOPNOTSUPP, CANNOT, cpu, online ? "on" : "off");
	return r < 0 ? err_ctx(r, "put CPU %u %s line", cpu, online ? "on" : "off") : 0;
}

/* Checks that the kernel can put the CPUs from 1 to `known` on line and off line. */
static int check_cpus(unsigned known)
{
	char path[64];

	for (unsigned i = 1; i < known; i++) {
		snprintf(path, sizeof(path), CPU "/online", i);
		if (access(path, W_OK) < 0)
			return err_set(EOPNOTSUPP, CANNOT, i, "on or off");
	}
	return 0;
}

static int set_cpus(struct guest *g, const struct agent_frame *f, struct json_out *reply)
{
	const unsigned known = count_cpus();
	uint64_t count;
	int r = 0;

	if (json_get_u64(f->json, "count", &count) < 0 || !count)
		return err_set(EPROTO, "cpus: expected a count from 1");
	if (count > known)
		return err_set(EINVAL, "%llu vCPUs: the guest's kernel knows of %u",
			(unsigned long long)count, known);
	if (json_get_true(f->json, "check"))
		return check_cpus(known);
	for (unsigned i = 1; r >= 0 && i < count; i++)
		r = set_online(i, true);
	for (unsigned i = known - 1; r >= 0 && i >= count; i--)
		r = set_online(i, false);
	return r;
}

void guest_set_cpus(struct guest *g, const struct agent_frame *f)
{
	guest_change(g, f, CPUS_MS, set_cpus);
}
