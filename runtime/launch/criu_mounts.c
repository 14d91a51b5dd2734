/* SPDX-License-Identifier: Apache-2.0 */
#include "launch/criu_mounts.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/path.h"
#include "launch/criu_common.h"

#define PATH_TEXT 4096

/* A line of /proc/PID/mountinfo. */
struct mount_line {
	int id, parent;
	const char *device; /* "MAJOR:MINOR" */
	char *point;        /* the mount point */
	bool external;      /* the mount came from the host */
};

struct mount_table {
	struct mount_line *v;
	size_t n;
};

static int parse_line(char *line, struct mount_line *ret)
{
	char *rest = NULL, *words[5];

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		words[i] = strtok_r(i ? NULL : line, " ", &rest);
		if (!words[i])
			return err_set(EPROTO, "mountinfo has a line with %zu words", i);
	}
	str_unescape(words[4]);
	*ret = (struct mount_line){.id = atoi(words[0]),
		.parent = atoi(words[1]),
		.device = words[2],
		.point = words[4]};
	return 0;
}

static int read_table(struct arena *a, const char *pid, struct mount_table *ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	char path[64], *rest = NULL;
	size_t lines = 1;

	snprintf(path, sizeof(path), "/proc/%s/mountinfo", pid);
	int r = fd_read_file(AT_FDCWD, path, &text, CRIU_MOUNTINFO_MAX);
	char *copy = r < 0 ? NULL : arena_strndup(a, strbuf_str(&text), text.len);
	if (!copy)
		return r < 0 ? r : -ENOMEM;
	for (const char *p = copy; *p; p++)
		lines += *p == '\n';
	ret->n = 0;
	ret->v = arena_array(a, lines, sizeof(*ret->v));
	if (!ret->v)
		return -ENOMEM;
	for (char *l = strtok_r(copy, "\n", &rest); l && r >= 0; l = strtok_r(NULL, "\n", &rest))
		r = parse_line(l, &ret->v[ret->n++]);
	return r;
}

/*
 * Returns the rest of path after dir if path lies beneath dir, or is dir itself (the rest is ""
 * then), else NULL.
 */
static const char *beneath(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	while (len > 0 && dir[len - 1] == '/')
		len--;
	if (strncmp(path, dir, len) != 0 || (path[len] && path[len] != '/'))
		return NULL;
	return path + len;
}

/* --- the checkpoint --- */

/*
 * Returns where the mount at `destination` is in the container, in which symbolic links may lead
 * elsewhere.
 */
static const char *resolve(struct arena *a, int root, const char *destination)
{
	char link[64], path[PATH_TEXT];

	_cleanup_fd_ int fd = path_open(root, destination, O_PATH);
	if (fd < 0) {
		err_clear();
		return destination;
	}
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t len = readlink(link, path, sizeof(path) - 1);
	return len > 0 ? arena_strndup(a, path, (size_t)len) : destination;
}

static const struct mount_line *find_parent(const struct mount_table *t, const struct mount_line *m)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->v[i].id == m->parent && &t->v[i] != m)
			return &t->v[i];
	return NULL;
}

static bool has_device(const struct mount_table *t, const char *device)
{
	for (size_t i = 0; i < t->n; i++)
		if (streq(t->v[i].device, device))
			return true;
	return false;
}

/*
 * Returns the mount of config.json that is at the path `at`, or else the deepest one above this
 * path. If several mounts have the same mount point, returns the last one. points[i] is the mount
 * point of s->mounts[i]. Sets *ret_rest to the rest of `at` behind the mount point.
 */
static const struct spec_mount *find_spec(
	const struct spec *s, const char *const *points, const char *at, const char **ret_rest)
{
	const struct spec_mount *found = NULL;
	size_t longest = 0;

	for (size_t i = 0; i < s->nmounts; i++) {
		const char *rest = s->mounts[i].remount ? NULL : beneath(at, points[i]);
		if (!rest || strlen(points[i]) < longest)
			continue;
		found = &s->mounts[i];
		*ret_rest = rest;
		longest = strlen(points[i]);
	}
	return found;
}

/*
 * Says whether the mount came from the host. config.json says so of its own mounts. Any other mount
 * came from the host if its device is mounted there, unless it shows a part of the mount on which
 * it lies, as a read-only path of /proc does.
 */
static bool is_external(const struct mount_table *inside, const struct mount_table *host,
	const struct mount_line *m, const struct spec_mount *at)
{
	if (at)
		return at->bind;
	const struct mount_line *parent = find_parent(inside, m);
	if (parent && streq(parent->device, m->device))
		return false;
	return has_device(host, m->device);
}

static int name_mount(struct arena *a, const struct mount_line *m, const struct spec_mount *s,
	const char *rest, struct criu_message *opts)
{
	const char *name = s && s->bind ? arena_printf(a, "%s%s", s->destination, rest) : m->point;

	if (!name)
		return -ENOMEM;
	criu_put_pair(opts, CRIU_EXT_MNT, m->point, name);
	return 0;
}

