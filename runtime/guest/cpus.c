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

/* Counts the CPUs that are on line. The first one has no file "online", because it always is. */
static unsigned count_online(unsigned known)
{
	unsigned n = 1;

	for (unsigned i = 1; i < known; i++) {
		_cleanup_strbuf_ struct strbuf text = {0};
		char path[64];
		snprintf(path, sizeof(path), CPU "/online", i);
		if (fd_read_file(AT_FDCWD, path, &text, 16) >= 0)
			n += text.s[0] == '1';
	}
	err_clear();
	return n;
}

static int put_on_line(unsigned count, unsigned known)
{
	int r = 0;

	for (unsigned i = 1; r >= 0 && i < count; i++)
		r = set_online(i, true);
	for (unsigned i = known - 1; r >= 0 && i >= count; i--)
		r = set_online(i, false);
	return r;
}

/*
 * Makes `count` CPUs be on line. If that fails, as many are on line as before. The reply says how
 * many that are, so that the command can take the change back (launch/vm_size.c).
 */
static int set_cpus(struct guest *g, const struct agent_frame *f, struct json_out *reply)
{
	const unsigned known = count_cpus(), before = count_online(known);
	uint64_t count;

	if (json_get_u64(f->json, "count", &count) < 0 || !count)
		return err_set(EPROTO, "cpus: expected a count from 1");
	if (count > known)
		return err_set(EINVAL, "%llu vCPUs: the guest's kernel knows of %u",
			(unsigned long long)count, known);
	if (json_get_true(f->json, "check"))
		return check_cpus(known);
	json_out_u64(reply, "before", before);
	int r = put_on_line((unsigned)count, known);
	if (r >= 0)
		return r;
	_cleanup_free_ char *why = strdup(err_msg());
	if (put_on_line(before, known) < 0)
		return err_ctx(r, "%s; undoing it failed too", why ? why : "?");
	return err_set(-r, "%s", why ? why : "out of memory");
}

void guest_set_cpus(struct guest *g, const struct agent_frame *f)
{
	guest_change(g, f, CPUS_MS, set_cpus);
}
