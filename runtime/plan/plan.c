/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The functions below append steps in the order in which they will be done, so
 * plan_build() read from top to bottom tells what happens. Every decision (such as whether device
 * nodes can be made) is taken here, once, so that the code that does the steps takes none.
 */
#include "plan/vm.h"

#include <sched.h>

#include "plan/builder.h"

static bool has_ns(const struct spec *s, enum spec_ns type)
{
	return s->ns[type].set;
}

static bool is_new(const struct spec *s, enum spec_ns type)
{
	return s->ns[type].set && !s->ns[type].path;
}

/*
 * Returns whether the runtime makes the container's network namespace. In two cases it cannot: if
 * the namespace must belong to a new user namespace, because then a process in that user namespace
 * must make it, and if there is a stage (see add_clone()), because then the stage makes it.
 */
bool plan_makes_network(const struct spec *s, bool rootless)
{
	return is_new(s, SPEC_NS_NETWORK) && !rootless && !has_ns(s, SPEC_NS_USER) &&
	       !is_new(s, SPEC_NS_TIME) && !s->ns[SPEC_NS_PID].path;
}

static bool makes_network(const struct builder *b)
{
	return b->env->isolation != PLAN_VM && plan_makes_network(b->spec, b->env->rootless);
}

static int check_namespaces(struct builder *b)
{
	const struct spec *s = b->spec;

	if (!has_ns(s, SPEC_NS_MOUNT))
		return err_set(EINVAL,
			"linux.namespaces: there is no mount namespace: add {\"type\": "
			"\"mount\"}, because the container would change the host's own mounts "
			"without one");
	/* In a microVM the ids of an ordinary user's container are mapped outside of the guest. */
	if (b->env->rootless && b->env->isolation != PLAN_VM && !has_ns(s, SPEC_NS_USER))
		return err_set(EPERM,
			"linux.namespaces: an ordinary user needs a user namespace: add "
			"{\"type\": \"user\"} (`caisson spec --rootless` writes such a "
			"config.json)");
	if (is_new(s, SPEC_NS_USER) && !b->env->rootless &&
		(!s->uid_mappings.n || !s->gid_mappings.n))
		return err_set(EINVAL,
			"User namespaces enabled, but no %s mappings found: linux.uidMappings, "
			"linux.gidMappings: a new user namespace needs both",
			s->uid_mappings.n ? "gid" : "uid");
	return 0;
}

static int check_net(const struct builder *b)
{
	if (!b->spec->vm_net || b->env->isolation == PLAN_VM)
		return 0;
	return err_set(ENOTSUP,
		"annotation " SPEC_VM_NET ": %s: a vhost-user back end serves microVMs only: use "
		"--isolation vm",
		b->spec->vm_net->socket);
}

static void add_connect_net(struct builder *b)
{
	struct step *c =
		builder_add_step(b, STEP_CONNECT_NET, PLACE_HOST, "annotation " SPEC_VM_NET);

	c->slot = b->nslots++;
	c->net = b->spec->vm_net;
}

/*
 * Appends the steps that open the namespaces that the container joins by path. The runtime does
 * these steps, because it has the rights to open the namespaces and the paths are valid in its
 * mount namespace.
 */
static uint64_t add_namespaces(struct builder *b)
{
	uint64_t joined = 0;

	for (int t = 0; t < SPEC_NS_COUNT; t++) {
		const struct spec_namespace *ns = &b->spec->ns[t];
		if (!ns->path)
			continue;
		struct step *s = builder_add_step(b, STEP_OPEN_NAMESPACE, PLACE_HOST,
			builder_field(b, "linux.namespaces", (size_t)ns->index));
		s->slot = b->nslots++;
		s->ns.type = (enum spec_ns)t;
		s->ns.path = ns->path;
		joined |= plan_ns_flag((enum spec_ns)t);
	}
	return joined;
}

/*
 * Returns whether the container joins namespaces by path before it enters its user namespace.
 *
 * setns(2) needs CAP_SYS_ADMIN in the user namespace that owns the namespace to join. A new user
 * namespace owns no existing namespaces, and a joined one may not own those that the container
 * joins. Root has the capability everywhere as long as it is in its own user namespace, so root
 * joins the namespaces first. An ordinary user has the capability nowhere before it has joined a
 * user namespace. In VM mode the monitor joins, which is in no user namespace of the container.
 */