int criu_name_mounts(struct container *c, const struct spec *s, struct criu_message *opts)
{
	struct mount_table inside, host;
	const char **points = arena_array(&c->arena, s->nmounts + 1, sizeof(*points));
	char pid[16], path[64];

	snprintf(pid, sizeof(pid), "%d", c->pid);
	snprintf(path, sizeof(path), "/proc/%d/root", c->pid);
	_cleanup_fd_ int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return err_sys("open the root of process %d", c->pid);
	int r = points ? read_table(&c->arena, pid, &inside) : -ENOMEM;
	if (r >= 0)
		r = read_table(&c->arena, "self", &host);
	for (size_t i = 0; i < s->nmounts && r >= 0; i++) {
		points[i] = resolve(&c->arena, root, s->mounts[i].destination);
		r = points[i] ? 0 : -ENOMEM;
	}
	for (size_t i = 0; i < inside.n && r >= 0; i++) {
		const struct mount_line *m = &inside.v[i];
		const char *rest = "";
		const struct spec_mount *at = find_spec(s, points, m->point, &rest);
		if (!streq(m->point, "/") && is_external(&inside, &host, m, *rest ? NULL : at))
			r = name_mount(&c->arena, m, at, rest, opts);
	}
	return r;
}

/* --- the restore --- */

static void put_mount(struct criu_message *opts, const char *name, const char *source)
{
	criu_put_pair(opts, CRIU_EXT_MNT, name, source);
}

/*
 * Adds the mounts of the host beneath the directory `source`, which is at `destination` in the
 * container.
 */
static int put_mounts_beneath(struct arena *a, const struct mount_table *host, const char *source,
	const char *destination, struct criu_message *opts)
{
	_cleanup_free_ char *real = realpath(source, NULL);

	for (size_t i = 0; real && i < host->n; i++) {
		const char *rest = beneath(host->v[i].point, real);
		if (!rest || !*rest)
			continue;
		const char *name = arena_printf(a, "%s%s", destination, rest);
		if (!name)
			return -ENOMEM;
		put_mount(opts, name, host->v[i].point);
	}
	return 0;
}

/* Returns the absolute path of the source of a mount, which may be relative to the bundle. */
static const char *source_path(const struct launch *l, const struct spec_mount *m)
{
	return m->source[0] == '/' ? m->source
				   : arena_printf(&l->c->arena, "%s/%s", l->c->bundle, m->source);
}

static int put_source(const struct launch *l, const struct mount_table *host,
	const struct spec_mount *m, struct criu_message *opts)
{
	if (!m->source)
		return 0;
	const char *source = source_path(l, m);
	if (!source)
		return -ENOMEM;
	put_mount(opts, m->destination, source);
	return m->rbind ? put_mounts_beneath(&l->c->arena, host, source, m->destination, opts) : 0;
}

int criu_find_mounts(const struct launch *l, struct criu_message *opts)
{
	struct mount_table host;

	int r = read_table(&l->c->arena, "self", &host);
	if (r >= 0)
		r = put_mounts_beneath(&l->c->arena, &host, l->c->rootfs, "", opts);
	for (size_t i = 0; i < l->plan.n && r >= 0; i++) {
		const struct step *s = &l->plan.steps[i];
		if (s->kind == STEP_MOUNT && s->mount.mount->bind && !s->mount.mount->remount)
			r = put_source(l, &host, s->mount.mount, opts);
		else if (s->kind == STEP_DEVICE && s->device.bind)
			put_mount(opts, s->device.device->path, s->device.device->path);
		else if (s->kind == STEP_MASK_PATH)
			put_mount(opts, s->text, "/dev/null");
	}
	return r;
}

/* Says whether an earlier mount of the plan covers the path, so that it is not in the root. */
static bool is_covered(const struct plan *p, size_t index)
{
	const char *at = p->steps[index].mount.mount->destination;

	for (size_t i = 0; i < index; i++)
		if (p->steps[i].kind == STEP_MOUNT &&
			beneath(at, p->steps[i].mount.mount->destination))
			return true;
	return false;
}

static int make_mount_point(const struct launch *l, int root, const struct spec_mount *m)
{
	struct stat st = {.st_mode = S_IFDIR};

	if (m->bind && m->source) {
		const char *source = source_path(l, m);
		if (!source)
			return -ENOMEM;
		if (stat(source, &st) < 0)
			return err_sys("source %s", m->source);
	}
	_cleanup_fd_ int fd = S_ISDIR(st.st_mode) ? path_mkdirs(root, m->destination)
						  : path_mkfile(root, m->destination);
	return fd < 0 ? err_ctx(fd, "mount point %s", m->destination) : 0;
}

int criu_make_mount_points(const struct launch *l, int root)
{
	int r = 0;

	for (size_t i = 0; i < l->plan.n && r >= 0; i++) {
		const struct step *s = &l->plan.steps[i];
		if (s->kind != STEP_MOUNT || s->mount.mount->remount || is_covered(&l->plan, i))
			continue;
		r = make_mount_point(l, root, s->mount.mount);
		if (r < 0)
			return s->field ? err_ctx(r, "%s", s->field) : r;
	}
	return r;
}
