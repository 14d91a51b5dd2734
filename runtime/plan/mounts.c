/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Appends the steps for the root file system, the mounts in it, their sources, and the device nodes
 * of /dev.
 */
#include <sys/mount.h>

#include "plan/builder.h"
#include "plan/vm.h"

/*
 * Returns a path of config.json as an absolute path. A relative path is relative to the bundle's
 * directory.
 */
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
 * Appends a step that opens a path. If root runs caisson, the runtime does the step, because it
 * reaches sources that root of the container's user namespace may not reach. If an ordinary user
 * runs caisson, INIT (the container's first process) does the step, because an ordinary user may
 * copy mounts only in INIT's user namespace.
 */
static int add_open(
	struct builder *b, enum step_kind kind, const char *field, const char *path, bool recursive)
{
	struct step *s =
		builder_add_step(b, kind, b->env->rootless ? PLACE_INIT : PLACE_HOST, field);

	s->slot = b->nslots++;
	s->open.path = path;
	s->open.recursive = recursive;
	/*
	 * OPEN_ROOT copies the mount of the root file system. A copy of a shared mount is in the
	 * same peer group, so mounts that the container makes beneath the copy would appear on the
	 * host. Therefore the copy becomes a slave unless rootfsPropagation says otherwise.
	 */
	s->open.propagation =
		b->spec->rootfs_propagation ? b->spec->rootfs_propagation : MS_SLAVE | MS_REC;
	return s->slot;
}

/*
 * Says whether path is the directory `want`, even if path is written as "//dev/" or "/dev/.".
 * Returns false for paths with "..", which this function does not resolve.
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

int builder_check_mounts(const struct builder *b)
{
	const struct spec *s = b->spec;

	for (size_t i = 0; i < s->nmounts; i++)
		if (s->mounts[i].backend && b->env->isolation != PLAN_VM)
			return err_set(ENOTSUP,
				"mounts[%zu].source: %s: a vhost-user back end or vm.image serves "
				"microVMs only: use --isolation vm",
				i, s->mounts[i].source);
	return 0;
}

/* Says whether the mount has a source that an earlier step opens and puts into a slot. */
static bool has_source(const struct spec_mount *m)
{
	return m->backend || (m->bind && !m->remount);
}

/*
 * If path is dir or lies beneath it, returns the rest of path after dir, which may be "". Otherwise
 * returns NULL, and also for paths with "..", which this function does not resolve.
 */
static const char *beneath(const char *path, const char *dir)
{
	for (;;) {
		path += strspn(path, "/");
		dir += strspn(dir, "/");
		size_t len = strcspn(dir, "/"), own = strcspn(path, "/");
		if ((len == 2 && strncmp(dir, "..", 2) == 0) ||
			(own == 2 && strncmp(path, "..", 2) == 0))
			return NULL;
		if (own == 1 && *path == '.') {
			path++;
		} else if (len == 1 && *dir == '.') {
			dir++;
		} else if (!len) {
			return strstr(path, "..") ? NULL : path;
		} else if (len != own || strncmp(path, dir, len) != 0) {
			return NULL;
		} else {
			path += len;
			dir += len;
		}
	}
}

static const char *root_path(struct builder *b, const char *rest)
{
	char *s = arena_printf(b->arena, "/%s", rest);

	if (!s)
		b->failed = -ENOMEM;
	return s;
}

/*
 * Returns the path in the container's root of a source that an earlier mount of the container made,
 * or NULL if the source is the host's. The specification (config.md) mounts in the listed order, so
 * the source of a bind mount may lie in what an earlier entry has mounted. The host would not find
 * that source at the path, because the earlier mount exists only in the container.
 */
static const char *source_in_root(struct builder *b, size_t index)
{
	const struct spec_mount *m = &b->spec->mounts[index];

	if (!has_source(m) || m->backend || !m->source)
		return NULL;
	const char *rest = beneath(in_bundle(b, m->source), in_bundle(b, b->spec->root_path));
	for (size_t i = 0; rest && i < index; i++)
		if (beneath(rest, b->spec->mounts[i].destination))
			return root_path(b, rest);
	return NULL;
}

/*
 * Returns the name in the guest of the device of a mount that a vhost-user back end serves. Disks
 * are named in the order of their mounts, after the disk of vm.image. A virtio-fs share is named by
 * the index of its mount.
 */
static const char *backend_device(struct builder *b, size_t index)
{
	const struct spec *s = b->spec;
	char letter = s->vm && s->vm->image_path ? 'b' : 'a';

	for (size_t i = 0; i < index; i++)
		letter += s->mounts[i].backend && !spec_mount_is_image(&s->mounts[i]) &&
			  !streq(s->mounts[i].type, "virtiofs");
	if (spec_mount_is_image(&s->mounts[index]))
		letter = 'a';
	char *device = streq(s->mounts[index].type, "virtiofs")
			       ? arena_printf(b->arena, "mounts%zu", index)
			       : arena_printf(b->arena, "/dev/vd%c", letter);
	if (!device)
		b->failed = -ENOMEM;
	return device;
}

static void add_connect(struct builder *b, size_t index)
{
	struct step *c =
		builder_add_step(b, STEP_CONNECT, PLACE_HOST, builder_field(b, "mounts", index));

	c->slot = b->nslots++;
	c->connect.mount = &b->spec->mounts[index];
	c->connect.device = backend_device(b, index);
}

/*
 * Appends the step that opens a mount's source. Returns the slot into which the step puts the
 * source's descriptor.
 */
static int add_source(struct builder *b, size_t index, const char *path)
{
	const struct spec *s = b->spec;
	const struct spec_mount *m = &s->mounts[index];
	int slot = add_open(b, STEP_OPEN_SOURCE, builder_field(b, "mounts", index), path, m->rbind);
	struct step *open = &b->steps[b->n - 1];

	if (b->failed)
		return slot;
	open->open.mount = m;
	if ((m->idmap || m->ridmap) && !m->uid_mappings.n && s->ns[SPEC_NS_USER].path) {
		open->open.idmap_joined = true;
	} else if (m->idmap || m->ridmap || m->uid_mappings.n) {
		open->open.idmap_uid = m->uid_mappings.n ? m->uid_mappings : s->uid_mappings;
		open->open.idmap_gid = m->gid_mappings.n ? m->gid_mappings : s->gid_mappings;
	}
	return slot;
}

/*
 * Appends a step by which INIT (the container's first process) opens a source that is inside the
 * container's root. The step comes after the mounts that config.json lists before the mount of this
 * source. Returns the source's slot.
 */
static int add_source_in_root(struct builder *b, size_t index, const char *path)
{
	int slot = add_source(b, index, path);
	struct step *open = &b->steps[b->n - 1];

	if (b->failed)
		return slot;
	open->place = PLACE_INIT;
	open->open.in_root = true;
	return slot;
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
		if (!source_in_root(b, i))
			add_source(b, i, in_bundle(b, m->source ? m->source : ""));
		if (b->failed)
			return;
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

void builder_decide_devices(struct builder *b)
{
	const struct spec *s = b->spec;

	b->no_mknod = b->userns || b->env->in_userns || b->env->rootless;
	b->make_nodes = b->no_mknod && !b->env->in_userns && !b->env->rootless;
	for (size_t i = 0; i < s->nmounts; i++)
		if (s->mounts[i].bind && same_path(s->mounts[i].destination, "/dev"))
			b->dev_is_bound = true;
}

/*
 * Appends a step by which the runtime makes the nodes of linux.devices, because INIT (the
 * container's first process) may not make device nodes in its user namespace. INIT mounts these
 * nodes. The host's own nodes cannot take their place, because they may have another owner, mode or
 * path.
 */
static void add_device_nodes(struct builder *b)
{
	const struct spec *s = b->spec;
	struct plan_node *v = arena_array(b->arena, s->ndevices + 1, sizeof(*v));
	size_t n = 0;

	if (!v) {
		b->failed = -ENOMEM;
		return;
	}
	for (size_t i = 0; i < s->ndevices; i++) {
		if (s->devices[i].type == 'p')
			continue;
		const int slot = b->nslots++;
		if (b->env->isolation == PLAN_VM && plan_vm_drops_device(s, &s->devices[i]))
			continue;
		v[n++] = (struct plan_node){.device = &s->devices[i],
			.field = builder_field(b, "linux.devices", i),
			.slot = slot};
	}
	if (!n)
		return;
	struct step *make = builder_add_step(b, STEP_DEVICE_NODES, PLACE_HOST, NULL);
	make->nodes.v = v;
	make->nodes.n = n;
	if (s->ns[SPEC_NS_USER].path)
		return;
	make->nodes.uid = s->uid_mappings;
	make->nodes.gid = s->gid_mappings;
}

/*
 * Appends the steps that open or make those device nodes that the container's first process mounts
 * instead of making them. The order of the steps is that in which add_devices() counts their slots.
 */
static void add_device_sources(struct builder *b)
{
	const struct spec *s = b->spec;

	if (!b->no_mknod || b->dev_is_bound)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(default_devices); i++)
		if (!is_configured(s, default_devices[i].path))
			add_open(b, STEP_OPEN_SOURCE, NULL, default_devices[i].path, false);
	if (b->make_nodes) {
		add_device_nodes(b);
		return;
	}
	for (size_t i = 0; i < s->ndevices; i++)
		if (s->devices[i].type != 'p')
			add_open(b, STEP_OPEN_SOURCE, builder_field(b, "linux.devices", i),
				s->devices[i].path, false);
}

/*
 * Changes the step OPEN_ROOT, which was added last: if the container's root is made of an image's
 * layers, the step opens an overlay of these layers.
 */
static void add_layers(struct builder *b)
{
	struct step *s = &b->steps[b->n - 1];

	if (b->failed || !b->env->layers)
		return;
	s->open.layers = b->env->layers;
	s->open.lower = b->env->lower;
	s->open.upper = in_bundle(b, "upper");
	s->open.work = in_bundle(b, "work");
	s->open.userxattr = b->env->rootless || b->env->in_userns;
}

/*
 * Appends the steps that open the root and the sources of all mounts. The order of these steps
 * matters, because builder_add_mounts() and add_devices() find a source by counting the slots from
 * that of the root.
 */
int builder_add_opens(struct builder *b)
{
	const char *root = in_bundle(b, b->spec->root_path);
	int slot = add_open(b, STEP_OPEN_ROOT, "root.path", root, true);

	add_layers(b);
	if (!b->failed)
		b->steps[b->n - 1].open.as_namespace = b->root_as_namespace;
	add_sources(b);
	add_device_sources(b);
	return slot;
}

static void add_device(struct builder *b, const char *field, const struct spec_device *d, int *slot)
{
	struct step *s = builder_add_step(b, STEP_DEVICE, PLACE_INIT, field);

	s->device.device = d;
	s->device.bind = b->no_mknod && d->type != 'p';
	s->device.made = s->device.bind && b->make_nodes && field;
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
		add_device(b, builder_field(b, "linux.devices", i), &s->devices[i], &slot);
	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		struct step *l = builder_add_step(b, STEP_SYMLINK, PLACE_INIT, NULL);
		l->link.target = links[i].target;
		l->link.path = links[i].path;
	}
}

