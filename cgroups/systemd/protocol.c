/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Describes to base/pack.h which members of the request and the reply are pointers, strings and the
 * like. Members that the helper does not use are dropped, so that the helper reads NULL or 0.
 */
#include "cgroups/systemd/protocol.h"

PACK_TYPE(property_type, struct cg_unified, PACK_STRING_NEEDED(struct cg_unified, file),
	PACK_STRING_NEEDED(struct cg_unified, value));

PACK_TYPE(options_type, struct cg_options, PACK_ENUM(struct cg_options, manager, CG_DISABLED + 1),
	PACK_STRING(struct cg_options, id), PACK_DROP(struct cg_options, cgroups_path),
	PACK_BOOL(struct cg_options, rootless), PACK_BOOL(struct cg_options, lenient),
	PACK_ARRAY(struct cg_options, systemd_properties, nsystemd_properties, &property_type));

PACK_TYPE(cgroup_type, struct cgroup, PACK_ENUM(struct cgroup, manager, CG_DISABLED + 1),
	PACK_STRING_NEEDED(struct cgroup, mount), PACK_STRING(struct cgroup, path),
	PACK_STRING_NEEDED(struct cgroup, scope), PACK_STRING_NEEDED(struct cgroup, slice),
	PACK_BOOL(struct cgroup, user_instance), PACK_BOOL(struct cgroup, lenient),
	PACK_BOOL(struct cgroup, unit_current), PACK_DROP(struct cgroup, refused));

#define R struct cg_resources
#define VALUES(member) PACK_DROP(R, member.v), PACK_DROP(R, member.n)

PACK_TYPE(limits_type, R, PACK_DROP(R, devices), PACK_DROP(R, ndevices),
	PACK_BOOL(R, memory.limit.set), PACK_BOOL(R, memory.reservation.set),
	PACK_BOOL(R, memory.swap.set), PACK_BOOL(R, cpu.shares.set), PACK_BOOL(R, cpu.period.set),
	PACK_BOOL(R, cpu.quota.set), PACK_BOOL(R, cpu.idle.set), PACK_STRING(R, cpu.cpus),
	PACK_STRING(R, cpu.mems), PACK_BOOL(R, pids_limit.set), VALUES(block_io.weight_device),
	VALUES(block_io.leaf_weight_device), VALUES(block_io.throttle_read_bps),
	VALUES(block_io.throttle_write_bps), VALUES(block_io.throttle_read_iops),
	VALUES(block_io.throttle_write_iops), PACK_DROP(R, hugepages), PACK_DROP(R, nhugepages),
	PACK_DROP(R, rdma), PACK_DROP(R, nrdma), PACK_DROP(R, unified), PACK_DROP(R, nunified));

static const struct pack_field request_fields[] = {
	PACK_ENUM(struct systemd_request, op, SYSTEMD_OPS),
	PACK_ENUM(struct systemd_request, log_level, LOG_DEBUG + 1),
	PACK_BOOL(struct systemd_request, has_limits),
	PACK_EMBED(struct systemd_request, cg, &cgroup_type),
	PACK_EMBED(struct systemd_request, opt, &options_type),
	PACK_EMBED(struct systemd_request, limits, &limits_type),
};
const struct pack_type systemd_request_type = {.name = "request to " SYSTEMD_HELPER,
	.size = sizeof(struct systemd_request),
	.fields = request_fields,
	.nfields = ARRAY_SIZE(request_fields)};

static const struct pack_field reply_fields[] = {
	PACK_STRING_NEEDED(struct systemd_reply, message),
};
const struct pack_type systemd_reply_type = {.name = "reply of " SYSTEMD_HELPER,
	.size = sizeof(struct systemd_reply),
	.fields = reply_fields,
	.nfields = ARRAY_SIZE(reply_fields)};
