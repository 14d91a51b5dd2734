/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: the functions below append steps in the order in which they will be done;
 * reading plan_build() from top to bottom is reading what happens. Whatever needs a decision (is
 * there a user namespace, can device nodes be made, is there anything to run) is decided here,
 * once, so that the code that carries the steps out has none to take.
 */
#include "plan/plan.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>

struct builder {
	struct arena *arena;
	const struct spec *spec;
	const struct plan_env *env;
	struct step *steps;
	size_t n, cap;
	int nslots;
	bool userns;       /* in a user namespace that is not the runtime's */
	bool no_mknod;     /* device nodes have to be bound from the host */
	bool dev_is_bound; /* /dev is the host's or somebody's: nothing is made in it */
	int failed;
};

static const struct {
	uint64_t flag;
	const char *name;
} namespaces[SPEC_NS_COUNT] = {
	[SPEC_NS_USER] = {CLONE_NEWUSER, "user"},
	[SPEC_NS_PID] = {CLONE_NEWPID, "pid"},
	[SPEC_NS_NETWORK] = {CLONE_NEWNET, "network"},
	[SPEC_NS_MOUNT] = {CLONE_NEWNS, "mount"},
	[SPEC_NS_IPC] = {CLONE_NEWIPC, "ipc"},
	[SPEC_NS_UTS] = {CLONE_NEWUTS, "uts"},
	[SPEC_NS_CGROUP] = {CLONE_NEWCGROUP, "cgroup"},
	[SPEC_NS_TIME] = {CLONE_NEWTIME, "time"},
};

uint64_t plan_ns_flag(enum spec_ns type)
{
	return namespaces[type].flag;
}

const char *plan_ns_name(enum spec_ns type)
{
	return namespaces[type].name;
}

static struct step *add(
	struct builder *b, enum step_kind kind, enum step_place place, const char *field)
{
	/* Where memory ran out: a place to write to, and plan_build() fails at the end. */
	static _Thread_local struct step nowhere;

	if (b->n == b->cap) {
		size_t cap = b->cap ? 2 * b->cap : 64;
		struct step *steps = arena_array(b->arena, cap, sizeof(*steps));
		if (!steps) {
			b->failed = -ENOMEM;
			return &nowhere;
		}
		if (b->n)
			memcpy(steps, b->steps, b->n * sizeof(*steps));
		b->steps = steps;
		b->cap = cap;
	}
	struct step *s = &b->steps[b->n++];
	*s = (struct step){.kind = kind, .place = place, .slot = -1, .field = field};
	return s;
}

static void add_text(struct builder *b, enum step_kind kind, const char *field, const char *text)
{
	add(b, kind, PLACE_INIT, field)->text = text;
}

static void add_process(
	struct builder *b, enum step_kind kind, const char *field, const struct spec_process *p)
{
	add(b, kind, PLACE_INIT, field)->process = p;
}

static void add_barrier(struct builder *b, enum step_place place, const char *name)
{
	add(b, STEP_BARRIER, place, NULL)->text = name;
}

static const char *indexed(struct builder *b, const char *format, size_t i)
{
	char *s = arena_printf(b->arena, "%s[%zu]", format, i);

	if (!s)
		b->failed = -ENOMEM;
	return s;
}

/* A path of config.json that may be relative to the bundle. */
static const char *in_bundle(struct builder *b, const char *path)
{
	if (path[0] == '/')
		return path;
	char *s = arena_printf(b->arena, "%s/%s", b->env->bundle, path);
	if (!s)
		b->failed = -ENOMEM;
	return s;
}

/*
 * An ordinary user may copy mounts only in INIT's user namespace, so that INIT opens them itself.
 * Else HOST does: it reaches sources that the root of the user namespace may not.
 */
static int add_open(
	struct builder *b, enum step_kind kind, const char *field, const char *path, bool recursive)
{
	struct step *s = add(b, kind, b->env->rootless ? PLACE_INIT : PLACE_HOST, field);

	s->slot = b->nslots++;
	s->open.path = path;
	s->open.recursive = recursive;
	/* A copy of a shared mount is its peer: what is mounted beneath it would appear on the
	 * host. */
	s->open.propagation =
		b->spec->rootfs_propagation ? b->spec->rootfs_propagation : MS_SLAVE | MS_REC;
	return s->slot;
}