void builder_add_mounts(struct builder *b, int root_slot)
{
	const struct spec *s = b->spec;
	struct step *attach = builder_add_step(b, STEP_ATTACH_ROOT, PLACE_INIT, "root.path");

	attach->slot = root_slot;
	for (size_t i = 0; i < b->n; i++)
		if (b->steps[i].kind == STEP_OPEN_ROOT)
			attach->open = b->steps[i].open;
	int slot = root_slot + 1;
	for (size_t i = 0; i < s->nmounts; i++) {
		const char *path = source_in_root(b, i);
		int in_root = path ? add_source_in_root(b, i, path) : -1;
		struct step *m =
			builder_add_step(b, STEP_MOUNT, PLACE_INIT, builder_field(b, "mounts", i));
		m->mount.mount = &s->mounts[i];
		m->mount.label = s->mount_label;
		m->mount.userns = b->userns || b->env->in_userns;
		m->mount.cgroup_ns = b->spec->ns[SPEC_NS_CGROUP].set;
		m->mount.uid = b->spec->uid_mappings;
		m->mount.gid = b->spec->gid_mappings;
		if (has_source(&s->mounts[i]))
			m->slot = path ? in_root : slot++;
	}
	add_devices(b, slot);
}

/*
 * Appends the step for a mount that is not in config.json. It comes after the mounts of
 * config.json.
 */
