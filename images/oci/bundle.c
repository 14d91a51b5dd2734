/* SPDX-License-Identifier: Apache-2.0 */
#include "images/oci/bundle.h"

#include <stdio.h>

#include "base/path.h"
#include "images/oci/user.h"

#define ANNOTATION "org.opencontainers.image."
#define ENV_MAX 8192
/*
 * The ociVersion of config.json. A higher version is not needed, because the bundle uses nothing
 * newer, and crun of Debian 12 refuses later versions.
 */
#define BUNDLE_VERSION "1.0.2"
static const char default_path[] =
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/*
 * Capabilities of the container's program if the caller says nothing else: the same list as
 * docker's.
 */
const char *const bundle_capabilities[] = {"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE",
	"CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW",
	"CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT", NULL};

bool bundle_is_reserved(const char *label)
{
	static const char *const prefixes[] = {"io.caisson.", "run.oci.", "org.systemd.property.",
		"org.criu.", "krun.", "module.wasm.", "io.kubernetes.", "io.katacontainers.",
		"io.containerd.", "containerd.io/", "io.containers.", "io.podman.", "io.cri-o.",
		"io.crio.", "nerdctl/", "cdi.", "dev.gvisor.", "com.docker.", "com.nvidia.",
		"com.github.containers.", "org.opencontainers.runc."};

	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (strncasecmp(label, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	/*
	 * A label without a dot or a slash is reserved, because it may be an option of some
	 * runtime, such as "isolation".
	 */
	return !strpbrk(label, "./");
}

static void put_args(
	struct json_out *o, const struct image_config *c, const struct bundle_options *b)
{
	json_out_array(o, "args");
	if (b->entrypoint && *b->entrypoint)
		json_out_str(o, NULL, b->entrypoint);
	for (size_t i = 0; !b->entrypoint && i < c->nentrypoint; i++)
		json_out_str(o, NULL, c->entrypoint[i]);
	for (size_t i = 0; b->args && b->args[i]; i++)
		json_out_str(o, NULL, b->args[i]);
	/* If the caller sets another entrypoint, the image's Cmd is not used, as in docker. */
	for (size_t i = 0; !b->args && !b->entrypoint && i < c->ncmd; i++)
		json_out_str(o, NULL, c->cmd[i]);
	json_out_end_array(o);
}

static int check_args(const struct image_config *c, const struct bundle_options *b)
{
	bool own = (b->entrypoint && *b->entrypoint) || (b->args && b->args[0]);

	if (own || (!b->entrypoint && c->nentrypoint + c->ncmd > 0))
		return 0;
	return err_set(EINVAL, "the image names no program to run (neither Entrypoint nor Cmd): "
			       "give one behind --");
}

/*
 * Returns whether the list `env`, from place i on, sets the variable that `entry` ("NAME=VALUE")
 * sets.
 */
static bool set_later(const char *const *env, size_t n, size_t i, const char *entry)
{
	size_t len = strcspn(entry, "=") + 1;

	for (; i < n; i++)
		if (strncmp(env[i], entry, len) == 0)
			return true;
	return false;
}

static int put_env(struct json_out *o, const struct image_config *c, const struct bundle_options *b)
{
	size_t nown = 0;

	while (b->env && b->env[nown])
		nown++;
	if (c->nenv + nown > ENV_MAX)
		return err_set(E2BIG, "more than %d environment variables", ENV_MAX);
	const char *const *image = (const char *const *)c->env;
	json_out_array(o, "env");
	if (!set_later(image, c->nenv, 0, "PATH=") && !set_later(b->env, nown, 0, "PATH="))
		json_out_str(o, NULL, default_path);
	if (b->terminal && !set_later(image, c->nenv, 0, "TERM=") &&
		!set_later(b->env, nown, 0, "TERM="))
		json_out_str(o, NULL, "TERM=xterm");
	for (size_t i = 0; i < c->nenv; i++)
		if (!set_later(image, c->nenv, i + 1, image[i]) &&
			!set_later(b->env, nown, 0, image[i]))
			json_out_str(o, NULL, image[i]);
	for (size_t i = 0; i < nown; i++)
		if (!set_later(b->env, nown, i + 1, b->env[i]))
			json_out_str(o, NULL, b->env[i]);
	json_out_end_array(o);
	return 0;
}

static void put_user(struct json_out *o, const struct image_user *u)
{
	json_out_object(o, "user");
	json_out_u64(o, "uid", u->uid);
	json_out_u64(o, "gid", u->gid);
	if (u->ngroups) {
		json_out_array(o, "additionalGids");
		for (size_t i = 0; i < u->ngroups; i++)
			json_out_u64(o, NULL, u->groups[i]);
		json_out_end_array(o);
	}
	json_out_end_object(o);
}

static void put_capabilities(struct json_out *o, const struct bundle_options *b, bool root)
{
	const char *const *list = b->capabilities ? b->capabilities : bundle_capabilities;
	static const char *const sets[] = {"bounding", "permitted", "effective"};

	json_out_object(o, "capabilities");
	for (size_t s = 0; s < ARRAY_SIZE(sets); s++) {
		json_out_array(o, sets[s]);
		/*
		 * Only the bounding set has capabilities if the program does not start as root, so
		 * that set-user-ID programs may still gain these capabilities.
		 */
		for (size_t i = 0; (root || s == 0) && list[i]; i++)
			json_out_str(o, NULL, list[i]);
		json_out_end_array(o);
	}
	json_out_end_object(o);
}

/*
 * Makes the working directory inside the container's root, and sets `ret` to the directory's
 * absolute path. If root is -EBADF, makes no directory.
 */
static int make_cwd(int root, const char *cwd, char *ret, size_t size)
{
	int n = snprintf(ret, size, "%s%s", *cwd == '/' ? "" : "/", cwd);

	if (n >= (int)size)
		return err_set(
			ENAMETOOLONG, "the image's working directory has a name of %d bytes", n);
	if (root < 0)
		return 0;
	_cleanup_fd_ int fd = path_mkdirs(root, ret);
	return fd < 0 ? err_ctx(fd, "the image's working directory") : 0;
}

static int put_process(
	struct json_out *o, const struct image *img, int root, const struct bundle_options *b)
{
	const struct image_config *c = &img->config;
	const struct json *base = json_get(b->base, "process");
	const char *wanted = b->working_dir ? b->working_dir : c->working_dir;
	struct image_user user;
	char cwd[4096];

	int r = check_args(c, b);
	if (r >= 0 && b->ids)
		user = *b->ids;
	else if (r >= 0)
		r = image_user_find(root, b->user ? b->user : c->user, &user);
	if (r >= 0)
		r = make_cwd(b->keep_root ? -EBADF : root, wanted && *wanted ? wanted : "/", cwd,
			sizeof(cwd));
	if (r < 0)
		return r;
	json_out_object(o, "process");
	json_out_bool(o, "terminal", b->terminal);
	put_user(o, &user);
	put_args(o, c, b);
	r = put_env(o, c, b);
	json_out_str(o, "cwd", cwd);
	put_capabilities(o, b, user.uid == 0);
	for (const struct json *n = base ? base->first : NULL; n; n = n->next) {
		static const char *const ours[] = {"terminal", "user", "args", "env", "cwd",
			"capabilities", "noNewPrivileges", "rlimits"};
		bool own = false;
		for (size_t i = 0; i < ARRAY_SIZE(ours) - (b->keep_limits ? 2 : 0); i++)
			own |= streq(n->key, ours[i]);
		if (!own)
			json_out_node(o, n->key, n);
	}
	json_out_end_object(o);
	return r;
}

static void warn(const struct bundle_options *b, const char *label)
{
	char text[300];

	if (!b->warn)
		return;
	snprintf(text, sizeof(text),
		"the image's label %.100s is left out: its name may mean something to a runtime",
		label);
	b->warn(b->data, text);
}

static void put_optional(struct json_out *o, const struct json *own, const struct json *labels,
	const char *key, const char *value)
{
	if (value && *value && !json_get(own, key) && !json_get(labels, key))
		json_out_str(o, key, value);
}

static int put_annotations(
	struct json_out *o, const struct image *img, const struct bundle_options *b)
{
	_cleanup_strbuf_ struct strbuf ports = {0};
	const struct image_config *c = &img->config;
	const struct json *own = json_get(b->base, "annotations");
	int r = 0;

	for (size_t i = 0; i < c->nexposed_ports && r >= 0; i++)
		r = strbuf_addf(&ports, "%s%s", i ? "," : "", c->exposed_ports[i]);
	if (r < 0)
		return r;
	json_out_object(o, "annotations");
	for (const struct json *n = own ? own->first : NULL; n; n = n->next)
		json_out_node(o, n->key, n);
	/*
	 * An annotation that describes the image is written only if neither the annotations of
	 * b->base nor the image's labels have its name, because those take precedence.
	 */
	put_optional(o, own, c->labels, ANNOTATION "os", c->platform.os);
	put_optional(o, own, c->labels, ANNOTATION "architecture", c->platform.architecture);
	put_optional(o, own, c->labels, ANNOTATION "variant", c->platform.variant);
	put_optional(o, own, c->labels, ANNOTATION "os.version", c->platform.os_version);
	put_optional(o, own, c->labels, ANNOTATION "author", c->author);
	put_optional(o, own, c->labels, ANNOTATION "created", c->created);
	put_optional(o, own, c->labels, ANNOTATION "stopSignal", c->stop_signal);
	put_optional(o, own, c->labels, ANNOTATION "exposedPorts", strbuf_str(&ports));
	for (const struct json *n = c->labels ? c->labels->first : NULL; n; n = n->next) {
		if (bundle_is_reserved(n->key))
			warn(b, n->key);
		else if (!json_get(own, n->key))
			json_out_str(o, n->key, n->text);
	}
	json_out_end_object(o);
	return 0;
}

int bundle_config(
	struct json_out *o, const struct image *img, int root, const struct bundle_options *b)
{
	int r = 0;

	json_out_object(o, NULL);
	for (const struct json *n = b->base->first; n && r >= 0; n = n->next) {
		if (streq(n->key, "ociVersion")) {
			json_out_str(o, "ociVersion", BUNDLE_VERSION);
		} else if (streq(n->key, "process")) {
			r = put_process(o, img, root, b);
		} else if (streq(n->key, "root")) {
			json_out_object(o, "root");
			json_out_str(o, "path", "rootfs");
			json_out_bool(o, "readonly", b->read_only);
			json_out_end_object(o);
		} else if (!streq(n->key, "annotations")) {
			json_out_node(o, n->key, n);
		}
	}
	if (r >= 0)
		r = put_annotations(o, img, b);
	if (r >= 0 && b->rest)
		r = b->rest(b->data, o);
	json_out_end_object(o);
	return r;
}
