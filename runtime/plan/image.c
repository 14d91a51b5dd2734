/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Describes the types of plan.h, and those of spec.h that steps point to, so that plans can be
 * written as bytes and read. Whoever adds a pointer, a boolean or an enumeration to one of these
 * types adds it here too. tests/unit/test_plan_image.c compares plans that were written and read.
 */
#include "plan/image.h"

static const struct pack_field strings_fields[] = {PACK_STRINGS(struct spec_strings, v, n)};
const struct pack_type plan_strings_type = {.name = "struct spec_strings",
	.size = sizeof(struct spec_strings),
	.fields = strings_fields,
	.nfields = ARRAY_SIZE(strings_fields)};

/* The next definitions describe the structures of config.json to which a plan's steps point. */

PACK_TYPE(id_maps_type, struct spec_id_maps, PACK_NUMBERS(struct spec_id_maps, v, n));
static const struct pack_field opt_i64_fields[] = {PACK_BOOL(struct opt_i64, set)};
const struct pack_type plan_opt_i64_type = {.name = "struct opt_i64",
	.size = sizeof(struct opt_i64),
	.fields = opt_i64_fields,
	.nfields = ARRAY_SIZE(opt_i64_fields)};
static const struct pack_field opt_u64_fields[] = {PACK_BOOL(struct opt_u64, set)};
const struct pack_type plan_opt_u64_type = {.name = "struct opt_u64",
	.size = sizeof(struct opt_u64),
	.fields = opt_u64_fields,
	.nfields = ARRAY_SIZE(opt_u64_fields)};
PACK_TYPE(time_offset_type, struct spec_time_offset, PACK_BOOL(struct spec_time_offset, set));

PACK_TYPE(mount_type, struct spec_mount, PACK_STRING_NEEDED(struct spec_mount, destination),
	PACK_STRING(struct spec_mount, type), PACK_STRING(struct spec_mount, source),
	PACK_STRING(struct spec_mount, backend), PACK_BOOL(struct spec_mount, bind),
	PACK_BOOL(struct spec_mount, rbind), PACK_BOOL(struct spec_mount, idmap),
	PACK_BOOL(struct spec_mount, ridmap), PACK_STRING(struct spec_mount, idmap_text),
	PACK_BOOL(struct spec_mount, copy_symlink), PACK_BOOL(struct spec_mount, src_nofollow),
	PACK_BOOL(struct spec_mount, dest_nofollow), PACK_BOOL(struct spec_mount, remount),
	PACK_BOOL(struct spec_mount, tmpcopyup),
	PACK_EMBED(struct spec_mount, data, &plan_strings_type),
	PACK_EMBED(struct spec_mount, uid_mappings, &id_maps_type),
	PACK_EMBED(struct spec_mount, gid_mappings, &id_maps_type));

PACK_TYPE(user_type, struct spec_user, PACK_EMBED(struct spec_user, umask, &plan_opt_i64_type),
	PACK_NUMBERS(struct spec_user, additional_gids, nadditional_gids));
PACK_TYPE(rlimit_type, struct spec_rlimit, PACK_STRING_NEEDED(struct spec_rlimit, name));
static const struct pack_type capabilities_type = {
	.name = "struct spec_capabilities", .size = sizeof(struct spec_capabilities)};
static const struct pack_type scheduler_type = {
	.name = "struct spec_scheduler", .size = sizeof(struct spec_scheduler)};

PACK_TYPE(process_type, struct spec_process, PACK_BOOL(struct spec_process, terminal),
	PACK_BOOL(struct spec_process, has_user), PACK_EMBED(struct spec_process, user, &user_type),
	PACK_EMBED(struct spec_process, args, &plan_strings_type),
	PACK_EMBED(struct spec_process, env, &plan_strings_type),
	PACK_STRING_NEEDED(struct spec_process, cwd),
	PACK_POINTER(struct spec_process, capabilities, &capabilities_type),
	PACK_ARRAY(struct spec_process, rlimits, nrlimits, &rlimit_type),
	PACK_BOOL(struct spec_process, no_new_privileges),
	PACK_STRING(struct spec_process, apparmor_profile),
	PACK_STRING(struct spec_process, selinux_label),
	PACK_EMBED(struct spec_process, oom_score_adj, &plan_opt_i64_type),
	PACK_POINTER(struct spec_process, scheduler, &scheduler_type),
	PACK_EMBED(struct spec_process, io_priority, &plan_opt_i64_type),
	PACK_STRING(struct spec_process, exec_affinity_initial),
	PACK_STRING(struct spec_process, exec_affinity_final));

