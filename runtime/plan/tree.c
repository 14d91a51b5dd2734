/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decides how the container's mount namespace is made. In the first way the step CLONE makes it, as
 * a copy of the host's whole mount namespace, of which the step PIVOT detaches all but the
 * container's root. This is always possible. In the second way the step ATTACH_ROOT makes a mount
 * namespace of the root alone, if the kernel has OPEN_TREE_NAMESPACE (Linux 7.0). This copies
 * nothing of the host, needs no pivot_root(2) and umount2(2), and the host's mounts never are in
 * the new namespace.
 *
 * After ATTACH_ROOT has entered such a namespace no path of the host can be reached. So the
 * functions here choose the second way only if no later step needs a path of the host.
 */
#include "plan/builder.h"

/*
 * Says whether the mount can be made without a path of the host. A bind mount can, because the
 * runtime opens its source beforehand. For most types of file systems the source and the options
 * may hold paths, such as that of a disk or those of the layers of an overlay, and the kernel
 * resolves these paths when INIT (the container's first process) mounts.
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
	 * A mount of a cgroup file system needs a path of the host if the container has no cgroup
	 * namespace, because the container then gets a copy of the host's own mount.
	 */
	return m->type && (streq(m->type, "cgroup") || streq(m->type, "cgroup2")) &&
	       b->spec->ns[SPEC_NS_CGROUP].set;
}

/*
 * Says whether config.json has hooks that run before the step PIVOT. Such hooks use paths of the
 * host in the container's mount namespace.
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
	 * In a user namespace the container's first process may not copy the host's mounts, because
	 * another user namespace owns them, unless the step CLONE makes the mount namespace
	 * together with the user namespace.
	 */
	if (!env->tree_namespace || env->isolation == PLAN_VM || env->rootless || env->in_userns ||
		b->userns || env->no_pivot)
		return;
	if (s->ns[SPEC_NS_MOUNT].path || has_hooks_before_pivot(s))
		return;
	/*
	 * If config.json has an SELinux label for mounts, INIT (the container's first process)
	 * looks at the host's /sys to find out whether SELinux is enabled, so INIT needs the host's
	 * mounts.
	 */
	if (s->mount_label && *s->mount_label)
		return;
	for (size_t i = 0; i < s->nmounts; i++)
		if (!needs_no_path(b, &s->mounts[i]))
			return;
	b->root_as_namespace = true;
}