static bool joins_first(const struct builder *b)
{
	return b->userns && !b->env->rootless && b->env->isolation != PLAN_VM;
}

/*
 * Returns in which of three phases a namespace is joined. Phases 1 and 2 come before the step FORK
 * of a stage (see add_clone()), and phase 3 after it. The mount namespace is the last, because a
 * container cannot mount in a mount namespace that its user namespace does not own.
 */
static int join_phase(const struct builder *b, enum spec_ns type)
{
	if (type == SPEC_NS_USER)
		return joins_first(b) ? 2 : 1;
	if (type == SPEC_NS_PID)
		return joins_first(b) ? 1 : 2;
	return joins_first(b) && type != SPEC_NS_MOUNT ? 1 : 3;
}

static void add_joins(struct builder *b, int phase)
{
	for (size_t i = 0, n = b->n; i < n; i++) {
		/* The step is copied, because builder_add_step() may move the array of steps. */
		const struct step open = b->steps[i];
		if (open.kind != STEP_OPEN_NAMESPACE || join_phase(b, open.ns.type) != phase)
			continue;
		struct step *s = builder_add_step(b, STEP_JOIN, PLACE_INIT, open.field);
		s->slot = open.slot;
		s->ns = open.ns;
	}
}

/* Returns whether the container joins a namespace of this type before its user namespace. */
static bool is_joined_first(const struct builder *b, enum spec_ns type)
{
	return b->spec->ns[type].path && join_phase(b, type) == 1 && joins_first(b);
}

static bool has_joins_before_fork(const struct builder *b)
{
	for (int t = 0; t < SPEC_NS_COUNT; t++)
		if (b->spec->ns[t].path && join_phase(b, (enum spec_ns)t) < 3)
			return true;
	return false;
}

static void add_hostnames(struct builder *b)
{
	if (b->spec->hostname)
		builder_add_text(b, STEP_HOSTNAME, "hostname", b->spec->hostname);
	if (b->spec->domainname)
		builder_add_text(b, STEP_DOMAINNAME, "domainname", b->spec->domainname);
}

static bool is_set_first(const struct builder *b, const struct spec_pair *sysctl)
{
	static const enum spec_ns types[] = {SPEC_NS_NETWORK, SPEC_NS_IPC, SPEC_NS_UTS};

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (is_joined_first(b, types[i]) &&
			spec_sysctl_is_of(b->arena, sysctl->key, types[i]))
			return true;
	return false;
}

/*
 * Appends steps for sysctls: if `first` is set, for the sysctls of namespaces that the container
 * joins before its user namespace, else for all others.
 */
static void add_sysctls(struct builder *b, bool first)
{
	const struct spec_pairs *all = &b->spec->sysctl;

	for (size_t i = 0; i < all->n; i++)
		if (is_set_first(b, &all->v[i]) == first)
			builder_add_step(b, STEP_SYSCTL, PLACE_INIT, "linux.sysctl")->pair =
				all->v[i];
}

/*
 * Appends the steps by which the stage (see add_clone()) joins namespaces that another user
 * namespace owns, and sets their sysctls and names, because only the stage has rights in them.
 */
static void add_first_joins(struct builder *b)
{
	add_joins(b, 1);
	if (is_joined_first(b, SPEC_NS_UTS))
		add_hostnames(b);
	add_sysctls(b, true);
	add_joins(b, 2);
}

/*
 * Appends the step CLONE, which makes INIT, the container's first process. clone3(2) makes all new
 * namespaces at once, except the cgroup namespace, which must be made from inside the cgroup.
 *
 * In four cases CLONE makes a process called the stage, which does the first of INIT's steps and
 * makes INIT at FORK. First, an existing user namespace must be entered before anything else.
 * Second, the members of an existing pid namespace can only be made from within it. Third,
 * namespaces that the container's user namespace does not own must be entered before that user
 * namespace: see joins_first(). Fourth, time offsets can only be written as long as no process is
 * in the time namespace.
 *
 * CLONE makes a new user namespace, and INIT inherits it from the stage. If the stage has to join
 * other namespaces before, FORK makes the new user namespace instead.
 */