PACK_TYPE(hook_type, struct spec_hook, PACK_STRING_NEEDED(struct spec_hook, path),
	PACK_EMBED(struct spec_hook, args, &plan_strings_type),
	PACK_EMBED(struct spec_hook, env, &plan_strings_type), PACK_BOOL(struct spec_hook, has_env),
	PACK_EMBED(struct spec_hook, timeout, &plan_opt_i64_type));
PACK_TYPE(hooks_type, struct spec_hooks, PACK_ARRAY(struct spec_hooks, v, n, &hook_type));

PACK_TYPE(device_type, struct spec_device, PACK_STRING_NEEDED(struct spec_device, path),
	PACK_EMBED(struct spec_device, file_mode, &plan_opt_u64_type),
	PACK_EMBED(struct spec_device, uid, &plan_opt_u64_type),
	PACK_EMBED(struct spec_device, gid, &plan_opt_u64_type));

PACK_TYPE(seccomp_type, struct spec_seccomp, PACK_DROP(struct spec_seccomp, architectures),
	PACK_DROP(struct spec_seccomp, narchitectures), PACK_DROP(struct spec_seccomp, rules),
	PACK_DROP(struct spec_seccomp, nrules), PACK_STRING(struct spec_seccomp, listener_path),
	PACK_STRING(struct spec_seccomp, listener_metadata),
	PACK_BOOL(struct spec_seccomp, notify));

PACK_TYPE(memory_policy_type, struct spec_memory_policy,
	PACK_STRING(struct spec_memory_policy, nodes));

/* The next definitions describe the members of a step, for each kind of step. */

/*
 * Each type below describes struct step for one group of kinds of steps, with only those members of
 * the union in struct step that steps of these kinds use.
 */
static const struct pack_type nothing_type = {.name = "struct step", .size = sizeof(struct step)};
PACK_TYPE(text_step, struct step, PACK_STRING(struct step, text));
PACK_TYPE(name_step, struct step, PACK_STRING_NEEDED(struct step, text));
PACK_TYPE(clone_step, struct step, PACK_BOOL(struct step, clone.staged));
PACK_TYPE(fork_step, struct step, PACK_BOOL(struct step, fork.staged));
PACK_TYPE(time_step, struct step, PACK_EMBED(struct step, time.monotonic, &time_offset_type),
	PACK_EMBED(struct step, time.boottime, &time_offset_type));
PACK_TYPE(ns_step, struct step, PACK_ENUM(struct step, ns.type, SPEC_NS_COUNT),
	PACK_STRING(struct step, ns.path));
PACK_TYPE(map_step, struct step, PACK_EMBED(struct step, map.uid, &id_maps_type),
	PACK_EMBED(struct step, map.gid, &id_maps_type));
PACK_TYPE(open_step, struct step, PACK_STRING_NEEDED(struct step, open.path),
	PACK_BOOL(struct step, open.in_root), PACK_BOOL(struct step, open.recursive),
	PACK_STRING(struct step, open.layers), PACK_STRING(struct step, open.lower),
	PACK_STRING(struct step, open.upper), PACK_STRING(struct step, open.work),
	PACK_BOOL(struct step, open.userxattr), PACK_BOOL(struct step, open.as_namespace),
	PACK_POINTER(struct step, open.mount, &mount_type),
	PACK_EMBED(struct step, open.idmap_uid, &id_maps_type),
	PACK_EMBED(struct step, open.idmap_gid, &id_maps_type),
	PACK_BOOL(struct step, open.idmap_joined));
PACK_TYPE(connect_step, struct step, PACK_POINTER_NEEDED(struct step, connect.mount, &mount_type),
	PACK_STRING_NEEDED(struct step, connect.device));
PACK_TYPE(mount_step, struct step, PACK_POINTER_NEEDED(struct step, mount.mount, &mount_type),
	PACK_STRING(struct step, mount.label), PACK_BOOL(struct step, mount.userns),
	PACK_BOOL(struct step, mount.cgroup_ns), PACK_EMBED(struct step, mount.uid, &id_maps_type),
	PACK_EMBED(struct step, mount.gid, &id_maps_type));
