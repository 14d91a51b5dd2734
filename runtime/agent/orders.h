/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest's agent is told of a container or of an exec: the blobs of the messages "create",
 * "exec" and "update" (agent/protocol.h). They are checked bytes, as those that INIT gets
 * (base/pack.h), so that the guest reads no config.json, and what is the host's business does not
 * get there: HOST's steps with their hooks, and the rules of the system call filter.
 */
#pragma once
#include "plan/plan.h"

struct agent_orders {
	/*
	 * The steps of GUEST and INIT, and all barriers. ATTACH_ROOT has a path of the host, in
	 * whose place the guest puts one of its own.
	 */
	struct plan plan;
	/* MOUNT_ATTR_* of the host's mount in each slot, which the guest's mount gets too */
	uint32_t *mount_flags;
	size_t nslots;
	uint32_t uid;     /* of the process, as it is outside the container's user namespace */
	uint64_t *filter; /* the compiled system call filter, one number an instruction */
	size_t nfilter;

	/* exec */
	const char *subgroup; /* --cgroup, or NULL */

	/* create */
	const char *id;                /* of the container */
	const char *state;             /* for hooks: init_orders_put_state(); NULL: no hooks */
	struct cg_resources resources; /* what of the limits is the guest's */
	bool delegate;                 /* the cgroup is given to `uid` */
	bool image;                    /* the root is vm.image */
	bool root_readonly;
};

/*
 * Fills in what follows from the plan and from the container's spec: for create all but id, state,
 * mount flags and filter, for exec the plan and uid. It all lives in the arena, or is shared with
 * the arguments.
 */
int agent_orders_for_create(struct arena *a, const struct plan *plan, const struct spec *spec,
	struct agent_orders *ret) must_check;
int agent_orders_for_exec(struct arena *a, const struct plan *plan, const struct spec *spec,
	struct agent_orders *ret) must_check;

/*
 * Write as bytes, and make of such bytes, as pack_write() and pack_read() do. agent_orders_unpack()
 * also checks that no step names a slot that is not there.
 */
int agent_orders_pack(const struct agent_orders *orders, struct strbuf *ret) must_check;
int agent_orders_unpack(void *bytes, size_t len, struct agent_orders **ret) must_check;
int agent_limits_pack(const struct cg_resources *limits, struct strbuf *ret) must_check;
int agent_limits_unpack(void *bytes, size_t len, struct cg_resources **ret) must_check;
