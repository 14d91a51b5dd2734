/* SPDX-License-Identifier: Apache-2.0 */
#include "launch/prepare.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/overlay.h"
#include "base/sys.h"
#include "launch/join.h"
#include "launch/notify.h"

static int absolute_path(struct arena *a, const char *path, const char **ret)
{
	_cleanup_free_ char *real = realpath(path, NULL);

	if (!real)
		return -errno;
	*ret = arena_strdup(a, real);
	return *ret ? 0 : -ENOMEM;
}

static int check_rootfs(const struct bundle *b)
{
	struct stat st;

	/*
	 * No error message of this function says "no such file or directory", because engines take
	 * these words to mean that the container's program is missing.
	 */
	if (stat(b->rootfs, &st) < 0)
		return err_set(errno == ENOENT ? ENXIO : errno,
			"root.path: the root file system %s %s%s", b->rootfs,
			errno == ENOENT ? "does not exist" : "cannot be used: ",
			errno == ENOENT ? "" : strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return err_set(ENOTDIR, "root.path: %s is not a directory", b->rootfs);
	return 0;
}

/*
 * Decides whether the container runs in namespaces or in a microVM: an option beats the annotation,
 * which beats the vm section of config.json. An unknown value is an error, because otherwise a user
 * could believe to be in a microVM and be in a container.
 */
static int decide_isolation(const struct spec *s, const char *option, enum plan_isolation *ret)
{
	const char *annotation = spec_annotation(s, "io.caisson.isolation");
	const char *wanted = option ? option : annotation ? annotation : s->vm ? "vm" : "ns";
	const char *from = option       ? "--isolation"
			   : annotation ? "annotation io.caisson.isolation"
					: "the vm section";

	*ret = streq(wanted, "vm") ? PLAN_VM : PLAN_NS;
	if (!streq(wanted, "ns") && !streq(wanted, "vm"))
		return err_set(EINVAL, "%s: \"%s\": expected ns or vm", from, wanted);
	return 0;
}

/*
 * Opens config.json. A relative --config is first looked for in the working directory, as crun
 * does, and then in the bundle.
 */
static int open_config(int dir, const char *bundle, const char *option)
{
	const int flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	const char *config = option ? option : "config.json";
	int fd = option ? open(option, flags) : -EBADF;

	if (fd < 0 && (!option || errno == ENOENT))
		fd = openat(dir, config, flags);
	if (fd >= 0)
		return fd;
	if (errno != ENOENT)
		return err_sys("open %s in the bundle %s", config, bundle);
	return err_set(ENXIO,
		"JSON specification file %s not found: the bundle %s has none: `caisson spec` "
		"writes one",
		config, bundle);
}

int bundle_load(struct arena *a, const struct launch_options *o, struct bundle *ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	const char *config = o->config ? o->config : "config.json";

	int r = absolute_path(a, o->bundle ? o->bundle : ".", &ret->path);
	if (r < 0)
		return err_set(r == -ENOENT ? ENXIO : -r, "--bundle %s: %s",
			o->bundle ? o->bundle : ".",
			r == -ENOENT ? "there is no such directory" : strerror(-r));
	_cleanup_fd_ int dir = open(ret->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_sys("--bundle %s", ret->path);
	_cleanup_fd_ int fd = open_config(dir, ret->path, o->config);
	if (fd < 0)
		return fd;
	r = fd_read_all(fd, &text, SPEC_MAX_SIZE, config);
	if (r >= 0)
		r = spec_parse(a, strbuf_str(&text), text.len, config, &ret->spec);
	if (r >= 0)
		r = decide_isolation(ret->spec, o->isolation, &ret->isolation);
	if (r < 0)
		return r;
	ret->text = arena_strndup(a, strbuf_str(&text), text.len);
	ret->len = text.len;
	if (!ret->text)
		return -ENOMEM;
	const char *root = ret->spec->root_path;
	ret->rootfs = root[0] == '/' ? root : arena_printf(a, "%s/%s", ret->path, root);
	if (!ret->rootfs)
		return -ENOMEM;
	r = check_rootfs(ret);
	return r < 0 ? r : join_decide(a, o, ret);
}

/* Makes the absolute path of the container's state directory, which may not exist yet. */
static int state_path(struct arena *a, const struct launch_options *o, const char **ret)
{
	const char *root;
	int r = container_root(a, o->root, &root);

	if (r < 0)
		return r;
	_cleanup_free_ char *cwd = root[0] == '/' ? NULL : getcwd(NULL, 0);
	*ret = arena_printf(
		a, "%s%s%s/%s", cwd ? cwd : "", cwd ? "/" : "", root, o->id ? o->id : "ID");
	return *ret ? 0 : -ENOMEM;
}

/*
 * Chooses the directory in the state directory for the container's NOTIFY_SOCKET. If config.json
 * already mounts something at that place in the container, *ret is NULL, because then another
 * program, such as podman, relays the reports.
 */
static int choose_notify_dir(
	struct arena *a, const struct bundle *b, const struct launch_options *o, const char **ret)
{
	const char *root;

	*ret = NULL;
	if (!notify_is_wanted() || b->isolation != PLAN_NS)
		return 0;
	for (size_t i = 0; i < b->spec->nmounts; i++) {
		const char *at = b->spec->mounts[i].destination;
		if (str_starts(at, PLAN_NOTIFY_DIR) && strchr("/", at[strlen(PLAN_NOTIFY_DIR)]))
			return 0;
	}
	int r = state_path(a, o, &root);
	if (r < 0)
		return r;
	*ret = arena_printf(a, "%s/notify", root);
	return *ret ? 0 : -ENOMEM;
}

/*
 * Splits the value "DIR:NAME[:NAME...]" of --root-layers into the directory DIR and the names of
 * the layers in it.
 */
static int split_layers(struct arena *a, const char *text, struct plan_env *ret)
{
	const char *colon = text ? strchr(text, ':') : NULL;
	size_t names = 1;

	if (!text)
		return 0;
	if (text[0] != '/' || !colon || !colon[1])
		return err_set(EINVAL,
			"--root-layers %.300s: expected an absolute directory and names in it: "
			"DIR:NAME[:NAME...]",
			text);
	ret->layers = arena_strndup(a, text, (size_t)(colon - text));
	ret->lower = colon + 1;
	for (const char *p = ret->lower; (p = strchr(p, ':')); p++)
		names++;
	if (names > OVERLAY_LOWER_MAX || strchr(ret->lower, '/') || strpbrk(ret->lower, "\\,"))
		return err_set(EINVAL,
			"--root-layers: expected at most %u names, without slash, comma and "
			"backslash",
			OVERLAY_LOWER_MAX);
	return ret->layers ? 0 : -ENOMEM;
}

int bundle_env(struct arena *a, const struct bundle *b, const struct launch_options *o,
	const struct cgroup *cg, struct plan_env *ret)
{
	const char *notify;
	const char *names = NULL;
	int r = choose_notify_dir(a, b, o, &notify);

	if (r >= 0 && b->networks.n)
		r = state_path(a, o, &names);

	*ret = (struct plan_env){
		.isolation = b->isolation,
		.bundle = b->path,
		.uid = geteuid(),
		.gid = getegid(),
		.rootless = geteuid() != 0,
		/*
		 * in_userns is false for a microVM, because the guest's kernel lets the container's
		 * root make device nodes.
		 */
		.in_userns = b->isolation == PLAN_NS && container_in_userns(),
		.no_pivot = o->no_pivot,
		.tree_namespace =
			b->isolation == PLAN_NS && !o->restore && sys_has_tree_namespace(),
		.no_new_keyring = o->no_new_keyring,
		.cgroup = cg->manager != CG_DISABLED,
		.cgroup_attach = cg->manager == CG_SYSTEMD && !cg_clone_into(cg),
		.notify_dir = notify,
		.networks = b->networks,
		.names_dir = names,
	};
	return r < 0 ? r : split_layers(a, o->root_layers, ret);
}

int bundle_cgroup_options(struct arena *a, const struct bundle *b, const struct launch_options *o,
	struct cg_options *ret)
{
	static const char prefix[] = "org.systemd.property.";
	const struct spec_pairs *ann = &b->spec->annotations;
	const char *lenient = spec_annotation(b->spec, "io.caisson.cgroup.lenient");

	*ret = (struct cg_options){
		.manager = o->cgroup_manager,
		.id = o->id,
		.cgroups_path = b->spec->cgroups_path,
		.rootless = container_for_user() || o->rootless_cgroup,
		.lenient = lenient && streq(lenient, "true"),
	};
	struct cg_unified *props = arena_array(a, ann->n + 1, sizeof(*props));
	if (!props)
		return -ENOMEM;
	for (size_t i = 0; i < ann->n; i++)
		if (str_starts(ann->v[i].key, prefix))
			props[ret->nsystemd_properties++] = (struct cg_unified){
				.file = ann->v[i].key + strlen(prefix), .value = ann->v[i].value};
	ret->systemd_properties = props;
	return 0;
}

int launch_plan(struct arena *a, const struct launch_options *o, struct plan *ret)
{
	struct bundle b = {0};
	struct cg_options cgo;
	struct cgroup cg = {0};
	struct plan_env env;

	int r = bundle_load(a, o, &b);
	if (r >= 0)
		r = bundle_cgroup_options(a, &b, o, &cgo);
	if (r >= 0)
		r = cg_resolve(a, &cgo, &cg);
	if (r >= 0)
		r = bundle_env(a, &b, o, &cg, &env);
	if (r < 0)
		return r;
	/*
	 * If the bundle has no user namespace, the plan is made as for root, because only root can
	 * run such a bundle in namespaces, even if it is an ordinary user who asks for the plan.
	 */
	env.rootless &= b.spec->ns[SPEC_NS_USER].set || b.isolation == PLAN_VM;
	return plan_build(a, b.spec, &env, ret);
}