static bool has_ns(const struct spec *s, enum spec_ns type)
{
	return s->ns[type].set;
}

static bool is_new(const struct spec *s, enum spec_ns type)
{
	return s->ns[type].set && !s->ns[type].path;
}

/* Whether the path, written in any way ("//dev/", "/dev/."), is this one. Not for paths with "..".
 */
static bool same_path(const char *path, const char *want)
{
	while (*want) {
		while (*path == '/' || (path[0] == '.' && (path[1] == '/' || !path[1])))
			path++;
		want++;
		size_t len = strcspn(want, "/");
		if (strncmp(path, want, len) != 0 || (path[len] && path[len] != '/'))
			return false;
		path += len;
		want += len;
	}
	while (*path == '/' || *path == '.')
		path++;
	return !*path;
}

static int check_namespaces(struct builder *b)
{
	const struct spec *s = b->spec;

	if (!has_ns(s, SPEC_NS_MOUNT))
		return err_set(EINVAL,
			"linux.namespaces: there is no mount namespace: add {\"type\": "
			"\"mount\"}, without one the host's own mounts would be changed");
	if (b->env->rootless && !has_ns(s, SPEC_NS_USER))
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

static int check_mounts(const struct builder *b)
{
	const struct spec *s = b->spec;

	for (size_t i = 0; i < s->nmounts; i++)
		if (s->mounts[i].backend && b->env->isolation != PLAN_VM)
			return err_set(ENOTSUP,
				"mounts[%zu].source: %s: a vhost-user back end serves microVMs: "
				"use --isolation vm",
				i, s->mounts[i].source);
	return 0;
}

static int check_net(const struct builder *b)
{
	if (!b->spec->vm_net || b->env->isolation == PLAN_VM)
		return 0;
	return err_set(ENOTSUP,
		"annotation " SPEC_VM_NET ": %s: a vhost-user back end serves microVMs: use "
		"--isolation vm",
		b->spec->vm_net->socket);
}

/* What is there before INIT mounts it: its slot is filled by an earlier step. */
static bool has_source(const struct spec_mount *m)
{
	return m->backend || (m->bind && !m->remount);
}

/* Disks in the order of mounts, after vm.image; a share by the number of its mount. */
static const char *backend_device(struct builder *b, size_t index)
{
	const struct spec *s = b->spec;
	char letter = s->vm && s->vm->image_path ? 'b' : 'a';

	for (size_t i = 0; i < index; i++)
		letter += s->mounts[i].backend && !streq(s->mounts[i].type, "virtiofs");
	char *device = streq(s->mounts[index].type, "virtiofs")
			       ? arena_printf(b->arena, "mounts%zu", index)
			       : arena_printf(b->arena, "/dev/vd%c", letter);
	if (!device)
		b->failed = -ENOMEM;
	return device;
}

static void add_connect(struct builder *b, size_t index)
{
	struct step *c = add(b, STEP_CONNECT, PLACE_HOST, indexed(b, "mounts", index));

	c->slot = b->nslots++;
	c->connect.mount = &b->spec->mounts[index];
	c->connect.device = backend_device(b, index);
}

static void add_connect_net(struct builder *b)
{
	struct step *c = add(b, STEP_CONNECT_NET, PLACE_HOST, "annotation " SPEC_VM_NET);

	c->slot = b->nslots++;
	c->net = b->spec->vm_net;
}

static void add_sources(struct builder *b)
{
	const struct spec *s = b->spec;

	for (size_t i = 0; i < s->nmounts; i++) {
		const struct spec_mount *m = &s->mounts[i];
		if (!has_source(m))
			continue;
		if (m->backend) {
			add_connect(b, i);
			continue;
		}
		add_open(b, STEP_OPEN_SOURCE, indexed(b, "mounts", i),
			in_bundle(b, m->source ? m->source : ""), m->rbind);
		if (b->failed)
			return;
		struct step *open = &b->steps[b->n - 1];
		open->open.mount = m;
		if (!m->idmap && !m->ridmap && !m->uid_mappings.n)
			continue;
		open->open.idmap_uid = m->uid_mappings.n ? m->uid_mappings : s->uid_mappings;
		open->open.idmap_gid = m->gid_mappings.n ? m->gid_mappings : s->gid_mappings;
	}
}

static const struct spec_device default_devices[] = {
	{.path = "/dev/null", .type = 'c', .major = 1, .minor = 3, .file_mode = {true, 0666}},
	{.path = "/dev/zero", .type = 'c', .major = 1, .minor = 5, .file_mode = {true, 0666}},
	{.path = "/dev/full", .type = 'c', .major = 1, .minor = 7, .file_mode = {true, 0666}},
	{.path = "/dev/random", .type = 'c', .major = 1, .minor = 8, .file_mode = {true, 0666}},
	{.path = "/dev/urandom", .type = 'c', .major = 1, .minor = 9, .file_mode = {true, 0666}},
	{.path = "/dev/tty", .type = 'c', .major = 5, .minor = 0, .file_mode = {true, 0666}},
};

static bool is_configured(const struct spec *s, const char *path)
{
	for (size_t i = 0; i < s->ndevices; i++)
		if (same_path(s->devices[i].path, path))
			return true;
	return false;
}

/* Slots of the bound devices, in the order in which add_devices() will use them. */
static void add_device_sources(struct builder *b)
{
	const struct spec *s = b->spec;

	if (!b->no_mknod || b->dev_is_bound)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(default_devices); i++)
		if (!is_configured(s, default_devices[i].path))
			add_open(b, STEP_OPEN_SOURCE, NULL, default_devices[i].path, false);
	for (size_t i = 0; i < s->ndevices; i++)
		if (s->devices[i].type != 'p')
			add_open(b, STEP_OPEN_SOURCE, indexed(b, "linux.devices", i),
				s->devices[i].path, false);
}

