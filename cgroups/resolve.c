/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decides which cgroup a container gets, writes the decision to state.json, and reads it from
 * there.
 *
 * cgroupfs: an absolute linux.cgroupsPath is beneath the mount, as the specification says. A
 * relative path, and the default "caisson-ID", are beneath the mount's root for a privileged
 * caller, as with crun. For other callers they are beside the caller's own cgroup, as with runc,
 * because an ordinary user can have been given no other place. The default has a prefix, so that a
 * container named "system.slice" does not get the cgroup of that name.
 */
#include <stdio.h>

#include "base/fd.h"
#include "cgroups/cg_internal.h"

static int choose_path(struct arena *a, const struct cg_options *opt, const char **ret)
{
	const char *wanted = opt->cgroups_path, *own;

	if (!wanted || !*wanted) {
		int r = cg_default_name(a, opt->id, &wanted);
		if (r < 0)
			return r;
	}
	if (opt->rootless && *wanted != '/') {
		int r = cg_of_process(a, 0, &own);
		if (r < 0)
			return r;
		const char *slash = strrchr(own, '/');
		wanted = arena_printf(a, "%.*s/%s", (int)(slash - own), own, wanted);
		if (!wanted)
			return -ENOMEM;
	}
	int r = cg_clean_path(a, wanted, ret);
	if (r < 0)
		return err_ctx(r, "linux.cgroupsPath");
	if (streq(*ret, "/"))
		return err_set(EINVAL, "linux.cgroupsPath: the root cgroup can't be a container's");
	return 0;
}

/*
 * Finds what an unprivileged caller is not allowed to write to: either the longest existing part of
 * path, in which the cgroup would have to be made, or cgroup.procs of the cgroup that path and the
 * caller's own cgroup have in common, because moving a process needs write access to that file.
 */
static int find_refused(
	struct arena *a, const char *mount, const char *path, const char **ret_refused)
{
	const char *own;
	size_t shared = 0;
	char *full = arena_printf(a, "%s%s", mount, path);
	int r = cg_of_process(a, 0, &own);

	*ret_refused = NULL;
	if (r < 0)
		return r;
	if (!full)
		return -ENOMEM;
	for (size_t i = 0; path[i] == own[i] || !path[i] || !own[i]; i++) {
		if ((!path[i] || path[i] == '/') && (!own[i] || own[i] == '/'))
			shared = i;
		if (!path[i] || !own[i])
			break;
	}
	const char *procs = arena_printf(a, "%s%.*s/cgroup.procs", mount, (int)shared, path);
	if (!procs)
		return -ENOMEM;
	char *slash = strrchr(full, '/');
	while (slash > full + strlen(mount)) {
		*slash = '\0';
		if (faccessat(AT_FDCWD, full, F_OK, AT_EACCESS) == 0)
			break;
		slash = strrchr(full, '/');
	}
	if (slash == full + strlen(mount))
		*slash = '\0';
	if (faccessat(AT_FDCWD, full, W_OK | X_OK, AT_EACCESS) < 0)
		*ret_refused = full;
	else if (faccessat(AT_FDCWD, procs, W_OK, AT_EACCESS) < 0)
		*ret_refused = procs;
	return 0;
}

/*
 * Sets cg->kept. Only a path of several components has parents that caisson may have to make, so
 * for any other path kept is the whole length.
 */
