/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The plan for a microVM is made from the plan for namespaces. This file gives
 * each step of that plan to one or two of the four parties of plan.h. Steps that concern the host
 * stay HOST's: its cgroup, copies of mounts, hooks. Steps that concern the kernel on which the
 * container's process runs go to the GUEST: namespaces, id maps, a cgroup for freezing and for
 * statistics. INIT's own steps stay INIT's, but happen in the guest's kernel. In between, the
 * MONITOR enters the network namespace and boots the machine.
 *
 * If an ordinary user runs caisson, the MONITOR is in a user namespace of its own, which owns its
 * mount and network namespaces. There it has the rights that root's monitor has, over the ids of
 * the container and the user's own, each of which is mapped to itself. So the MONITOR copies the
 * mounts, which HOST may not.
 *
 * Like all of plan/ this file makes no system call and decides only by its arguments. The whole
 * plan is made on the host, and the guest is sent its own steps and INIT's as checked bytes
 * (agent/orders.h).
 */
#include <sched.h>
#include <sys/mount.h>

#include "plan/vm.h"

struct dealer {
	const struct spec *spec;
	const struct plan_env *env;
	/* used if an ordinary user runs caisson: the step that maps the ids of the monitor */
	struct step own_ids;
	const struct plan *ns; /* the plan for namespaces that is turned into one for a microVM */
	struct step *steps;
	size_t n;
};

/*
 * By how many parties one step is done at most: some steps, such as those for the cgroup and the
 * opened mounts, are done both on the host and in the guest.
 */
#define MAX_DEALS_PER_STEP 2
/* how many steps a microVM's plan has at most that the plan for namespaces does not have */
#define MAX_NEW_STEPS 8

static struct step *deal_step(struct dealer *d, enum step_place place, const struct step *s)
{
	struct step *new = &d->steps[d->n++];

	*new = *s;
	new->place = place;
	return new;
}

static void deal_new_step(
	struct dealer *d, enum step_place place, enum step_kind kind, const char *text)
{
	const struct step s = {.kind = kind, .slot = -1, .text = text};

	deal_step(d, place, &s);
}

/* Says whether the step belongs to a device of linux.devices that the guest does not get. */
static bool is_dropped_step(const struct dealer *d, const struct step *s);

/*
 * Gives all steps of the kind `kind` that the party `from` does in the plan for namespaces to the
 * party `to`, in their order, except for steps of devices that the guest does not get. Returns the
 * number of these steps.
 */
static size_t deal_kind(
	struct dealer *d, enum step_place from, enum step_kind kind, enum step_place to)
{
	size_t n = 0;

	for (size_t i = 0; i < d->ns->n; i++) {
		const struct step *s = &d->ns->steps[i];
		if (s->place != from || s->kind != kind || is_dropped_step(d, s))
			continue;
		deal_step(d, to, s);
		n++;
	}
	return n;
}

static bool is_dropped_step(const struct dealer *d, const struct step *s)
{
	if (s->kind == STEP_DEVICE)
		return plan_vm_drops_device(d->spec, s->device.device);
	if (s->kind != STEP_OPEN_SOURCE || s->open.mount)
		return false;
	for (size_t i = 0; i < d->spec->ndevices; i++)
		if (streq(d->spec->devices[i].path, s->open.path))
			return plan_vm_drops_device(d->spec, &d->spec->devices[i]);
	return false;
}

static bool is_network(const struct step *s)
{
	return s->ns.type == SPEC_NS_NETWORK;
}

/*
 * Gives the steps that copy the mounts for the guest's virtio-fs share to HOST or, if an ordinary
 * user runs caisson, to the MONITOR. No party copies device nodes, because the guest has its own.
 * No party copies the root if vm.image provides one, or if the guest is a foreign one, which has a
 * root of its own.
 */
static void deal_opens(struct dealer *d, enum step_place place)
{
	const bool image = spec_image_is_root(d->spec) || spec_guest_is_foreign(d->spec);

	if (place != (d->env->rootless ? PLACE_MONITOR : PLACE_HOST))
		return;
	for (size_t i = 0; i < d->ns->n; i++) {
		const struct step *o = &d->ns->steps[i];

		if (!(o->kind == STEP_OPEN_ROOT && !image) &&
			!(o->kind == STEP_OPEN_SOURCE && o->open.mount && !o->open.in_root))
			continue;
		struct step *new = deal_step(d, place, o);
		if (new->open.layers)
			new->open.userxattr |= d->env->rootless;
	}
}

