/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declares the orders, which tell the guest's agent what to do for a container or for an exec. They
 * are the blobs of the messages "create", "exec" and "update" (agent/protocol.h), written as
 * checked bytes (base/pack.h), like the orders of caisson-init. So the guest reads no config.json,
 * and never gets what only the host needs: the steps and hooks that the host runs, and the source
 * of the system call filter.
 */
#pragma once
#include "plan/plan.h"

/* how the error of an exec begins whose cgroup is frozen, on the host and in the guest */
#define ORDERS_PAUSED "cannot exec in a paused container (use --ignore-paused to override): "

struct agent_orders {
	/*
	 * those steps of the plan that the guest's agent and caisson-init do, and all barriers. The
	 * step ATTACH_ROOT names a path on the host, which the guest replaces by a path of its own.
	 */
	struct plan plan;
	/*
	 * the MOUNT_ATTR_* flags of the host's mounts, indexed by the slot of the mount; the
	 * guest's mounts get the same flags
	 */
	uint32_t *mount_flags;
	size_t nslots;
	uint32_t uid;     /* user id of the process, outside the container's user namespace */
	uint64_t *filter; /* the compiled system call filter, one number an instruction */
	size_t nfilter;

	/* whether the agent tells the monitor which steps were done and when (message "steps") */
	bool tell_steps;

	/* The next two members are only for an exec, one more process of the container. */
	/*
	 * directory beneath the container's cgroup for the exec: value of the option --cgroup of
	 * `caisson exec`, or NULL
	 */
	const char *subgroup;
	bool ignore_paused; /* option --ignore-paused of `caisson exec` */

	/* The members from here on are only for the message "create". */
	const char *id; /* ID of the container */
	/*
	 * the container's state as JSON, which hooks read, from init_orders_put_state(); NULL: no
	 * hooks
	 */
	const char *state;
	/* the limits of resources that the guest's kernel enforces */
	struct cg_resources resources;
	bool delegate; /* whether the container's cgroup is given to the user `uid` */
	bool image;    /* whether the container's root is the disk image vm.image */
	/* whether the root is an overlay of vm.image and of a file system in the guest's memory */
	bool overlay;
	bool root_readonly;
};

/*
 * These two functions fill in the orders from the plan and from the container's spec.
 * agent_orders_for_create() leaves id, state, mount_flags and filter to the caller.
 * agent_orders_for_exec() sets only the plan and uid. The orders lie in the arena, or share memory
 * with the arguments.
 */
int agent_orders_for_create(struct arena *a, const struct plan *plan, const struct spec *spec,
	struct agent_orders *ret) must_check;
int agent_orders_for_exec(struct arena *a, const struct plan *plan, const struct spec *spec,
	struct agent_orders *ret) must_check;

/*
 * agent_orders_pack() and agent_limits_pack() write orders and limits as bytes, and the unpack
 * functions read them, as pack_write() and pack_read() do. agent_orders_unpack() also checks that
 * every slot that a step names exists.
 */
int agent_orders_pack(const struct agent_orders *orders, struct strbuf *ret) must_check;
int agent_orders_unpack(void *bytes, size_t len, struct agent_orders **ret) must_check;
int agent_limits_pack(const struct cg_resources *limits, struct strbuf *ret) must_check;
int agent_limits_unpack(void *bytes, size_t len, struct cg_resources **ret) must_check;