static void add_mount(struct builder *b, const struct spec_mount *m)
{
	const struct spec *s = b->spec;
	struct spec *copy = arena_alloc(b->arena, sizeof(*copy));
	struct spec_mount *mounts = arena_array(b->arena, s->nmounts + 1, sizeof(*mounts));

	if (!copy || !mounts) {
		b->failed = -ENOMEM;
		return;
	}
	*copy = *s;
	if (s->nmounts)
		memcpy(mounts, s->mounts, s->nmounts * sizeof(*mounts));
	mounts[s->nmounts] = *m;
	copy->mounts = mounts;
	copy->nmounts = s->nmounts + 1;
	b->spec = copy;
}

/*
 * Appends the mount of the directory with the container's NOTIFY_SOCKET. The directory is mounted
 * and not the socket, because the runtime makes the socket only when the program is started.
 */
void builder_add_notify_dir(struct builder *b)
{
	add_mount(b, &(const struct spec_mount){
			     .destination = PLAN_NOTIFY_DIR,
			     .type = "bind",
			     .source = b->env->notify_dir,
			     .bind = true,
			     .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
					 MOUNT_ATTR_NOEXEC,
		     });
}

static bool is_mounted(const struct spec *s, const char *path)
{
	for (size_t i = 0; i < s->nmounts; i++)
		if (streq(s->mounts[i].destination, path))
			return true;
	return false;
}

/*
 * Appends the mounts of the files hosts and resolv.conf, except where config.json has a mount at
 * the same place.
 */
void builder_add_names_files(struct builder *b)
{
	static const char *const files[] = {PLAN_HOSTS, PLAN_RESOLV_CONF};

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		char *path = arena_printf(b->arena, "/etc/%s", files[i]);
		char *source = arena_printf(b->arena, "%s/%s", b->env->names_dir, files[i]);
		if (!path || !source)
			b->failed = -ENOMEM;
		else if (!is_mounted(b->spec, path))
			add_mount(b, &(const struct spec_mount){
					     .destination = path,
					     .type = "bind",
					     .source = source,
					     .bind = true,
					     .attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
							 MOUNT_ATTR_NOEXEC,
				     });
	}
}