static void add_clone(struct builder *b)
{
	const struct spec *s = b->spec;
	struct step *c = builder_add_step(b, STEP_CLONE, PLACE_HOST, NULL);
	uint64_t flags = 0;

	for (int t = 0; t < SPEC_NS_COUNT; t++)
		if (is_new(s, (enum spec_ns)t) && t != SPEC_NS_CGROUP)
			flags |= plan_ns_flag((enum spec_ns)t);
	if (makes_network(b))
		flags &= ~(uint64_t)CLONE_NEWNET;
	if (b->root_as_namespace)
		flags &= ~(uint64_t)CLONE_NEWNS;
	c->clone.flags = flags;
	const bool joins = has_joins_before_fork(b);
	if (!is_new(s, SPEC_NS_TIME) && !joins)
		return;
	const uint64_t first = joins && joins_first(b) ? 0 : flags & CLONE_NEWUSER;
	c->clone.staged = true;
	c->clone.flags = first;
	add_first_joins(b);
	if (is_new(s, SPEC_NS_TIME)) {
		struct step *t = builder_add_step(b, STEP_TIME_NS, PLACE_INIT, "linux.timeOffsets");
		t->time.monotonic = s->time_monotonic;
		t->time.boottime = s->time_boottime;
	}
	struct step *f = builder_add_step(b, STEP_FORK, PLACE_INIT, NULL);
	f->fork.flags = flags & ~(first | CLONE_NEWTIME);
	f->fork.staged = true;
}

static void add_limits(struct builder *b)
{
	builder_add_step(b, STEP_CGROUP_LIMIT, PLACE_HOST, "linux.resources");
}

static bool needs_placing(const struct spec *s, const struct plan_env *env)
{
	return is_new(s, SPEC_NS_USER) || env->cgroup_attach || s->intel_rdt || s->nnet_devices;
}

static void add_placing(struct builder *b)
{
	const struct spec *s = b->spec;
	const struct plan_env *env = b->env;

	if (is_new(s, SPEC_NS_USER)) {
		struct step *m = builder_add_step(b, STEP_ID_MAP, PLACE_HOST, "linux.uidMappings");
		m->map.uid = s->uid_mappings;
		m->map.gid = s->gid_mappings;
		if (!m->map.uid.n || !m->map.gid.n) {
			/*
			 * If config.json has no id mappings, an ordinary user becomes root in the
			 * user namespace, because this is the only map that the kernel lets that
			 * user write.
			 */
			struct spec_id_map *self = arena_array(b->arena, 2, sizeof(*self));
			if (!self) {
				b->failed = -ENOMEM;
				return;
			}
			self[0] = (struct spec_id_map){.host_id = env->uid, .size = 1};
			self[1] = (struct spec_id_map){.host_id = env->gid, .size = 1};
			m->map.uid = (struct spec_id_maps){.v = &self[0], .n = 1};
			m->map.gid = (struct spec_id_maps){.v = &self[1], .n = 1};
		}
	}
	if (env->cgroup_attach)
		builder_add_step(b, STEP_CGROUP_ATTACH, PLACE_HOST, "linux.cgroupsPath");
	if (s->intel_rdt)
		builder_add_step(b, STEP_INTEL_RDT, PLACE_HOST, "linux.intelRdt")->rdt =
			s->intel_rdt;
	for (size_t i = 0; i < s->nnet_devices; i++) {
		struct step *d =
			builder_add_step(b, STEP_NET_DEVICE, PLACE_HOST, "linux.netDevices");
		d->pair.key = s->net_devices[i].name;
		d->pair.value = s->net_devices[i].new_name;
	}
	if (needs_placing(s, env))
		builder_add_barrier(b, PLACE_HOST, "placed");
}

static void add_hooks(struct builder *b, enum step_place place, const char *name,
	const char *status, struct spec_hooks hooks)
{
	if (!hooks.n)
		return;
	struct step *s = builder_add_step(b, STEP_HOOKS, place, NULL);
	s->hooks.name = name;
	s->hooks.status = status;
	s->hooks.hooks = hooks;
}