static int find_kept(struct cgroup *cg)
{
	char prefix[PATH_MAX];

	cg->kept = (size_t)(strrchr(cg->path, '/') - cg->path);
	if (!cg->kept)
		return 0;
	_cleanup_fd_ int mount = cg_open_mount(cg);
	if (mount < 0)
		return mount;
	snprintf(prefix, sizeof(prefix), "%s", cg->path);
	do {
		prefix[cg->kept] = '\0';
		if (faccessat(mount, prefix + 1, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			return 0;
		cg->kept = (size_t)(strrchr(prefix, '/') - prefix);
	} while (cg->kept);
	return 0;
}

int cg_resolve(struct arena *a, const struct cg_options *opt, struct cgroup *ret)
{
	*ret = (struct cgroup){.manager = opt->manager, .lenient = opt->lenient};
	if (opt->manager == CG_DISABLED)
		return 0;
	int r = cg_find_mount(a, &ret->mount);
	if (r < 0 && opt->rootless && opt->manager == CG_CGROUPFS) {
		ret->refused = arena_strdup(a, err_msg());
		err_clear();
		return ret->refused ? 0 : -ENOMEM;
	}
	if (r < 0)
		return r;
	if (opt->manager == CG_SYSTEMD) {
		ret->user_instance = opt->rootless || geteuid() != 0;
		return cg_scope_names(a, opt, ret->user_instance, ret);
	}
	r = choose_path(a, opt, &ret->path);
	if (r >= 0)
		r = find_kept(ret);
	if (r < 0 || !opt->rootless)
		return r;
	const char *refused;
	r = find_refused(a, ret->mount, ret->path, &refused);
	if (r < 0 || !refused)
		return r;
	ret->refused = arena_printf(
		a, "cgroup %s is not possible: no write access to %s", ret->path, refused);
	ret->path = NULL;
	return ret->refused ? 0 : -ENOMEM;
}

int cg_child(struct arena *a, const struct cgroup *cg, const char *sub, struct cgroup *ret)
{
	const char *clean;

	if (!cg->path)
		return err_set(EINVAL, "the container has no cgroup, so none beneath it");
	int r = cg_clean_path(a, sub, &clean);
	if (r < 0)
		return r;
	*ret = *cg;
	if (streq(clean, "/"))
		return 0;
	ret->path = arena_printf(a, "%s%s", cg->path, clean);
	if (!ret->path)
		return -ENOMEM;
	_cleanup_fd_ int fd = cg_open(ret);
	return fd < 0 ? fd : 0;
}

/*
 * Returns whether the cgroup of the descriptor `dir` can take no process: cgroup v2 refuses
 * processes (-EBUSY) if the cgroup enables controllers for cgroups beneath it. If the kernel does
 * not say, this is false, and the call that enters the cgroup reports the error.
 */
static bool is_busy(int dir)
{
	char list[CG_LIST_MAX];

	if (cg_read(dir, "cgroup.subtree_control", list, sizeof(list)) < 0) {
		err_clear();
		return false;
	}
	return list[strspn(list, " \n")] != '\0';
}

int cg_at_process(struct arena *a, const struct cgroup *cg, pid_t pid, struct cgroup *ret)
{
	const char *path;

	*ret = *cg;
	if (!cg->path)
		return 0;
	int r = cg_of_process(a, pid, &path);
	if (r < 0)
		return r;
	size_t len = strlen(cg->path);
	if (strncmp(path, cg->path, len) != 0 || (path[len] && path[len] != '/'))
		return err_set(EINVAL, "process %d is in cgroup %s, not in %s or beneath it", pid,
			path, cg->path);
	ret->path = path;
	return 0;
}

int cg_open_for_exec(struct arena *a, struct cgroup *cg, pid_t pid)
{
	struct cgroup other;
	_cleanup_fd_ int dir = cg_open(cg);

	if (dir < 0 || !is_busy(dir))
		return take_fd(&dir);
	if (cg_at_process(a, cg, pid, &other) < 0) {
		err_clear();
		return take_fd(&dir);
	}
	*cg = other;
	return cg_open(cg);
}

static const char *const manager_names[] = {
	[CG_CGROUPFS] = "cgroupfs", [CG_SYSTEMD] = "systemd", [CG_DISABLED] = "disabled"};

static void put_string(struct json_out *o, const char *key, const char *value)
{
	if (value)
		json_out_str(o, key, value);
}

void cg_to_state(const struct cgroup *cg, struct json_out *o)
{
	json_out_str(o, "manager", manager_names[cg->manager]);
	put_string(o, "mount", cg->mount);
	put_string(o, "path", cg->path);
	put_string(o, "scope", cg->scope);
	put_string(o, "slice", cg->slice);
	put_string(o, "refused", cg->refused);
	json_out_u64(o, "kept", cg->kept);
	json_out_bool(o, "userInstance", cg->user_instance);
	json_out_bool(o, "lenient", cg->lenient);
}

static int copy_string(struct arena *a, const struct json *state, const char *key, const char **ret)
{
	const char *v = json_get_str(state, key);

	*ret = v ? arena_strdup(a, v) : NULL;
	return v && !*ret ? -ENOMEM : 0;
}

int cg_from_state(struct arena *a, const struct json *state, struct cgroup *ret)
{
	const char *name = json_get_str(state, "manager"), *path;
	size_t manager = 0;

	*ret = (struct cgroup){0};
	while (manager < ARRAY_SIZE(manager_names) &&
		(!name || !streq(name, manager_names[manager])))
		manager++;
	if (manager == ARRAY_SIZE(manager_names))
		return err_set(EINVAL, "state: cgroup manager: expected %s, %s or %s, found \"%s\"",
			manager_names[0], manager_names[1], manager_names[2],
			name ? name : "nothing");
	ret->manager = (enum cg_manager)manager;
	ret->user_instance = json_get_true(state, "userInstance");
	ret->lenient = json_get_true(state, "lenient");
	int r = copy_string(a, state, "mount", &ret->mount);
	if (r == 0)
		r = copy_string(a, state, "path", &path);
	if (r == 0)
		r = copy_string(a, state, "scope", &ret->scope);
	if (r == 0)
		r = copy_string(a, state, "slice", &ret->slice);
	if (r == 0)
		r = copy_string(a, state, "refused", &ret->refused);
	if (r == 0 && path)
		r = cg_clean_path(a, path, &ret->path);
	if (r == 0 && ret->path && (!ret->mount || *ret->mount != '/' || streq(ret->path, "/")))
		return err_set(EINVAL,
			"state: cgroup: found path \"%s\" and mount \"%s\", expected a path other "
			"than \"/\" and an absolute mount",
			ret->path, ret->mount ? ret->mount : "nothing");
	/*
	 * If the state has no valid number, `kept` covers the whole path, so that no parent is ever
	 * removed.
	 */
	uint64_t kept;
	if (r == 0 && ret->path) {
		ret->kept = strlen(ret->path);
		if (json_get_u64(state, "kept", &kept) == 0 && kept < ret->kept)
			ret->kept = kept;
	}
	return r;
}
