/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Appends the steps that turn INIT, the container's first process, into the process of config.json,
 * for create and for exec.
 */
#include "plan/builder.h"

/*
 * Says whether the process keeps its caller's supplementary groups. podman's --group-add
 * keep-groups asks for this by an annotation of crun's. The container of an ordinary user can then
 * access files by groups that the user namespace does not map.
 */
static bool keeps_groups(const struct spec *s)
{
	const char *v = spec_annotation(s, PLAN_KEEP_GROUPS);

	return v && !streq(v, "0");
}

void builder_add_mapped_root(struct builder *b)
{
	if (b->userns)
		builder_add_step(b, STEP_MAPPED_ROOT, PLACE_INIT, "linux.uidMappings")
			->user.keep_groups = keeps_groups(b->spec);
}

/*
 * Appends the step that sets oom_score_adj. The runtime does this step, because lowering the score
 * needs a right that the root of a user namespace does not have.
 */
void builder_add_oom_score(struct builder *b, const struct spec_process *p)
{
	if (p && p->oom_score_adj.set)
		builder_add_step(b, STEP_OOM_SCORE, PLACE_HOST, "process.oomScoreAdj")->process = p;
}

/*
 * Appends the steps by which the runtime sets the hard limits of INIT, the container's first
 * process. In a user namespace INIT may not raise its hard limits; the runtime may, if it is root.
 */
void builder_add_host_rlimits(struct builder *b, const struct spec_process *p)
{
	if (p && p->nrlimits && b->userns)
		builder_add_step(b, STEP_RLIMITS, PLACE_HOST, "process.rlimits")->process = p;
}

/*
 * Appends the steps, for create and exec, that set what the container's process may do and as which
 * user it runs.
 */
void builder_add_attributes(struct builder *b, const struct spec_process *p)
{
	const struct spec *s = b->spec;

	if (s->memory_policy)
		builder_add_step(b, STEP_MEMORY_POLICY, PLACE_INIT, "linux.memoryPolicy")
			->mempolicy = s->memory_policy;
	if (s->personality.set)
		builder_add_step(b, STEP_PERSONALITY, PLACE_INIT, "linux.personality")->number =
			s->personality.v;
	if (p->nrlimits && !b->userns)
		builder_add_process(b, STEP_RLIMITS, "process.rlimits", p);
	if (p->scheduler)
		builder_add_process(b, STEP_SCHEDULER, "process.scheduler", p);
	if (p->io_priority.set)
		builder_add_process(b, STEP_IO_PRIORITY, "process.ioPriority", p);
	if (p->apparmor_profile || p->selinux_label)
		builder_add_process(b, STEP_EXEC_LABEL,
			p->apparmor_profile ? "process.apparmorProfile" : "process.selinuxLabel",
			p);
	struct step *u = builder_add_step(b, STEP_USER, PLACE_INIT, "process.user");
	u->user.process = p;
	u->user.keep_groups = keeps_groups(s);
	/*
	 * Without no_new_privs only a process with CAP_SYS_ADMIN may load a system call filter, so
	 * the container's first process keeps CAP_SYS_ADMIN until the filter is loaded.
	 */
	struct step *c = builder_add_step(b, STEP_CAPABILITIES, PLACE_INIT, "process.capabilities");
	c->caps.caps = p->capabilities;
	c->caps.keep_sys_admin = s->seccomp && !p->no_new_privileges;
	if (p->no_new_privileges)
		builder_add_process(b, STEP_NO_NEW_PRIVS, "process.noNewPrivileges", p);
}

int builder_add_seccomp_compile(struct builder *b)
{
	if (!b->spec->seccomp)
		return -1;
	struct step *c = builder_add_step(b, STEP_COMPILE_SECCOMP, PLACE_HOST, "linux.seccomp");
	c->slot = b->nslots++;
	c->seccomp.seccomp = b->spec->seccomp;
	return c->slot;
}

/*
 * Appends the step that loads the system call filter. The step comes before any process of the
 * container can look at INIT, the container's first process, and before hooks of the image run. If
 * the filter does not allow what INIT still has to do, the filter is loaded later, at the step EXEC
 * and in each startContainer hook: see step/seccomp.c.
 */
void builder_add_seccomp(struct builder *b, const struct spec_process *p, int seccomp_slot)
{
	const struct spec *s = b->spec;

	if (!s->seccomp)
		return;
	struct step *f = builder_add_step(b, STEP_SECCOMP, PLACE_INIT, "linux.seccomp");
	f->slot = seccomp_slot;
	f->seccomp.seccomp = s->seccomp;
	f->seccomp.final_caps = p->no_new_privileges ? NULL : p->capabilities;
	f->seccomp.drop_caps = !p->no_new_privileges;
}
