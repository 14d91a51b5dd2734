/* SPDX-License-Identifier: Apache-2.0 */
/* Refuses what config.json asks for and a microVM cannot have. */
#include <sys/mount.h>

#include "plan/vm.h"

static int refuse_namespaces(const struct spec *s)
{
	/*
	 * The types of namespaces that a container in a microVM must not share with the host.
	 * Without its own namespace of such a type the container would see the host's, which a
	 * guest's kernel cannot show.
	 */
	static const enum spec_ns needed[] = {
		SPEC_NS_NETWORK, SPEC_NS_PID, SPEC_NS_IPC, SPEC_NS_UTS};

	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		if (!s->ns[needed[i]].set)
			return err_set(ENOTSUP,
				"linux.namespaces: there is no %s namespace: a microVM can't share "
				"the host's, add {\"type\": \"%s\"}",
				plan_ns_name(needed[i]), plan_ns_name(needed[i]));
	for (int t = 0; t < SPEC_NS_COUNT; t++)
		if (s->ns[t].path && t != SPEC_NS_NETWORK)
			return err_set(ENOTSUP,
				"linux.namespaces[%zu]: a microVM can't join the %s namespace %s: "
				"only a network namespace can be given by path",
				s->ns[t].index, plan_ns_name((enum spec_ns)t), s->ns[t].path);
	return 0;
}

/*
 * Says whether every Linux guest itself has a device of this kind: memory devices, terminals, fuse,
 * tun and loop-control.
 */
static bool guest_has_device(const struct spec_device *d)
{
	if (d->type == 'p' ||
		(d->type == 'c' && (d->major == 1 || d->major == 5 || d->major == 136)))
		return true;
	return d->type == 'c' && d->major == 10 &&
	       (d->minor == 200 || d->minor == 229 || d->minor == 237 || d->minor == 183);
}

/*
 * Says whether the device rules allow all devices. If they do, devices of the host that the guest
 * lacks are no error, because engines write such rules for --privileged, and then also list every
 * device of the host.
 */
static bool may_use_all_devices(const struct spec *s)
{
	size_t n = s->resources.ndevices;
	const struct cg_device_rule *last = n ? &s->resources.devices[n - 1] : NULL;

	return last && last->allow && last->type == 'a' && last->major < 0 && last->minor < 0 &&
	       (streq(last->access, "") || streq(last->access, "rwm"));
}

bool plan_vm_drops_device(const struct spec *s, const struct spec_device *d)
{
	return may_use_all_devices(s) && !guest_has_device(d);
}

static int refuse_hardware(const struct spec *s)
{
	for (size_t i = 0; i < s->ndevices; i++)
		if (!guest_has_device(&s->devices[i]) && !may_use_all_devices(s))
			return err_set(ENOTSUP,
				"linux.devices[%zu]: %s (%c %u:%u): a device of the host can't be "
				"passed into a microVM: leave it out",
				i, s->devices[i].path, s->devices[i].type, s->devices[i].major,
				s->devices[i].minor);
	if (!s->vm)
		return 0;
	if (s->vm->device_tree)
		return err_set(ENOTSUP, "vm.hwConfig.deviceTree: expected nothing, because caisson "
					"describes the machine by ACPI: leave it out");
	if (s->vm->dtdevs.n || s->vm->niomems || s->vm->nirqs)
		return err_set(ENOTSUP,
			"vm.hwConfig.%s: passing hardware through is not supported: leave it out",
			s->vm->dtdevs.n  ? "dtdevs"
			: s->vm->niomems ? "iomems"
					 : "irqs");
	return 0;
}

static int refuse_mounts(const struct spec *s)
{
	size_t backends = 0;

	for (size_t i = 0; i < s->nmounts; i++) {
		const struct spec_mount *m = &s->mounts[i];
		if (m->bind && (m->propagation & MS_SHARED))
			return err_set(ENOTSUP,
				"mounts[%zu].options: a microVM's mounts can't propagate to the "
				"host: leave out shared and rshared",
				i);
		if (spec_mount_is_image(m) &&
			(!s->vm || !s->vm->image_path || spec_image_is_root(s) ||
				streq(m->type, "virtiofs")))
			return err_set(EINVAL,
				"mounts[%zu].source: " SPEC_MOUNT_IMAGE
				": expected vm.image with the annotation " SPEC_IMAGE_USE
				" \"disk\", and the type of its file system",
				i);
		if (m->backend && ++backends > PLAN_BACKENDS_MAX)
			return err_set(ENOSPC,
				"mounts[%zu].source: %s: a microVM can have at most %d vhost-user "
				"back ends",
				i, m->source, PLAN_BACKENDS_MAX);
	}
	return 0;
}

int plan_vm_refuse(const struct spec *s)
{
	int r = refuse_namespaces(s);
	if (r >= 0)
		r = refuse_hardware(s);
	if (r < 0)
		return r;
	if (s->memory_policy)
		return err_set(ENOTSUP,
			"linux.memoryPolicy: a microVM has only one memory node: leave it out");
	if (s->seccomp && (s->seccomp->notify || s->seccomp->listener_path))
		return err_set(ENOTSUP,
			"linux.seccomp: SCMP_ACT_NOTIFY and listenerPath need the "
			"host's kernel, but a microVM has a kernel of its own: use --isolation ns");
	return refuse_mounts(s);
}