/* The root, then the sources: add_root() counts on these slots following each other. */
static int add_opens(struct builder *b)
{
	const char *root = in_bundle(b, b->spec->root_path);
	int slot = add_open(b, STEP_OPEN_ROOT, "root.path", root, true);

	add_sources(b);
	add_device_sources(b);
	return slot;
}

static void add_device(struct builder *b, const char *field, const struct spec_device *d, int *slot)
{
	struct step *s = add(b, STEP_DEVICE, PLACE_INIT, field);

	s->device.device = d;
	s->device.bind = b->no_mknod && d->type != 'p';
	if (s->device.bind)
		s->slot = (*slot)++;
}

static void add_devices(struct builder *b, int slot)
{
	static const struct {
		const char *target, *path;
	} links[] = {
		{"/proc/self/fd", "/dev/fd"},
		{"/proc/self/fd/0", "/dev/stdin"},
		{"/proc/self/fd/1", "/dev/stdout"},
		{"/proc/self/fd/2", "/dev/stderr"},
		{"/proc/kcore", "/dev/core"},
		{"pts/ptmx", "/dev/ptmx"},
	};
	const struct spec *s = b->spec;

	if (b->dev_is_bound)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(default_devices); i++)
		if (!is_configured(s, default_devices[i].path))
			add_device(b, NULL, &default_devices[i], &slot);
	for (size_t i = 0; i < s->ndevices; i++)
		add_device(b, indexed(b, "linux.devices", i), &s->devices[i], &slot);
	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		struct step *l = add(b, STEP_SYMLINK, PLACE_INIT, NULL);
		l->link.target = links[i].target;
		l->link.path = links[i].path;
	}
}

/*
 * Namespaces to join are opened by HOST, with its rights and in its mount namespace. User and pid
 * namespaces are entered on the way to the first process (ns/clone.c), the others by INIT itself.
 */
static uint64_t add_namespaces(struct builder *b)
{
	uint64_t joined = 0;

	for (int t = 0; t < SPEC_NS_COUNT; t++) {
		const struct spec_namespace *ns = &b->spec->ns[t];
		if (!ns->path)
			continue;
		struct step *s = add(b, STEP_OPEN_NAMESPACE, PLACE_HOST,
			indexed(b, "linux.namespaces", (size_t)ns->index));
		s->slot = b->nslots++;
		s->ns.type = (enum spec_ns)t;
		s->ns.path = ns->path;
		joined |= namespaces[t].flag;
	}
	return joined;
}

