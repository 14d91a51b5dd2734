/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/orders.h"

#include <sys/mount.h>

#include "plan/image.h"
#include "plan/vm.h"

PACK_TYPE(opt_bool_type, struct opt_bool, PACK_BOOL(struct opt_bool, set),
	PACK_BOOL(struct opt_bool, v));
PACK_TYPE(device_rule_type, struct cg_device_rule, PACK_BOOL(struct cg_device_rule, allow),
	PACK_STRING_NEEDED(struct cg_device_rule, access));
PACK_TYPE(hugepage_type, struct cg_hugepage_limit,
	PACK_STRING_NEEDED(struct cg_hugepage_limit, page_size));
PACK_TYPE(unified_type, struct cg_unified, PACK_STRING_NEEDED(struct cg_unified, file),
	PACK_STRING_NEEDED(struct cg_unified, value));

#define OPT_I64(m) PACK_EMBED(struct cg_resources, m, &plan_opt_i64_type)
#define OPT_U64(m) PACK_EMBED(struct cg_resources, m, &plan_opt_u64_type)
#define OPT_BOOL(m) PACK_EMBED(struct cg_resources, m, &opt_bool_type)
#define DROP_DEVICES(m) \
	PACK_DROP(struct cg_resources, block_io.m.v), PACK_DROP(struct cg_resources, block_io.m.n)

/*
 * Describes to base/pack.h, which writes structs as bytes, the limits of resources that the guest
 * sets. plan_vm_split_limits() clears the members that the host sets. Those of the cleared members
 * that are pointers are listed nevertheless, so that base/pack.h never copies a pointer as a
 * number.
 */
PACK_TYPE(limits_type, struct cg_resources,
	PACK_ARRAY(struct cg_resources, devices, ndevices, &device_rule_type),
	OPT_I64(memory.limit), OPT_I64(memory.reservation), OPT_I64(memory.swap),
	OPT_I64(memory.kernel), OPT_I64(memory.kernel_tcp), OPT_U64(memory.swappiness),
	OPT_BOOL(memory.disable_oom_killer), OPT_BOOL(memory.use_hierarchy),
	OPT_BOOL(memory.check_before_update), PACK_BOOL(struct cg_resources, memory.upper_bound),
	OPT_U64(cpu.shares), OPT_U64(cpu.burst), OPT_U64(cpu.period), OPT_I64(cpu.quota),
	OPT_I64(cpu.idle), OPT_I64(cpu.realtime_runtime), OPT_U64(cpu.realtime_period),
	PACK_DROP(struct cg_resources, cpu.cpus), PACK_DROP(struct cg_resources, cpu.mems),
	OPT_I64(pids_limit), OPT_U64(block_io.weight), OPT_U64(block_io.leaf_weight),
	DROP_DEVICES(weight_device), DROP_DEVICES(leaf_weight_device),
	DROP_DEVICES(throttle_read_bps), DROP_DEVICES(throttle_write_bps),
	DROP_DEVICES(throttle_read_iops), DROP_DEVICES(throttle_write_iops),
	PACK_ARRAY(struct cg_resources, hugepages, nhugepages, &hugepage_type),
	PACK_DROP(struct cg_resources, rdma), PACK_DROP(struct cg_resources, nrdma),
	OPT_U64(net_class_id), PACK_DROP(struct cg_resources, nnet_priorities),
	PACK_ARRAY(struct cg_resources, unified, nunified, &unified_type));

PACK_TYPE(orders_type, struct agent_orders, PACK_EMBED(struct agent_orders, plan, &plan_type),
	PACK_NUMBERS(struct agent_orders, mount_flags, nslots),
	PACK_NUMBERS(struct agent_orders, filter, nfilter),
	PACK_STRING(struct agent_orders, subgroup), PACK_STRING(struct agent_orders, id),
	PACK_STRING(struct agent_orders, state),
	PACK_EMBED(struct agent_orders, resources, &limits_type),
	PACK_BOOL(struct agent_orders, tell_steps), PACK_BOOL(struct agent_orders, ignore_paused),
	PACK_BOOL(struct agent_orders, delegate), PACK_BOOL(struct agent_orders, image),
	PACK_BOOL(struct agent_orders, overlay), PACK_BOOL(struct agent_orders, root_readonly));

int agent_orders_for_exec(
	struct arena *a, const struct plan *plan, const struct spec *spec, struct agent_orders *ret)
{
	*ret = (struct agent_orders){
		.nslots = (size_t)plan->nslots,
		.uid = plan_uid(spec, plan->process),
		.mount_flags = arena_array(a, (size_t)plan->nslots + 1, sizeof(*ret->mount_flags)),
	};
	if (!ret->mount_flags)
		return -ENOMEM;
	return plan_select(a, plan, 1u << PLACE_GUEST | 1u << PLACE_INIT, 0, &ret->plan);
}

int agent_orders_for_create(
	struct arena *a, const struct plan *plan, const struct spec *spec, struct agent_orders *ret)
{
	struct plan_vm_limits limits;

	int r = agent_orders_for_exec(a, plan, spec, ret);
	if (r >= 0)
		r = plan_vm_split_limits(a, &spec->resources, &limits);
	if (r < 0)
		return r;
	ret->resources = limits.guest;
	ret->delegate = plan_delegates_cgroup(spec);
	ret->image = spec_image_is_root(spec);
	ret->overlay = spec_image_is_overlay(spec);
	ret->root_readonly = spec->root_readonly;
	return 0;
}

int agent_orders_pack(const struct agent_orders *orders, struct strbuf *ret)
{
	return pack_write(&orders_type, orders, ret);
}

/*
 * the attributes of mount_setattr(2) that the host's mount of a source may hand on to the guest's
 * mount
 */
#define MOUNT_FLAGS (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)

static bool fills_slot(const struct step *s)
{
	return s->place == PLACE_GUEST &&
	       (s->kind == STEP_OPEN_ROOT || s->kind == STEP_OPEN_SOURCE ||
		       s->kind == STEP_CONNECT);
}

int agent_orders_unpack(void *bytes, size_t len, struct agent_orders **ret)
{
	void *orders;

	int r = pack_read(&orders_type, bytes, len, &orders);
	if (r < 0)
		return r;
	*ret = orders;
	for (size_t i = 0; i < (*ret)->nslots; i++)
		if ((*ret)->mount_flags[i] & ~(uint32_t)MOUNT_FLAGS)
			return err_set(EPROTO, "the orders have other mount flags than read-only, "
					       "nosuid, nodev and noexec");
	for (size_t i = 0; i < (*ret)->plan.n; i++)
		if ((*ret)->plan.steps[i].slot < 0 && fills_slot(&(*ret)->plan.steps[i]))
			return err_set(EPROTO, "step %zu of the orders has no slot", i);
	return plan_check_slots(&(*ret)->plan, (*ret)->nslots);
}

int agent_limits_pack(const struct cg_resources *limits, struct strbuf *ret)
{
	return pack_write(&limits_type, limits, ret);
}

int agent_limits_unpack(void *bytes, size_t len, struct cg_resources **ret)
{
	void *limits;

	int r = pack_read(&limits_type, bytes, len, &limits);
	if (r >= 0)
		*ret = limits;
	return r;
}
