/* SPDX-License-Identifier: Apache-2.0 */
/* What a plan for a microVM is made of, and what a container in a microVM cannot have. */
#pragma once
#include "plan/plan.h"

/*
 * Turn `ns`, a plan for a container in namespaces, into the plan for a microVM. If the
 * configuration asks for something that a microVM cannot honour, these functions fail with an error
 * that names the field. plan_build() and plan_build_exec() call these functions if `isolation` in
 * their arguments is PLAN_VM.
 */
int plan_for_vm(struct arena *a, const struct spec *s, const struct plan_env *env,
	const struct plan *ns, struct plan *ret) must_check;
/*
 * Takes out of the plan for a microVM the steps for what a foreign guest, an operating system with
 * an init of its own, does itself (foreign.c).
 */
int plan_for_foreign(struct arena *a, const struct spec *s, struct plan *p) must_check;
int plan_exec_for_vm(struct arena *a, const struct plan *ns, struct plan *ret) must_check;

/*
 * If an ordinary user runs a microVM, replaces *env and *spec by copies from which the plan is made
 * as for root, because the guest's kernel does not know of that user. plan_for_vm() needs the
 * original *env all the same, because the steps that are done on the host are not as for root.
 */
int plan_vm_as_root(struct arena *a, const struct spec **spec, const struct plan_env **env)
	must_check;

/*
 * Says whether the microVM goes without this device of linux.devices. It does if
 * linux.resources.devices has a rule that allows all devices, because engines write that rule for
 * --privileged, and then also list every device of the host. Without that rule a device that the
 * guest lacks is an error.
 */
bool plan_vm_drops_device(const struct spec *s, const struct spec_device *d);

/*
 * Returns -ENOTSUP, -EINVAL or -ENOSPC with a message that names the property, if config.json asks
 * for something that a container in a microVM cannot have.
 */
int plan_vm_refuse(const struct spec *s) must_check;

/*
 * The limits of linux.resources, split into those that the guest's kernel enforces and those that
 * the host's kernel enforces (the rule is in vm_limits.c).
 */
struct plan_vm_limits {
	struct cg_resources guest, host;
};
int plan_vm_split_limits(
	struct arena *a, const struct cg_resources *all, struct plan_vm_limits *ret) must_check;
/*
 * Returns the container's memory limit in bytes; 0: no limit. The limit is that of memory.limit, or
 * that of memory.max in `unified`, which overrides memory.limit. *ret_field is the name of the
 * property, which error messages use.
 */
uint64_t plan_vm_memory_limit(const struct cg_resources *res, const char **ret_field);