static void add_joins(struct builder *b)
{
	for (size_t i = 0, n = b->n; i < n; i++) {
		/* By value: add() may move the array. */
		const struct step open = b->steps[i];
		if (open.kind != STEP_OPEN_NAMESPACE || open.ns.type == SPEC_NS_USER ||
			open.ns.type == SPEC_NS_PID)
			continue;
		struct step *s = add(b, STEP_JOIN, PLACE_INIT, open.field);
		s->slot = open.slot;
		s->ns = open.ns;
	}
}

/*
 * clone3(2) makes all new namespaces at once, except that a cgroup namespace must be made from
 * inside the cgroup, and that three cases need a process in between: entering an existing user
 * namespace first, entering an existing pid namespace from within it, and time offsets, which can
 * only be written before anybody is in the time namespace.
 */
static void add_clone(struct builder *b)
{
	const struct spec *s = b->spec;
	struct step *c = add(b, STEP_CLONE, PLACE_HOST, NULL);

	for (int t = 0; t < SPEC_NS_COUNT; t++)
		if (is_new(s, (enum spec_ns)t) && t != SPEC_NS_CGROUP)
			c->clone.flags |= namespaces[t].flag;
	c->clone.spec = s;
	bool into_user = s->ns[SPEC_NS_USER].path != NULL;
	bool into_pid = s->ns[SPEC_NS_PID].path != NULL;
	if (is_new(s, SPEC_NS_TIME) || into_user || into_pid) {
		c->clone.staged_flags = (is_new(s, SPEC_NS_TIME) ? CLONE_NEWTIME : 0) |
					(into_user || is_new(s, SPEC_NS_USER) ? CLONE_NEWUSER : 0) |
					(into_pid ? CLONE_NEWPID : 0);
	}
}

/* By HOST: it may have the right to lower the score where the user namespace's root has not. */
static void add_oom_score(struct builder *b, const struct spec_process *p)
{
	if (p && p->oom_score_adj.set)
		add(b, STEP_OOM_SCORE, PLACE_HOST, "process.oomScoreAdj")->process = p;
}

