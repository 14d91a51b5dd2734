/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plan for a foreign guest: a microVM that runs an operating system with an init of its own
 * (SPEC_GUEST in spec/spec.h). The plan is that for any microVM, but without the steps that
 * caisson's agent in the guest and the container's first process would do, because neither of the
 * two is in a foreign guest.
 */
#include "plan/vm.h"

/*
 * Refuses properties of config.json that only caisson's agent could carry out, because the agent is
 * not in a foreign guest.
 */
static int refuse_for_foreign(const struct spec *s)
{
	const struct spec_process *p = s->process;
	const struct {
		bool found;
		const char *field;
	} fields[] = {
		{s->nmounts > 0, "mounts"},
		{s->root_readonly, "root.readonly"},
		{s->hostname || s->domainname, "hostname, domainname"},
		{s->hooks.create_container.n > 0, "hooks.createContainer"},
		{s->hooks.start_container.n > 0, "hooks.startContainer"},
		{s->seccomp != NULL, "linux.seccomp"},
		{s->sysctl.n > 0, "linux.sysctl"},
		{s->masked_paths.n > 0, "linux.maskedPaths"},
		{s->readonly_paths.n > 0, "linux.readonlyPaths"},
		{s->ndevices > 0, "linux.devices"},
		{s->ns[SPEC_NS_USER].set, "linux.namespaces: user"},
		{s->uid_mappings.n > 0 || s->gid_mappings.n > 0, "linux.uidMappings"},
		{p && p->env.n > 0, "process.env"},
		{p && (p->user.uid || p->user.gid || p->user.nadditional_gids), "process.user"},
		{p && p->nrlimits > 0, "process.rlimits"},
		{p && p->capabilities, "process.capabilities"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (fields[i].found)
			return err_set(ENOTSUP,
				"%s: a foreign guest (annotation " SPEC_GUEST
				") sets its processes up itself, without caisson: leave it out",
				fields[i].field);
	if (p && (p->args.n != 1 || !streq(p->args.v[0], SPEC_GUEST_INIT)))
		return err_set(ENOTSUP,
			"process.args: a foreign guest (annotation " SPEC_GUEST
			") starts its own init: expected [\"" SPEC_GUEST_INIT "\"]");
	return 0;
}

int plan_for_foreign(struct arena *a, const struct spec *s, struct plan *p)
{
	struct step *steps = arena_array(a, p->n, sizeof(*steps));
	size_t n = 0;
	int r = refuse_for_foreign(s);

	if (r < 0)
		return r;
	if (!steps)
		return -ENOMEM;
	for (size_t i = 0; i < p->n; i++) {
		const struct step *old = &p->steps[i];
		bool created = old->kind == STEP_BARRIER && streq(old->text, "created");

		if (old->place != PLACE_HOST && old->place != PLACE_MONITOR && !created)
			continue;
		steps[n] = *old;
		/*
		 * The container counts as created once the microVM's monitor has built the machine,
		 * so the barrier "created" becomes a barrier of the monitor.
		 */
		if (created)
			steps[n].place = PLACE_MONITOR;
		n++;
	}
	p->steps = steps;
	p->n = n;
	return 0;
}
