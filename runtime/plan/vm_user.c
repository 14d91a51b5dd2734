/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adapts the config.json and the facts about the host from which a microVM's plan is made, if an
 * ordinary user runs caisson.
 */
#include "plan/vm.h"

static bool is_hosts_sysfs(const struct spec_mount *m)
{
	return m->bind && !m->remount && streq(m->source, "/sys") && streq(m->destination, "/sys");
}

/*
 * Replaces *spec by a copy in which the bind mount of the host's /sys on /sys is replaced by a new
 * sysfs of the guest. An ordinary user's config.json has that bind mount, because a container
 * without a network namespace of its own cannot mount a sysfs. A guest can mount one.
 */
static int use_own_sysfs(struct arena *a, const struct spec **spec)
{
	const struct spec *s = *spec;
	struct spec_mount *mounts = arena_array(a, s->nmounts + 1, sizeof(*mounts));
	struct spec *copy = arena_alloc(a, sizeof(*copy));

	if (!mounts || !copy)
		return -ENOMEM;
	for (size_t i = 0; i < s->nmounts; i++) {
		const struct spec_mount *m = &s->mounts[i];

		mounts[i] = *m;
		if (!is_hosts_sysfs(m))
			continue;
		mounts[i] = (struct spec_mount){.destination = m->destination,
			.type = "sysfs",
			.source = "sysfs",
			.attr_set = m->attr_set | m->rec_attr_set,
			.attr_clr = m->attr_clr};
	}
	*copy = *s;
	copy->mounts = mounts;
	*spec = copy;
	return 0;
}

int plan_vm_as_root(struct arena *a, const struct spec **spec, const struct plan_env **env)
{
	struct plan_env *copy = arena_alloc(a, sizeof(*copy));

	if ((*env)->isolation != PLAN_VM || !(*env)->rootless)
		return 0;
	if (!copy)
		return -ENOMEM;
	*copy = **env;
	copy->rootless = false;
	*env = copy;
	return use_own_sysfs(a, spec);
}
