/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers questions about a plan, and about the config.json from which the plan was made, for the
 * code that does the plan's steps.
 */
#include <sys/mount.h>

#include "plan/plan.h"

bool plan_awaits(const struct plan *p, enum step_place who, const struct step *barrier)
{
	switch (who) {
	case PLACE_HOST:
		return barrier->place == PLACE_MONITOR || barrier->place == PLACE_INIT;
	case PLACE_MONITOR:
		return barrier->place == PLACE_HOST;
	case PLACE_GUEST:
		return barrier->place == PLACE_INIT;
	case PLACE_INIT:
		return barrier->place == (p->isolation == PLAN_VM ? PLACE_GUEST : PLACE_HOST);
	}
	return false;
}

uint64_t plan_new_namespaces(const struct plan *p, enum step_place who)
{
	uint64_t flags = 0;

	for (size_t i = 0; i < p->n; i++) {
		const struct step *s = &p->steps[i];
		if (s->kind == STEP_CLONE && s->place == who)
			flags |= s->clone.flags;
		if (s->kind == STEP_FORK)
			flags |= s->fork.flags;
	}
	return flags;
}

int plan_userns_slot(const struct plan *p)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->steps[i].kind == STEP_OPEN_NAMESPACE && p->steps[i].ns.type == SPEC_NS_USER)
			return p->steps[i].slot;
	return -1;
}

int plan_filter_slot(const struct plan *p)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->steps[i].kind == STEP_COMPILE_SECCOMP)
			return p->steps[i].slot;
	return -1;
}

bool plan_has_init_hooks(const struct plan *p)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->steps[i].kind == STEP_HOOKS && p->steps[i].place == PLACE_INIT)
			return true;
	return false;
}

uint32_t plan_uid(const struct spec *s, const struct spec_process *p)
{
	uint32_t uid = p ? p->user.uid : 0;

	for (size_t i = 0; i < s->uid_mappings.n; i++) {
		const struct spec_id_map *m = &s->uid_mappings.v[i];
		if (uid >= m->container_id && uid - m->container_id < m->size)
			return m->host_id + (uid - m->container_id);
	}
	return uid;
}

bool plan_delegates_cgroup(const struct spec *s)
{
	const struct spec_namespace *ns = &s->ns[SPEC_NS_CGROUP];
	bool writable = false;

	for (size_t i = 0; i < s->nmounts; i++) {
		const struct spec_mount *m = &s->mounts[i];
		if (streq(m->destination, "/sys/fs/cgroup"))
			writable = !((m->attr_set | m->rec_attr_set) & MOUNT_ATTR_RDONLY);
	}
	return writable && ns->set && !ns->path && s->process;
}

bool plan_is_shared(const struct step *s)
{
	return (s->place == PLACE_HOST || s->place == PLACE_MONITOR) && s->slot >= 0 &&
	       (s->kind == STEP_OPEN_ROOT || s->kind == STEP_OPEN_SOURCE);
}