PACK_TYPE(device_step, struct step, PACK_POINTER_NEEDED(struct step, device.device, &device_type),
	PACK_BOOL(struct step, device.bind), PACK_BOOL(struct step, device.made));
PACK_TYPE(node_type, struct plan_node, PACK_POINTER_NEEDED(struct plan_node, device, &device_type),
	PACK_STRING(struct plan_node, field));
PACK_TYPE(nodes_step, struct step, PACK_ARRAY(struct step, nodes.v, nodes.n, &node_type),
	PACK_EMBED(struct step, nodes.uid, &id_maps_type),
	PACK_EMBED(struct step, nodes.gid, &id_maps_type));
PACK_TYPE(link_step, struct step, PACK_STRING_NEEDED(struct step, link.target),
	PACK_STRING_NEEDED(struct step, link.path));
PACK_TYPE(pair_step, struct step, PACK_STRING_NEEDED(struct step, pair.key),
	PACK_STRING(struct step, pair.value));
PACK_TYPE(hooks_step, struct step, PACK_STRING_NEEDED(struct step, hooks.name),
	PACK_STRING_NEEDED(struct step, hooks.status),
	PACK_EMBED(struct step, hooks.hooks, &hooks_type));
PACK_TYPE(mapped_root_step, struct step, PACK_DROP(struct step, user.process),
	PACK_BOOL(struct step, user.keep_groups));
PACK_TYPE(user_step, struct step, PACK_POINTER_NEEDED(struct step, user.process, &process_type),
	PACK_BOOL(struct step, user.keep_groups));
PACK_TYPE(caps_step, struct step, PACK_POINTER(struct step, caps.caps, &capabilities_type),
	PACK_BOOL(struct step, caps.keep_sys_admin));
PACK_TYPE(seccomp_step, struct step,
	PACK_POINTER_NEEDED(struct step, seccomp.seccomp, &seccomp_type),
	PACK_POINTER(struct step, seccomp.final_caps, &capabilities_type),
	PACK_BOOL(struct step, seccomp.drop_caps));
PACK_TYPE(memory_policy_step, struct step,
	PACK_POINTER_NEEDED(struct step, mempolicy, &memory_policy_type));
PACK_TYPE(process_step, struct step, PACK_POINTER_NEEDED(struct step, process, &process_type));

/*
 * A kind of step that has no entry here is never sent to another process. Reading or writing such a
 * step is an error.
 */
static const struct pack_type *const by_kind[STEP_COUNT] = {
	[STEP_CGROUP_CREATE] = &nothing_type,
	[STEP_CGROUP_LIMIT] = &nothing_type,
	[STEP_OPEN_ROOT] = &open_step,
	[STEP_OPEN_SOURCE] = &open_step,
	[STEP_DEVICE_NODES] = &nodes_step,
	[STEP_CONNECT] = &connect_step,
	[STEP_OPEN_NAMESPACE] = &ns_step,
	[STEP_COMPILE_SECCOMP] = &seccomp_step,
	[STEP_CLONE] = &clone_step,
	[STEP_ENTER] = &nothing_type,
	[STEP_TIME_NS] = &time_step,
	[STEP_FORK] = &fork_step,
	[STEP_ID_MAP] = &map_step,
	[STEP_CGROUP_ATTACH] = &nothing_type,
	[STEP_BARRIER] = &name_step,
	[STEP_JOIN] = &ns_step,
	[STEP_MAPPED_ROOT] = &mapped_root_step,
	[STEP_CGROUP_NS] = &nothing_type,
	[STEP_LOOPBACK] = &nothing_type,
	[STEP_NEW_NETWORK] = &nothing_type,
	[STEP_HOSTNAME] = &name_step,
	[STEP_DOMAINNAME] = &name_step,
	[STEP_ATTACH_ROOT] = &open_step,
	[STEP_MOUNT] = &mount_step,
	[STEP_DEVICE] = &device_step,
	[STEP_SYMLINK] = &link_step,
	[STEP_HOOKS] = &hooks_step,
	[STEP_PIVOT] = &nothing_type,
	[STEP_CONSOLE] = &process_step,
	[STEP_SYSCTL] = &pair_step,
	[STEP_READONLY_PATH] = &name_step,
	[STEP_MASK_PATH] = &name_step,
	[STEP_READONLY_ROOT] = &nothing_type,
	[STEP_ROOT_PROPAGATION] = &nothing_type,
	[STEP_MEMORY_POLICY] = &memory_policy_step,
	[STEP_PERSONALITY] = &nothing_type,
	[STEP_RLIMITS] = &process_step,
	[STEP_OOM_SCORE] = &process_step,
	[STEP_SCHEDULER] = &process_step,
	[STEP_IO_PRIORITY] = &process_step,
	[STEP_AFFINITY] = &text_step,
	[STEP_KEYRING] = &text_step,
	[STEP_EXEC_LABEL] = &process_step,
	[STEP_FIND_PROGRAM] = &process_step,
	[STEP_USER] = &user_step,
	[STEP_CAPABILITIES] = &caps_step,
	[STEP_NO_NEW_PRIVS] = &process_step,
	[STEP_CLOSE] = &nothing_type,
	[STEP_WAIT_START] = &nothing_type,
	[STEP_SECCOMP] = &seccomp_step,
	[STEP_EXEC] = &process_step,
};