/*
 * Gives HOST the step that makes the MONITOR process and, if an ordinary user runs caisson, the
 * step that maps the MONITOR's ids.
 */
static void deal_clone(struct dealer *d)
{
	size_t clone = d->n;

	deal_kind(d, PLACE_HOST, STEP_CLONE, PLACE_HOST);
	d->steps[clone].clone.flags = plan_new_namespaces(d->ns, PLACE_HOST) & CLONE_NEWNET;
	d->steps[clone].clone.staged = false;
	if (!d->env->rootless)
		return;
	d->steps[clone].clone.flags |= CLONE_NEWUSER | CLONE_NEWNS;
	deal_step(d, PLACE_HOST, &d->own_ids);
}

static void deal_host(struct dealer *d)
{
	deal_kind(d, PLACE_HOST, STEP_CGROUP_CREATE, PLACE_HOST);
	deal_kind(d, PLACE_HOST, STEP_CGROUP_LIMIT, PLACE_HOST);
	for (size_t i = 0; i < d->ns->n; i++)
		if (d->ns->steps[i].kind == STEP_OPEN_NAMESPACE && is_network(&d->ns->steps[i]))
			deal_step(d, PLACE_HOST, &d->ns->steps[i]);
	deal_opens(d, PLACE_HOST);
	deal_kind(d, PLACE_HOST, STEP_CONNECT, PLACE_HOST);
	deal_kind(d, PLACE_HOST, STEP_CONNECT_NET, PLACE_HOST);
	deal_kind(d, PLACE_HOST, STEP_COMPILE_SECCOMP, PLACE_HOST);
	deal_clone(d);
	deal_kind(d, PLACE_HOST, STEP_OOM_SCORE, PLACE_HOST);
	deal_kind(d, PLACE_HOST, STEP_CGROUP_ATTACH, PLACE_HOST);
	deal_kind(d, PLACE_HOST, STEP_INTEL_RDT, PLACE_HOST);
	deal_kind(d, PLACE_HOST, STEP_NET_DEVICE, PLACE_HOST);
	deal_kind(d, PLACE_HOST, STEP_NETWORKS, PLACE_HOST);
}

static void deal_monitor(struct dealer *d)
{
	const struct spec *s = d->spec;

	for (size_t i = 0; i < d->ns->n; i++)
		if (d->ns->steps[i].kind == STEP_JOIN && is_network(&d->ns->steps[i]))
			deal_step(d, PLACE_MONITOR, &d->ns->steps[i]);
	deal_kind(d, PLACE_INIT, STEP_LOOPBACK, PLACE_MONITOR);
	/*
	 * The machine is booted after the prestart and createRuntime hooks, because these hooks set
	 * up the network.
	 */
	if (s->hooks.prestart.n || s->hooks.create_runtime.n) {
		deal_new_step(d, PLACE_MONITOR, STEP_BARRIER, "joined");
		deal_kind(d, PLACE_HOST, STEP_HOOKS, PLACE_HOST);
	}
	deal_new_step(d, PLACE_HOST, STEP_BARRIER, "placed");
	deal_opens(d, PLACE_MONITOR);
	for (size_t i = 0; i < d->ns->n; i++)
		if (d->ns->steps[i].kind == STEP_HOOKS &&
			streq(d->ns->steps[i].hooks.name, "createContainer"))
			deal_step(d, PLACE_MONITOR, &d->ns->steps[i]);
	/*
	 * The MONITOR may use all CPUs, so that its vCPU threads and QEMU may use all CPUs too, as
	 * the program of a container in namespaces may.
	 */
	deal_new_step(d, PLACE_MONITOR, STEP_AFFINITY, NULL);
	deal_new_step(d, PLACE_MONITOR, STEP_MACHINE, NULL);
}

/*
 * Gives the step that opens the root to the GUEST too. The GUEST opens the virtio-fs share that
 * holds the root. If the root is an overlay of an image's layers, the host mounts the overlay for
 * the share, and the guest never sees the layers.
 */
