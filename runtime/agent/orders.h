/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declares the orders: what the guest's agent is told of a container or of an exec. They are the
 * blobs of the messages "create", "exec" and "update" (agent/protocol.h), written as checked bytes
 * (base/pack.h), like the orders of INIT. So the guest reads no config.json, and never gets what
 * only the host needs: the steps of HOST with their hooks, and the source of the system call
 * filter.
 */
#pragma once
#include "plan/plan.h"

struct agent_orders {
	/*
	 * The steps of GUEST and INIT, and all barriers. The path in ATTACH_ROOT is one of the
	 * host, which the guest replaces by a path of its own.
	 */
	struct plan plan;
	/* MOUNT_ATTR_* of the host's mount in each slot, which the guest's mount gets too */
	uint32_t *mount_flags;
	size_t nslots;
	uint32_t uid;     /* user id of the process, outside the container's user namespace */
	uint64_t *filter; /* the compiled system call filter, one number an instruction */
	size_t nfilter;

	/* exec */
	const char *subgroup; /* --cgroup, or NULL */

	/* The members from here on are for create only. */
	const char *id; /* ID of the container */
	/* state for hooks, from init_orders_put_state(); NULL: there are no hooks */
	const char *state;
	struct cg_resources resources; /* the limits that the guest sets */
	bool delegate;                 /* the cgroup is given to `uid` */
	bool image;                    /* the root is vm.image */
	bool root_readonly;
};

/*
 * Fills in the orders from the plan and from the container's spec. Those for create then lack only
 * id, state, mount_flags and filter; those for exec get the plan and uid. The memory is in the
 * arena, or is shared with the arguments.
 */
int agent_orders_for_create(struct arena *a, const struct plan *plan, const struct spec *spec,
	struct agent_orders *ret) must_check;
int agent_orders_for_exec(struct arena *a, const struct plan *plan, const struct spec *spec,
	struct agent_orders *ret) must_check;

/*
 * Write orders as bytes, and read them, as pack_write() and pack_read() do. agent_orders_unpack()
 * also checks that every slot that a step names exists.
 */
int agent_orders_pack(const struct agent_orders *orders, struct strbuf *ret) must_check;
int agent_orders_unpack(void *bytes, size_t len, struct agent_orders **ret) must_check;
int agent_limits_pack(const struct cg_resources *limits, struct strbuf *ret) must_check;
int agent_limits_unpack(void *bytes, size_t len, struct cg_resources **ret) must_check;