static void add_hooks_before_pivot(struct builder *b)
{
	const struct spec *s = b->spec;

	if (s->hooks.prestart.n || s->hooks.create_runtime.n) {
		builder_add_barrier(b, PLACE_INIT, "mounted");
		add_hooks(b, PLACE_HOST, "prestart", "creating", s->hooks.prestart);
		add_hooks(b, PLACE_HOST, "createRuntime", "creating", s->hooks.create_runtime);
		builder_add_barrier(b, PLACE_HOST, "hooks-done");
	}
	add_hooks(b, PLACE_INIT, "createContainer", "creating", s->hooks.create_container);
}

static void add_restrictions(struct builder *b)
{
	const struct spec *s = b->spec;

	add_sysctls(b, false);
	for (size_t i = 0; i < s->readonly_paths.n; i++)
		builder_add_text(b, STEP_READONLY_PATH, builder_field(b, "linux.readonlyPaths", i),
			s->readonly_paths.v[i]);
	for (size_t i = 0; i < s->masked_paths.n; i++)
		builder_add_text(b, STEP_MASK_PATH, builder_field(b, "linux.maskedPaths", i),
			s->masked_paths.v[i]);
	if (s->root_readonly)
		builder_add_step(b, STEP_READONLY_ROOT, PLACE_INIT, "root.readonly");
	if (s->rootfs_propagation)
		builder_add_step(b, STEP_ROOT_PROPAGATION, PLACE_INIT, "linux.rootfsPropagation")
			->number = s->rootfs_propagation;
}

/*
 * Appends the step that makes the terminal. If consoleSize is not given, the terminal gets the size
 * of the terminal of caisson's caller.
 */
static void add_console(struct builder *b, const struct spec_process *p)
{
	if (!p || !p->terminal)
		return;
	if (!p->console_height && !p->console_width && b->env) {
		struct spec_process *sized = arena_alloc(b->arena, sizeof(*sized));
		if (!sized) {
			b->failed = -ENOMEM;
			return;
		}
		*sized = *p;
		sized->console_height = b->env->console_height;
		sized->console_width = b->env->console_width;
		p = sized;
	}
	builder_add_process(b, STEP_CONSOLE, "process.terminal", p);
}

/*
 * plan_build() is longer than the 60 lines that a function may have, because it is the table of
 * contents of what happens. If it were split up, it could no longer be read from top to bottom.
 */