/*
 * The type of steps that are never sent to another process. Reading or writing a step of this type
 * always fails, because the type requires that `kind` is below 0.
 */
PACK_TYPE(never_sent, struct step, PACK_ENUM(struct step, kind, 0));

static const struct pack_type *type_of_step(const void *object)
{
	const struct step *s = object;
	const struct pack_type *t = by_kind[s->kind];

	return t ? t : &never_sent;
}

static const struct pack_field step_fields[] = {
	PACK_ENUM(struct step, kind, STEP_COUNT),
	PACK_ENUM(struct step, place, PLACE_GUEST + 1),
	PACK_STRING(struct step, field),
};

static const struct pack_type *const variants[] = {&nothing_type, &text_step, &name_step,
	&clone_step, &fork_step, &time_step, &ns_step, &map_step, &open_step, &connect_step,
	&mount_step, &device_step, &nodes_step, &link_step, &pair_step, &hooks_step,
	&mapped_root_step, &user_step, &caps_step, &seccomp_step, &memory_policy_step,
	&process_step};

static const struct pack_type step_type = {
	.name = "struct step",
	.size = sizeof(struct step),
	.fields = step_fields,
	.nfields = ARRAY_SIZE(step_fields),
	.variant = type_of_step,
	.variants = variants,
	.nvariants = ARRAY_SIZE(variants),
};

static const struct pack_field plan_fields[] = {
	PACK_ARRAY(struct plan, steps, n, &step_type),
	PACK_BOOL(struct plan, exec),
	PACK_POINTER(struct plan, process, &process_type),
	PACK_BOOL(struct plan, userns),
	PACK_BOOL(struct plan, terminal),
	PACK_ENUM(struct plan, isolation, PLAN_VM + 1),
};

const struct pack_type plan_type = {.name = "struct plan",
	.size = sizeof(struct plan),
	.fields = plan_fields,
	.nfields = ARRAY_SIZE(plan_fields)};

static bool is_selected(const struct step *s, unsigned places)
{
	return s->kind == STEP_BARRIER || places & 1u << s->place;
}

size_t plan_selected(const struct plan *p, unsigned places, size_t from, size_t index)
{
	size_t i = from;

	for (; i < p->n; i++)
		if (is_selected(&p->steps[i], places) && index-- == 0)
			break;
	return i < p->n ? i : p->n;
}

int plan_select(
	struct arena *a, const struct plan *p, unsigned places, size_t from, struct plan *ret)
{
	struct step *steps = arena_array(a, p->n + 1, sizeof(*steps));
	size_t n = 0;

	if (!steps)
		return -ENOMEM;
	for (size_t i = from; i < p->n; i++)
		if (is_selected(&p->steps[i], places))
			steps[n++] = p->steps[i];
	*ret = *p;
	ret->steps = steps;
	ret->n = n;
	return 0;
}

int plan_check_slots(const struct plan *p, size_t n)
{
	if (p->nslots < 0 || n != (size_t)p->nslots)
		return err_set(
			EPROTO, "the orders have %zu slots, and their plan %d", n, p->nslots);
	for (size_t i = 0; i < p->n; i++)
		if (p->steps[i].slot < -1 || p->steps[i].slot >= p->nslots)
			return err_set(EPROTO, "step %zu of the orders has slot %d of %d", i,
				p->steps[i].slot, p->nslots);
	return 0;
}
