/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Builds the plan of an exec: of a further process in the namespaces of a running container.
 *
 * The process that the step CLONE makes enters the container's namespaces at the step ENTER, except
 * for the pid namespace, because setns(2) into a pid namespace moves only the caller's children
 * there. So no process of the container can see the process that CLONE made. This process does all
 * steps but the last. Its child, which the container can see, only executes the program.
 */
#include "plan/builder.h"
#include "plan/vm.h"

int plan_build_exec(struct arena *a, const struct plan_exec_env *env, struct plan *ret)
{
	const struct spec *s = env->spec;
	const struct spec_process *p = env->process;
	struct builder b = {.arena = a, .spec = s, .userns = s->ns[SPEC_NS_USER].set};
	uint64_t joined = 0;

	for (int t = 0; t < SPEC_NS_COUNT; t++)
		if (s->ns[t].set)
			joined |= plan_ns_flag((enum spec_ns)t);
	int seccomp_slot = builder_add_seccomp_compile(&b);
	if (p->exec_affinity_initial) {
		struct step *i = builder_add_step(
			&b, STEP_AFFINITY, PLACE_HOST, "process.execCPUAffinity.initial");
		i->text = p->exec_affinity_initial;
	}
	/*
	 * An ordinary user cannot write the OOM score of the new process: the process is not
	 * dumpable, so that the container cannot look into it, and so its files in /proc belong to
	 * root. Therefore the runtime sets its own score before it clones the process, and the
	 * process inherits the score.
	 */
	bool inherit = env->rootless && env->isolation != PLAN_VM && p->oom_score_adj.set;
	if (inherit)
		builder_add_oom_score(&b, p);
	builder_add_step(&b, STEP_CLONE, PLACE_HOST, NULL);
	if (!inherit)
		builder_add_oom_score(&b, p);
	builder_add_host_rlimits(&b, p);
	if (env->cgroup_attach)
		builder_add_step(&b, STEP_CGROUP_ATTACH, PLACE_HOST, NULL);
	if (env->cgroup_attach || (p->oom_score_adj.set && !inherit) || (p->nrlimits && b.userns))
		builder_add_barrier(&b, PLACE_HOST, "placed");
	builder_add_step(&b, STEP_ENTER, PLACE_INIT, NULL)->number = joined;
	builder_add_mapped_root(&b);
	if (p->exec_affinity_final)
		builder_add_text(
			&b, STEP_AFFINITY, "process.execCPUAffinity.final", p->exec_affinity_final);
	else if (!p->exec_affinity_initial)
		builder_add_text(&b, STEP_AFFINITY, NULL, NULL);
	if (p->terminal)
		builder_add_process(&b, STEP_CONSOLE, "process.terminal", p);
	if (!env->no_new_keyring)
		builder_add_text(&b, STEP_KEYRING, NULL, env->keyring);
	builder_add_process(&b, STEP_FIND_PROGRAM, NULL, p);
	builder_add_attributes(&b, p);
	builder_add_step(&b, STEP_CLOSE, PLACE_INIT, NULL);
	builder_add_seccomp(&b, p, seccomp_slot);
	builder_add_step(&b, STEP_FORK, PLACE_INIT, NULL);
	builder_add_process(&b, STEP_EXEC, NULL, p);
	if (b.failed)
		return b.failed;
	*ret = (struct plan){.steps = b.steps,
		.n = b.n,
		.nslots = b.nslots,
		.exec = true,
		.process = p,
		.joined = joined,
		.userns = b.userns,
		.terminal = p->terminal};
	if (env->isolation != PLAN_VM)
		return 0;
	const struct plan ns = *ret;
	return plan_exec_for_vm(a, &ns, ret);
}