int plan_build(struct arena *a, const struct spec *s, const struct plan_env *env, struct plan *ret)
{
	struct builder b = {.arena = a, .spec = s, .env = env};

	int r = check_namespaces(&b);
	if (r >= 0)
		r = builder_check_mounts(&b);
	if (r >= 0)
		r = check_net(&b);
	r = r < 0 ? r : plan_vm_as_root(a, &b.spec, &b.env);
	if (r < 0)
		return r;
	b.userns = has_ns(s, SPEC_NS_USER);
	builder_decide_devices(&b);
	if (env->notify_dir)
		builder_add_notify_dir(&b);
	/* A foreign guest (an operating system with an init) has its own hosts and resolv.conf. */
	if (env->names_dir && !spec_guest_is_foreign(s))
		builder_add_names_files(&b);
	builder_decide_namespace(&b);
	s = b.spec;

	/*
	 * The runtime sets the cgroup's limits while INIT (the container's first process) starts.
	 * The limits must be in force before INIT mounts, because device rules hold for its mounts.
	 */
	const bool late = env->cgroup && !env->cgroup_attach && env->isolation != PLAN_VM;
	if (env->cgroup && !env->cgroup_attach) {
		builder_add_step(&b, STEP_CGROUP_CREATE, PLACE_HOST, "linux.cgroupsPath");
		if (!late)
			add_limits(&b);
	}
	/*
	 * The namespaces to join are opened before other files, because later steps that open files
	 * need the joined user namespace for its id maps.
	 */
	uint64_t joined = add_namespaces(&b);
	int root_slot = b.env->rootless ? -1 : builder_add_opens(&b);
	if (s->vm_net)
		add_connect_net(&b);
	int seccomp_slot = s->process ? builder_add_seccomp_compile(&b) : -1;
	/*
	 * If an ordinary user joins an existing user namespace, the OOM score of a process in it
	 * can only be set before that process exists. So the runtime sets its own score, which the
	 * container's first process inherits, as in plan_build_exec().
	 */
	bool inherit = b.env->rootless && s->ns[SPEC_NS_USER].path;
	if (inherit)
		builder_add_oom_score(&b, s->process);
	add_clone(&b);
	if (!inherit)
		builder_add_oom_score(&b, s->process);
	add_placing(&b);
	if (late)
		add_limits(&b);
	if (makes_network(&b))
		builder_add_step(&b, STEP_NEW_NETWORK, PLACE_HOST, "linux.namespaces");
	add_joins(&b, 3);
	/*
	 * The container may use all CPUs again, because the CPU affinity of caisson's caller was
	 * not meant for it. The cgroup's cpuset still applies.
	 */
	builder_add_text(&b, STEP_AFFINITY, NULL, NULL);
	builder_add_mapped_root(&b);
	if (is_new(s, SPEC_NS_CGROUP))
		builder_add_step(&b, STEP_CGROUP_NS, PLACE_INIT, "linux.namespaces");
	if (is_new(s, SPEC_NS_NETWORK) && !makes_network(&b))
		builder_add_step(&b, STEP_LOOPBACK, PLACE_INIT, NULL);
	if (!is_joined_first(&b, SPEC_NS_UTS))
		add_hostnames(&b);
	if (!env->no_new_keyring)
		builder_add_text(&b, STEP_KEYRING, NULL, env->keyring);
	if (b.env->rootless)
		root_slot = builder_add_opens(&b);
	/*
	 * The step NEW_NETWORK comes late, so that the runtime has sent the network namespace by
	 * then and the container's first process need not wait for it.
	 */
	if (makes_network(&b))
		builder_add_step(&b, STEP_NEW_NETWORK, PLACE_INIT, "linux.namespaces");
	if (late)
		builder_add_barrier(&b, PLACE_HOST, "limited");
	/*
	 * The runtime joins the container to its networks while the container's first process
	 * mounts, and before the hooks run, because hooks may need the interfaces.
	 */
	if (env->networks.n)
		builder_add_step(&b, STEP_NETWORKS, PLACE_HOST, "--network")->networks =
			env->networks;
	builder_add_mounts(&b, root_slot);
	add_hooks_before_pivot(&b);
	builder_add_step(&b, STEP_PIVOT, PLACE_INIT, NULL)->number =
		b.root_as_namespace ? PLAN_PIVOT_IS_ROOT
		: env->no_pivot     ? PLAN_PIVOT_MOVE
				    : PLAN_PIVOT_ROOT;
	add_console(&b, s->process);
	/*
	 * The step FIND_PROGRAM comes before the root becomes read-only, because it makes the
	 * directory process.cwd if that is missing.
	 */
	if (s->process)
		builder_add_process(&b, STEP_FIND_PROGRAM, NULL, s->process);
	add_restrictions(&b);
	if (s->process)
		builder_add_attributes(&b, s->process);
	builder_add_step(&b, STEP_CLOSE, PLACE_INIT, NULL);
	if (s->process)
		builder_add_seccomp(&b, s->process, seccomp_slot);
	builder_add_barrier(&b, PLACE_INIT, "created");
	builder_add_host_rlimits(&b, s->process);
	if (!env->attached)
		builder_add_barrier(&b, PLACE_HOST, "recorded");
	builder_add_step(&b, STEP_WAIT_START, PLACE_INIT, NULL);
	add_hooks(&b, PLACE_INIT, "startContainer", "created", s->hooks.start_container);
	if (s->process)
		builder_add_process(&b, STEP_EXEC, NULL, s->process);
	if (b.failed)
		return b.failed;
	*ret = (struct plan){.steps = b.steps,
		.n = b.n,
		.nslots = b.nslots,
		.process = s->process,
		.joined = joined,
		.userns = b.userns,
		.terminal = s->process && s->process->terminal};
	if (env->isolation != PLAN_VM)
		return 0;
	const struct plan ns = *ret;
	return plan_for_vm(a, s, env, &ns, ret);
}