static void deal_guest_root(struct dealer *d)
{
	size_t root = d->n;

	if (deal_kind(d, PLACE_HOST, STEP_OPEN_ROOT, PLACE_GUEST) == 0)
		return;
	d->steps[root].open.layers = d->steps[root].open.lower = NULL;
	d->steps[root].open.upper = d->steps[root].open.work = NULL;
	/*
	 * The ids in an image of container layers are those of the container, and the guest maps
	 * them if the container has a user namespace.
	 */
	if (!spec_image_is_overlay(d->spec))
		return;
	d->steps[root].open.idmap_uid = d->spec->uid_mappings;
	d->steps[root].open.idmap_gid = d->spec->gid_mappings;
}

static void deal_guest(struct dealer *d)
{
	const struct step cgroup = {.kind = STEP_CGROUP_CREATE, .slot = -1};
	const struct step limit = {
		.kind = STEP_CGROUP_LIMIT, .slot = -1, .field = "linux.resources"};

	deal_step(d, PLACE_GUEST, &cgroup);
	deal_step(d, PLACE_GUEST, &limit);
	deal_guest_root(d);
	deal_kind(d, PLACE_HOST, STEP_OPEN_SOURCE, PLACE_GUEST);
	deal_kind(d, PLACE_HOST, STEP_DEVICE_NODES, PLACE_GUEST);
	deal_kind(d, PLACE_HOST, STEP_CONNECT, PLACE_GUEST);
	uint64_t flags = plan_new_namespaces(d->ns, PLACE_HOST);
	size_t clone = d->n;
	deal_kind(d, PLACE_HOST, STEP_CLONE, PLACE_GUEST);
	deal_kind(d, PLACE_INIT, STEP_TIME_NS, PLACE_INIT);
	size_t fork = d->n;
	uint64_t *of_init = deal_kind(d, PLACE_INIT, STEP_FORK, PLACE_INIT)
				    ? &d->steps[fork].fork.flags
				    : &d->steps[clone].clone.flags;
	/*
	 * The container in the guest uses the network of the machine. If the container has a user
	 * namespace, that user namespace must own the network namespace, so a new network namespace
	 * is made and the machine's interfaces are moved into it.
	 */
	if (flags & CLONE_NEWUSER)
		*of_init |= CLONE_NEWNET;
	else
		*of_init &= ~(uint64_t)CLONE_NEWNET;
	size_t placing = deal_kind(d, PLACE_HOST, STEP_OOM_SCORE, PLACE_GUEST);
	placing += deal_kind(d, PLACE_HOST, STEP_ID_MAP, PLACE_GUEST);
	if (placing)
		deal_new_step(d, PLACE_GUEST, STEP_BARRIER, "placed");
}

/*
 * Makes the step drop the supplementary groups of caisson's caller, because they are groups of the
 * host and a process in the guest cannot have them.
 */
static void set_own_groups(struct step *s)
{
	if (s->kind == STEP_USER || s->kind == STEP_MAPPED_ROOT)
		s->user.keep_groups = false;
}

/*
 * Gives the steps that INIT (the container's first process) does in the plan for namespaces, and
 * the steps of other parties in between, to the parties of a microVM.
 */
static void deal_init(struct dealer *d)
{
	for (size_t i = 0; i < d->ns->n; i++) {
		const struct step *s = &d->ns->steps[i];
		bool hooks = s->kind == STEP_HOOKS && streq(s->hooks.name, "createContainer");

		if (s->place == PLACE_HOST && s->kind == STEP_RLIMITS)
			deal_step(d, PLACE_GUEST, s);
		if (s->place == PLACE_HOST && s->kind == STEP_BARRIER && streq(s->text, "recorded"))
			deal_step(d, PLACE_HOST, s);
		if (s->place != PLACE_INIT || s->kind == STEP_JOIN || s->kind == STEP_LOOPBACK ||
			s->kind == STEP_TIME_NS || s->kind == STEP_FORK ||
			s->kind == STEP_EXEC_LABEL || hooks || is_dropped_step(d, s) ||
			(s->kind == STEP_BARRIER && streq(s->text, "mounted")))
			continue;
		struct step *new = deal_step(d, PLACE_INIT, s);
		/*
		 * The SELinux label of the mount is dropped, because the guest's kernel does not
		 * use SELinux.
		 */
		if (s->kind == STEP_MOUNT)
			new->mount.label = NULL;
		set_own_groups(new);
	}
}