/* In a user namespace of its own INIT may not raise hard limits; HOST may, if it is root. */
static void add_host_rlimits(struct builder *b, const struct spec_process *p)
{
	if (p && p->nrlimits && b->userns)
		add(b, STEP_RLIMITS, PLACE_HOST, "process.rlimits")->process = p;
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
		struct step *m = add(b, STEP_ID_MAP, PLACE_HOST, "linux.uidMappings");
		m->map.uid = s->uid_mappings;
		m->map.gid = s->gid_mappings;
		if (!m->map.uid.n || !m->map.gid.n) {
			/* An ordinary user without mappings: root inside is that user outside. */
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
		add(b, STEP_CGROUP_ATTACH, PLACE_HOST, "linux.cgroupsPath");
	if (s->intel_rdt)
		add(b, STEP_INTEL_RDT, PLACE_HOST, "linux.intelRdt")->rdt = s->intel_rdt;
	for (size_t i = 0; i < s->nnet_devices; i++) {
		struct step *d = add(b, STEP_NET_DEVICE, PLACE_HOST, "linux.netDevices");
		d->pair.key = s->net_devices[i].name;
		d->pair.value = s->net_devices[i].new_name;
	}
	if (needs_placing(s, env))
		add_barrier(b, PLACE_HOST, "placed");
}

static void add_hooks(struct builder *b, enum step_place place, const char *name,
	const char *status, struct spec_hooks hooks)
{
	if (!hooks.n)
		return;
	struct step *s = add(b, STEP_HOOKS, place, NULL);
	s->hooks.name = name;
	s->hooks.status = status;
	s->hooks.hooks = hooks;
}

static void add_root(struct builder *b, int root_slot)
{
	const struct spec *s = b->spec;
	struct step *attach = add(b, STEP_ATTACH_ROOT, PLACE_INIT, "root.path");

	attach->slot = root_slot;
	for (size_t i = 0; i < b->n; i++)
		if (b->steps[i].kind == STEP_OPEN_ROOT)
			attach->open = b->steps[i].open;
	int slot = root_slot + 1;
	for (size_t i = 0; i < s->nmounts; i++) {
		struct step *m = add(b, STEP_MOUNT, PLACE_INIT, indexed(b, "mounts", i));
		m->mount.mount = &s->mounts[i];
		m->mount.label = s->mount_label;
		m->mount.userns = b->userns || b->env->in_userns;
		if (has_source(&s->mounts[i]))
			m->slot = slot++;
	}
	add_devices(b, slot);
	if (s->hooks.prestart.n || s->hooks.create_runtime.n) {
		add_barrier(b, PLACE_INIT, "mounted");
		add_hooks(b, PLACE_HOST, "prestart", "creating", s->hooks.prestart);
		add_hooks(b, PLACE_HOST, "createRuntime", "creating", s->hooks.create_runtime);
		add_barrier(b, PLACE_HOST, "hooks-done");
	}
	add_hooks(b, PLACE_INIT, "createContainer", "creating", s->hooks.create_container);
	add(b, STEP_PIVOT, PLACE_INIT, NULL)->number = b->env->no_pivot;
}

static void add_restrictions(struct builder *b)
{
	const struct spec *s = b->spec;

	for (size_t i = 0; i < s->sysctl.n; i++)
		add(b, STEP_SYSCTL, PLACE_INIT, "linux.sysctl")->pair = s->sysctl.v[i];
	for (size_t i = 0; i < s->readonly_paths.n; i++)
		add_text(b, STEP_READONLY_PATH, indexed(b, "linux.readonlyPaths", i),
			s->readonly_paths.v[i]);
	for (size_t i = 0; i < s->masked_paths.n; i++)
		add_text(b, STEP_MASK_PATH, indexed(b, "linux.maskedPaths", i),
			s->masked_paths.v[i]);
	if (s->root_readonly)
		add(b, STEP_READONLY_ROOT, PLACE_INIT, "root.readonly");
	if (s->rootfs_propagation)
		add(b, STEP_ROOT_PROPAGATION, PLACE_INIT, "linux.rootfsPropagation")->number =
			s->rootfs_propagation;
}

/*
 * crun's, which podman's --group-add keep-groups sets: access by the groups of an ordinary user,
 * which its user namespace can't name.
 */
static bool keeps_groups(const struct spec *s)
{
	const char *v = spec_annotation(s, PLAN_KEEP_GROUPS);

	return v && !streq(v, "0");
}

static void add_mapped_root(struct builder *b)
{
	if (b->userns)
		add(b, STEP_MAPPED_ROOT, PLACE_INIT, "linux.uidMappings")->user.keep_groups =
			keeps_groups(b->spec);
}

/* What the process is, before it may start. Shared by create and exec. */
static void add_attributes(struct builder *b, const struct spec_process *p, const struct spec *s)
{
	if (s->memory_policy)
		add(b, STEP_MEMORY_POLICY, PLACE_INIT, "linux.memoryPolicy")->mempolicy =
			s->memory_policy;
	if (s->personality.set)
		add(b, STEP_PERSONALITY, PLACE_INIT, "linux.personality")->number =
			s->personality.v;
	if (p->nrlimits && !b->userns)
		add_process(b, STEP_RLIMITS, "process.rlimits", p);
	if (p->scheduler)
		add_process(b, STEP_SCHEDULER, "process.scheduler", p);
	if (p->io_priority.set)
		add_process(b, STEP_IO_PRIORITY, "process.ioPriority", p);
	if (p->apparmor_profile || p->selinux_label)
		add_process(b, STEP_EXEC_LABEL,
			p->apparmor_profile ? "process.apparmorProfile" : "process.selinuxLabel",
			p);
	struct step *u = add(b, STEP_USER, PLACE_INIT, "process.user");
	u->user.process = p;
	u->user.keep_groups = keeps_groups(s);
	/* Without no_new_privs, loading a filter takes CAP_SYS_ADMIN: keep it for that long. */
	struct step *c = add(b, STEP_CAPABILITIES, PLACE_INIT, "process.capabilities");
	c->caps.caps = p->capabilities;
	c->caps.keep_sys_admin = s->seccomp && !p->no_new_privileges;
	if (p->no_new_privileges)
		add_process(b, STEP_NO_NEW_PRIVS, "process.noNewPrivileges", p);
}

static void add_exec(
	struct builder *b, const struct spec_process *p, const struct spec *s, int seccomp_slot)
{
	if (s->seccomp) {
		struct step *f = add(b, STEP_SECCOMP, PLACE_INIT, "linux.seccomp");
		f->slot = seccomp_slot;
		f->seccomp.seccomp = s->seccomp;
		f->seccomp.final_caps = p->no_new_privileges ? NULL : p->capabilities;
		f->seccomp.drop_caps = !p->no_new_privileges;
	}
	add_process(b, STEP_EXEC, NULL, p);
}

static int add_seccomp_compile(struct builder *b, const struct spec *s)
{
	if (!s->seccomp)
		return -1;
	struct step *c = add(b, STEP_COMPILE_SECCOMP, PLACE_HOST, "linux.seccomp");
	c->slot = b->nslots++;
	c->seccomp.seccomp = s->seccomp;
	return c->slot;
}

/* Behind the configured mounts. The directory: the socket in it is made when the program starts. */
static const struct spec *with_notify_dir(struct builder *b, const struct spec *s)
{
	struct spec *copy = arena_alloc(b->arena, sizeof(*copy));
	struct spec_mount *mounts = arena_array(b->arena, s->nmounts + 1, sizeof(*mounts));

	if (!copy || !mounts) {
		b->failed = -ENOMEM;
		return s;
	}
	*copy = *s;
	if (s->nmounts)
		memcpy(mounts, s->mounts, s->nmounts * sizeof(*mounts));
	mounts[s->nmounts] = (struct spec_mount){
		.destination = PLAN_NOTIFY_DIR,
		.type = "bind",
		.source = b->env->notify_dir,
		.bind = true,
		.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
			    MOUNT_ATTR_NOEXEC,
	};
	copy->mounts = mounts;
	copy->nmounts = s->nmounts + 1;
	return copy;
}

/* A process that says nothing of its terminal's size gets the size of ours. */
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
	add_process(b, STEP_CONSOLE, "process.terminal", p);
}

