/* SPDX-License-Identifier: Apache-2.0 */
#include "launch/vm_update.h"

#include "launch/vm_client.h"

static int change(struct container *c, const struct cg_resources *all,
	const struct cg_resources *guest, int64_t cpus_quota, struct vm_change *u)
{
	int r = cpus_quota ? err_ctx(vm_size_check_cpus(c, cpus_quota, VM_SIZE_PERIOD), "--cpus")
			   : vm_size_check_quota(c, all);
	if (r >= 0)
		r = vm_size_grow_memory(c, guest, &u->memory);
	if (r < 0)
		return r;
	const bool grown = r > 0;
	r = cpus_quota
		    ? err_ctx(vm_size_set_cpus(c, cpus_quota, VM_SIZE_PERIOD, &u->cpus), "--cpus")
		    : vm_size_follow_quota(c, all, &u->cpus);
	if (r >= 0)
		r = vm_update(c, guest, grown);
	if (r < 0)
		return r;
	u->limits = true;
	return vm_size_shrink_memory(c, guest);
}

int vm_update_guest(struct container *c, const struct cg_resources *all,
	const struct cg_resources *guest, int64_t cpus_quota, struct vm_change *ret)
{
	*ret = (struct vm_change)VM_UNCHANGED;
	int r = change(c, all, guest, cpus_quota, ret);
	return r < 0 ? vm_undo_guest(c, ret, r) : 0;
}

int vm_undo_guest(struct container *c, struct vm_change *u, int error)
{
	const struct vm_change done = *u;

	*u = (struct vm_change)VM_UNCHANGED;
	if (done.limits)
		error = vm_undo_update(c, error);
	error = vm_size_undo_cpus(c, done.cpus, error);
	return vm_size_undo_memory(c, &done.memory, error);
}
