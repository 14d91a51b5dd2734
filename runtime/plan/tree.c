/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decides how the container's mount namespace is made. CLONE can always make it, as a copy of the
 * host's whole mount namespace, of which PIVOT detaches all but the container's root. If the kernel
 * has OPEN_TREE_NAMESPACE (Linux 7.0), ATTACH_ROOT makes the mount namespace of the root alone.
 * This second way copies nothing of the host, needs no pivot_root(2) and umount2(2), and the host's
 * mounts never are in the new namespace.
 *
 * After ATTACH_ROOT no path of the host can be reached. So the functions here choose the second way
 * only if no later step needs a path of the host.
 */
#include "plan/builder.h"

/*
 * Says whether the mount can be made without a path of the host. The host's side opens the sources
 * of bind mounts beforehand. For most types of file systems the source and the options may hold
 * paths, such as that of a disk or those of the layers of an overlay, and the kernel resolves these
 * paths when INIT mounts.
 */
static bool needs_no_path(const struct builder *b, const struct spec_mount *m)
{
	static const char *const types[] = {"proc", "sysfs", "tmpfs", "devpts", "mqueue"};

	if (m->bind || m->remount)
		return true;
	for (size_t i = 0; m->type && i < ARRAY_SIZE(types); i++)
		if (streq(m->type, types[i]))
			return true;
	/*
	 * A container without a cgroup namespace needs a path, because it gets a copy of the host's
	 * own mount of the cgroup file system.
	 */
	return m->type && (streq(m->type, "cgroup") || streq(m->type, "cgroup2")) &&
	       b->spec->ns[SPEC_NS_CGROUP].set;
}

/*
 * Says whether hooks run before PIVOT, because these hooks use paths of the host in the container's
 * mount namespace.
 */
static bool has_hooks_before_pivot(const struct spec *s)
{
	return s->hooks.prestart.n || s->hooks.create_runtime.n || s->hooks.create_container.n;
}

void builder_decide_namespace(struct builder *b)
{
	const struct spec *s = b->spec;
	const struct plan_env *env = b->env;

	/*
	 * In a user namespace INIT may not copy the host's mounts, because another user namespace
	 * owns them, unless CLONE makes the mount namespace together with the user namespace.
	 */
	if (!env->tree_namespace || env->isolation == PLAN_VM || env->rootless || env->in_userns ||
		b->userns || env->no_pivot)
		return;
	if (s->ns[SPEC_NS_MOUNT].path || has_hooks_before_pivot(s))
		return;
	/*
	 * INIT looks at the host's /sys to find out whether SELinux is enabled, so a label needs
	 * the host's mounts.
	 */
	if (s->mount_label && *s->mount_label)
		return;
	for (size_t i = 0; i < s->nmounts; i++)
		if (!needs_no_path(b, &s->mounts[i]))
			return;
	b->root_as_namespace = true;
}