int plan_build(struct arena *a, const struct spec *s, const struct plan_env *env, struct plan *ret)
{
	struct builder b = {.arena = a, .spec = s, .env = env};

	int r = check_namespaces(&b);
	if (r >= 0)
		r = check_mounts(&b);
	if (r >= 0)
		r = check_net(&b);
	if (r < 0)
		return r;
	if (env->notify_dir)
		b.spec = s = with_notify_dir(&b, s);
	b.userns = has_ns(s, SPEC_NS_USER);
	b.no_mknod = b.userns || env->in_userns || env->rootless;
	for (size_t i = 0; i < s->nmounts; i++)
		if (s->mounts[i].bind && same_path(s->mounts[i].destination, "/dev"))
			b.dev_is_bound = true;

	if (env->cgroup && !env->cgroup_attach) {
		add(&b, STEP_CGROUP_CREATE, PLACE_HOST, "linux.cgroupsPath");
		add(&b, STEP_CGROUP_LIMIT, PLACE_HOST, "linux.resources");
	}
	int root_slot = env->rootless ? -1 : add_opens(&b);
	uint64_t joined = add_namespaces(&b);
	if (s->vm_net)
		add_connect_net(&b);
	int seccomp_slot = s->process ? add_seccomp_compile(&b, s) : -1;
	add_clone(&b);
	add_oom_score(&b, s->process);
	add_placing(&b);
	add_joins(&b);
	/* The caller's is its own business; the cgroup's cpuset stays in force. */
	add_text(&b, STEP_AFFINITY, NULL, NULL);
	add_mapped_root(&b);
	if (is_new(s, SPEC_NS_CGROUP))
		add(&b, STEP_CGROUP_NS, PLACE_INIT, "linux.namespaces");
	if (is_new(s, SPEC_NS_NETWORK))
		add(&b, STEP_LOOPBACK, PLACE_INIT, NULL);
	if (s->hostname)
		add_text(&b, STEP_HOSTNAME, "hostname", s->hostname);
	if (s->domainname)
		add_text(&b, STEP_DOMAINNAME, "domainname", s->domainname);
	if (!env->no_new_keyring)
		add_text(&b, STEP_KEYRING, NULL, env->keyring);
	if (env->rootless)
		root_slot = add_opens(&b);
	add_root(&b, root_slot);
	add_console(&b, s->process);
	/* Before the root is made read-only: a missing working directory is made. */
	if (s->process)
		add_process(&b, STEP_FIND_PROGRAM, NULL, s->process);
	add_restrictions(&b);
	if (s->process)
		add_attributes(&b, s->process, s);
	add_barrier(&b, PLACE_INIT, "created");
	add_host_rlimits(&b, s->process);
	if (!env->attached)
		add_barrier(&b, PLACE_HOST, "recorded");
	add(&b, STEP_WAIT_START, PLACE_INIT, NULL);
	add_hooks(&b, PLACE_INIT, "startContainer", "created", s->hooks.start_container);
	if (s->process)
		add_exec(&b, s->process, s, seccomp_slot);
	if (b.failed)
		return b.failed;
	*ret = (struct plan){.steps = b.steps,
		.n = b.n,
		.nslots = b.nslots,
		.spec = s,
		.process = s->process,
		.joined = joined,
		.userns = b.userns,
		.terminal = s->process && s->process->terminal};
	if (env->isolation != PLAN_VM)
		return 0;
	const struct plan ns = *ret;
	return plan_for_vm(a, s, env, &ns, ret);
}