static int dealer_start(struct arena *a, struct dealer *d, const struct plan *ns)
{
	d->ns = ns;
	d->steps = arena_array(a, ns->n * MAX_DEALS_PER_STEP + MAX_NEW_STEPS, sizeof(*d->steps));
	return d->steps ? 0 : -ENOMEM;
}

static void dealer_finish(const struct dealer *d, struct plan *ret)
{
	*ret = *d->ns;
	ret->steps = d->steps;
	ret->n = d->n;
	ret->isolation = PLAN_VM;
}

/*
 * Makes an id map that maps each id of the host in `maps` to itself. If the user's own id is not in
 * `maps`, it is added.
 */
static int map_own_ids(
	struct arena *a, const struct spec_id_maps *maps, uint32_t own, struct spec_id_maps *ret)
{
	struct spec_id_map *v = arena_array(a, maps->n + 1, sizeof(*v));
	bool has_own = false;
	size_t n = 0;

	if (!v)
		return -ENOMEM;
	for (; n < maps->n; n++) {
		v[n] = maps->v[n];
		v[n].container_id = v[n].host_id;
		has_own |= own >= v[n].host_id && own - v[n].host_id < v[n].size;
	}
	if (!has_own)
		v[n++] = (struct spec_id_map){.container_id = own, .host_id = own, .size = 1};
	*ret = (struct spec_id_maps){.v = v, .n = n};
	return 0;
}

/*
 * Makes the step by which HOST maps the ids of the MONITOR process if an ordinary user runs
 * caisson. If config.json has no user namespace, root of the guest is the user on the host, so the
 * MONITOR needs the user's own id only.
 */
static int make_own_ids(struct arena *a, struct dealer *d)
{
	const struct spec_id_maps none = {0};

	d->own_ids = (struct step){
		.kind = STEP_ID_MAP, .place = PLACE_HOST, .slot = -1, .field = "linux.uidMappings"};
	if (!d->spec->ns[SPEC_NS_USER].set) {
		int r = map_own_ids(a, &none, d->env->uid, &d->own_ids.map.uid);
		return r < 0 ? r : map_own_ids(a, &none, d->env->gid, &d->own_ids.map.gid);
	}
	for (size_t i = 0; i < d->ns->n; i++) {
		const struct step *s = &d->ns->steps[i];
		if (s->kind != STEP_ID_MAP)
			continue;
		d->own_ids = *s;
		int r = map_own_ids(a, &s->map.uid, d->env->uid, &d->own_ids.map.uid);
		return r < 0 ? r : map_own_ids(a, &s->map.gid, d->env->gid, &d->own_ids.map.gid);
	}
	return err_set(EINVAL, "the plan for an ordinary user has no user namespace");
}

int plan_for_vm(struct arena *a, const struct spec *s, const struct plan_env *env,
	const struct plan *ns, struct plan *ret)
{
	struct dealer d = {.spec = s, .env = env};

	int r = plan_vm_refuse(s);
	if (r >= 0)
		r = dealer_start(a, &d, ns);
	if (r >= 0 && env->rootless)
		r = make_own_ids(a, &d);
	if (r < 0)
		return r;
	deal_host(&d);
	deal_monitor(&d);
	deal_guest(&d);
	deal_init(&d);
	dealer_finish(&d, ret);
	return spec_guest_is_foreign(s) ? plan_for_foreign(a, s, ret) : 0;
}

int plan_exec_for_vm(struct arena *a, const struct plan *ns, struct plan *ret)
{
	const struct step clone = {.kind = STEP_CLONE, .slot = -1};
	struct dealer d = {0};

	int r = dealer_start(a, &d, ns);
	if (r < 0)
		return r;
	deal_kind(&d, PLACE_HOST, STEP_COMPILE_SECCOMP, PLACE_HOST);
	/*
	 * In the plan of an exec, the step CLONE of the party HOST makes a process on the host that
	 * stands for the process in the guest: it has the terminal of that process, passes signals
	 * to it and ends with its exit code.
	 */
	deal_step(&d, PLACE_HOST, &clone);
	for (size_t i = 0; i < ns->n; i++) {
		const struct step *s = &ns->steps[i];

		if (s->kind == STEP_COMPILE_SECCOMP || s->kind == STEP_EXEC_LABEL)
			continue;
		set_own_groups(deal_step(&d, s->place == PLACE_HOST ? PLACE_GUEST : s->place, s));
	}
	dealer_finish(&d, ret);
	return 0;
}
