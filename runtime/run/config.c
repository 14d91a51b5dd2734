/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes the part of a container's config.json that comes from the options of `caisson run
 * --image`. bundle_config() in images/oci adds the settings of the image to it.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "run/run.h"
#include "spec/spec.h"

#define ENV_FILE_MAX (4u << 20)
/* how many variables all files of --env-file may have together */
#define ENV_FILE_VARIABLES_MAX 4096
#define BUNDLE_VERSION "1.0.2"

static void put_strings(struct json_out *o, const char *key, const char *const *v, size_t n)
{
	if (!n)
		return;
	json_out_array(o, key);
	for (size_t i = 0; i < n; i++)
		json_out_str(o, NULL, v[i]);
	json_out_end_array(o);
}

static void put_mount(struct json_out *o, const struct run_mount *m)
{
	json_out_object(o, NULL);
	json_out_str(o, "destination", m->destination);
	json_out_str(o, "type", m->type);
	json_out_str(o, "source", m->source);
	put_strings(o, "options", m->options, m->noptions);
	json_out_end_object(o);
}

static bool has_group(const struct run *r, unsigned gid)
{
	unsigned inside, outside, count;
	int used;

	for (const char *p = r->maps.groups;
		p && sscanf(p, "%u %u %u%n", &inside, &outside, &count, &used) == 3; p += used)
		if (gid >= inside && gid - inside < count)
			return true;
	return !r->rootless;
}

/*
 * Writes the mounts that every container has. They come before the mounts that the user's options
 * ask for.
 */
static void put_usual_mounts(const struct run *r, struct json_out *o)
{
	/*
	 * The option gid=5 (the group that owns terminals) is left out if the container's user
	 * namespace has no group 5.
	 */
	const struct run_mount pts = {"/dev/pts", "devpts", "devpts",
		{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"},
		has_group(r, 5) ? 6 : 5};
	const struct run_mount usual[] = {
		{"/proc", "proc", "proc", {"nosuid", "noexec", "nodev"}, 3},
		{"/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}, 4},
		pts,
		{"/dev/shm", "tmpfs", "shm",
			{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}, 5},
		{"/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}, 3},
	};
	const struct run_mount sys = {
		"/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"}, 4};
	/*
	 * For an ordinary user's container in the host's network namespace, /sys of the host is
	 * bind-mounted, because only the owner of a network namespace may mount a new sysfs.
	 */
	const struct run_mount bound_sys = {
		"/sys", "none", "/sys", {"rbind", "nosuid", "noexec", "nodev", "ro"}, 5};
	const struct run_mount cgroup = {"/sys/fs/cgroup", "cgroup", "cgroup",
		{"nosuid", "noexec", "nodev", "relatime", "ro"}, 5};

	for (size_t i = 0; i < ARRAY_SIZE(usual); i++)
		put_mount(o, &usual[i]);
	put_mount(o, r->rootless && run_network_is(r->o, "host") ? &bound_sys : &sys);
	put_mount(o, &cgroup);
}

static int put_mounts(struct run *r, struct json_out *o)
{
	struct run_mounts all;
	int result = run_write_files(r);
	if (result >= 0)
		result = run_collect_mounts(r, &all);
	if (result < 0)
		return result;
	json_out_array(o, "mounts");
	put_usual_mounts(r, o);
	for (size_t i = 0; i < all.n; i++)
		put_mount(o, &all.v[i]);
	json_out_end_array(o);
	return 0;
}

static void put_namespace(struct json_out *o, const char *type, const char *path)
{
	json_out_object(o, NULL);
	json_out_str(o, "type", type);
	if (path)
		json_out_str(o, "path", path);
	json_out_end_object(o);
}

static void put_namespaces(struct run *r, struct json_out *o)
{
	static const char *const usual[] = {"pid", "ipc", "uts", "mount", "cgroup"};

	json_out_array(o, "namespaces");
	for (size_t i = 0; i < ARRAY_SIZE(usual); i++)
		put_namespace(o, usual[i], NULL);
	if (!run_network_is(r->o, "host"))
		put_namespace(o, "network", run_network_path(r->o));
	if (r->rootless)
		put_namespace(o, "user", NULL);
	json_out_end_array(o);
}

/* Writes the cgroup's path. With systemd's cgroups it has the form "SLICE:PREFIX:NAME". */
static int put_cgroup(struct run *r, struct json_out *o)
{
	const char *parent = r->o->cgroup_parent;

	if (!parent)
		return 0;
	bool slice = str_ends(parent, ".slice");
	const char *path = slice ? arena_printf(r->arena, "%s:caisson:%s", parent, r->name)
				 : arena_printf(r->arena, "%s%s/%s", *parent == '/' ? "" : "/",
					   parent, r->name);
	if (!path)
		return -ENOMEM;
	json_out_str(o, "cgroupsPath", path);
	return 0;
}

static int put_linux(struct run *r, struct json_out *o)
{
	json_out_object(o, "linux");
	if (r->rootless) {
		spec_write_id_map(o, "uidMappings", r->maps.users);
		spec_write_id_map(o, "gidMappings", r->maps.groups);
	}
	put_namespaces(r, o);
	int result = put_cgroup(r, o);
	if (result >= 0)
		result = run_put_limits(r, o);
	if (result >= 0)
		result = run_put_security(r, o);
	json_out_end_object(o);
	return result;
}

static int put_label(struct json_out *o, const char *text)
{
	char name[300];
	size_t len = strcspn(text, "=");

	if (len == 0 || len >= sizeof(name))
		return err_set(EINVAL, "--label %.200s: expected NAME=VALUE", text);
	memcpy(name, text, len);
	name[len] = '\0';
	if (bundle_is_reserved(name))
		return err_set(EINVAL,
			"--label %.200s: a label of this name may mean something to a runtime",
			text);
	json_out_str(o, name, text[len] ? text + len + 1 : "");
	return 0;
}

/* Returns whether a later --label sets the same name, so that the i-th one has no effect. */
static bool is_set_again(const struct option_list *l, size_t i)
{
	size_t len = strcspn(l->v[i], "=");

	for (size_t k = i + 1; k < l->n; k++)
		if (strcspn(l->v[k], "=") == len && strncmp(l->v[k], l->v[i], len) == 0)
			return true;
	return false;
}

static int put_annotations(struct run *r, struct json_out *o)
{
	int result = run_find_volume_disk(r);

	json_out_object(o, "annotations");
	json_out_str(o, "io.caisson.image", r->o->image);
	if (r->volume_disk)
		json_out_str(o, SPEC_IMAGE_USE, "disk");
	if (r->disk)
		json_out_str(o, SPEC_IMAGE_USE, SPEC_IMAGE_OVERLAY);
	if (r->stop_signal)
		json_out_str(o, "io.caisson.stop-signal", r->stop_signal);
	for (size_t i = 0; i < r->o->label.n && result >= 0; i++)
		if (!is_set_again(&r->o->label, i))
			result = put_label(o, r->o->label.v[i]);
	json_out_end_object(o);
	return result;
}

static int put_vm(struct run *r, struct json_out *o)
{
	const char *path = r->o->kernel;
	char real[PATH_MAX];

	const char *disk = r->disk ? r->disk : r->volume_disk;

	if (!path && !disk)
		return 0;
	if (path && !realpath(path, real))
		return err_sys("--kernel %s", path);
	json_out_object(o, "vm");
	if (path) {
		json_out_object(o, "kernel");
		json_out_str(o, "path", real);
		json_out_end_object(o);
	}
	if (disk) {
		json_out_object(o, "image");
		json_out_str(o, "path", disk);
		json_out_str(o, "format", r->disk ? "raw" : "qcow2");
		json_out_end_object(o);
	}
	json_out_end_object(o);
	return 0;
}

/*
 * Writes the members of config.json that the image's settings are added to: the program and the
 * annotations.
 */
static int put_base(struct run *r, struct json_out *o)
{
	json_out_object(o, NULL);
	json_out_str(o, "ociVersion", BUNDLE_VERSION);
	json_out_object(o, "process");
	int result = run_put_process_security(r, o);
	if (result >= 0)
		result = run_put_rlimits(r, o);
	json_out_end_object(o);
	json_out_object(o, "root");
	json_out_str(o, "path", "rootfs");
	json_out_end_object(o);
	if (result >= 0)
		result = put_annotations(r, o);
	json_out_end_object(o);
	return result;
}

int run_put_rest(struct run *r, struct json_out *o)
{
	json_out_str(o, "hostname", r->hostname);
	int result = put_mounts(r, o);
	if (result >= 0)
		result = put_linux(r, o);
	return result < 0 ? result : put_vm(r, o);
}

int run_base_config(struct run *r, struct json **ret)
{
	_cleanup_json_out_ struct json_out o = {0};
	const char *text;
	size_t len;
	int result = json_out_init(&o, false);

	if (result >= 0)
		result = put_base(r, &o);
	if (result >= 0)
		result = json_out_text(&o, &text, &len);
	if (result < 0)
		return result;
	const char *copy = arena_strndup(r->arena, text, len);
	return copy ? json_parse(r->arena, copy, len, "the container's config.json", ret) : -ENOMEM;
}

struct variables {
	const char **v;
	size_t n, max;
};

/*
 * Adds the variable that `text` describes: "NAME=VALUE", or "NAME" for a variable with the value
 * that it has in the caller's environment. If the caller has no such variable, none is added.
 */
static int add_variable(struct run *r, struct variables *all, const char *text)
{
	if (!strchr(text, '=')) {
		const char *value = getenv(text);
		if (!value)
			return 0;
		text = arena_printf(r->arena, "%s=%s", text, value);
		if (!text)
			return -ENOMEM;
	}
	if (*text == '=')
		return err_set(EINVAL, "-e %.200s: the variable has no name", text);
	if (all->n == all->max)
		return err_set(E2BIG, "--env-file: more than %d variables", ENV_FILE_VARIABLES_MAX);
	all->v[all->n++] = text;
	return 0;
}

/*
 * Reads a file of --env-file, which has one variable in each line. Empty lines and lines that begin
 * with # are skipped.
 */
static int add_env_file(struct run *r, struct variables *all, const char *path)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	int result = fd_read_file(AT_FDCWD, path, &text, ENV_FILE_MAX);
	char *save;

	if (result < 0)
		return err_ctx(result, "--env-file");
	if (memchr(strbuf_str(&text), '\0', text.len))
		return err_set(EINVAL, "--env-file %s: it holds a NUL character", path);
	char *copy = arena_strndup(r->arena, strbuf_str(&text), text.len);
	if (!copy)
		return -ENOMEM;
	result = 0;
	for (char *p = strtok_r(copy, "\r\n", &save); p && result >= 0;
		p = strtok_r(NULL, "\r\n", &save)) {
		p += strspn(p, " \t");
		if (*p && *p != '#')
			result = add_variable(r, all, p);
	}
	return result;
}

int run_environment(struct run *r, const char *const **ret)
{
	/* room for HOSTNAME, the variables of -e, and those of --env-file */
	const size_t max = 1 + r->o->env.n + (r->o->env_file.n ? ENV_FILE_VARIABLES_MAX : 0);
	struct variables all = {.v = arena_array(r->arena, max + 1, sizeof(*all.v)), .max = max};
	const char *host = arena_printf(r->arena, "HOSTNAME=%s", r->hostname);
	int result = all.v && host ? 0 : -ENOMEM;

	if (result >= 0)
		all.v[all.n++] = host;
	for (size_t i = 0; i < r->o->env_file.n && result >= 0; i++)
		result = add_env_file(r, &all, r->o->env_file.v[i]);
	for (size_t i = 0; i < r->o->env.n && result >= 0; i++)
		result = add_variable(r, &all, r->o->env.v[i]);
	*ret = all.v;
	return result;
}