int plan_build_exec(struct arena *a, const struct plan_exec_env *env, struct plan *ret)
{
	const struct spec *s = env->spec;
	const struct spec_process *p = env->process;
	struct builder b = {.arena = a, .spec = s, .userns = s->ns[SPEC_NS_USER].set};
	uint64_t joined = 0;

	for (int t = 0; t < SPEC_NS_COUNT; t++)
		if (has_ns(s, (enum spec_ns)t))
			joined |= namespaces[t].flag;
	int seccomp_slot = add_seccomp_compile(&b, s);
	if (p->exec_affinity_initial) {
		struct step *i =
			add(&b, STEP_AFFINITY, PLACE_HOST, "process.execCPUAffinity.initial");
		i->text = p->exec_affinity_initial;
	}
	/* The process is hidden from the container, and so its files in /proc are from us: it
	 * inherits our score. */
	bool inherit = env->rootless && p->oom_score_adj.set;
	if (inherit)
		add_oom_score(&b, p);
	struct step *c = add(&b, STEP_CLONE, PLACE_HOST, NULL);
	c->clone.staged_flags = joined;
	c->clone.spec = s;
	if (!inherit)
		add_oom_score(&b, p);
	add_host_rlimits(&b, p);
	if (env->cgroup_attach)
		add(&b, STEP_CGROUP_ATTACH, PLACE_HOST, NULL);
	if (env->cgroup_attach || (p->oom_score_adj.set && !inherit) || (p->nrlimits && b.userns))
		add_barrier(&b, PLACE_HOST, "placed");
	add_mapped_root(&b);
	if (p->exec_affinity_final)
		add_text(
			&b, STEP_AFFINITY, "process.execCPUAffinity.final", p->exec_affinity_final);
	else if (!p->exec_affinity_initial)
		add_text(&b, STEP_AFFINITY, NULL, NULL);
	if (p->terminal)
		add_process(&b, STEP_CONSOLE, "process.terminal", p);
	if (!env->no_new_keyring)
		add_text(&b, STEP_KEYRING, NULL, env->keyring);
	add_process(&b, STEP_FIND_PROGRAM, NULL, p);
	add_attributes(&b, p, s);
	add_exec(&b, p, s, seccomp_slot);
	if (b.failed)
		return b.failed;
	*ret = (struct plan){.steps = b.steps,
		.n = b.n,
		.nslots = b.nslots,
		.process = p,
		.joined = joined,
		.userns = b.userns,
		.terminal = p->terminal};
	if (env->isolation != PLAN_VM)
		return 0;
	const struct plan ns = *ret;
	return plan_exec_for_vm(a, &ns, ret);
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
