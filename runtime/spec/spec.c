/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads whole documents: config.json, and the process and resources objects that exec and update
 * read from files of their own.
 */
#include <ctype.h>
#include <stdio.h>

#include "base/fd.h"
#include "spec/parse.h"

/* longest host name in bytes: the kernel's __NEW_UTS_LEN, from linux/utsname.h */
#define MAX_HOSTNAME 64

static const struct field root_fields[] = {FIELD(STRING, "path", spec, root_path, REQUIRED),
	FIELD(BOOL, "readonly", spec, root_readonly), {0}};

static const struct object_type root_type = {.fields = root_fields};

static int check_hook(struct parser *p, const struct json *node, void *obj)
{
	struct spec_hook *h = obj;

	h->has_env = parse_has(node, "env");
	return 0;
}

static const struct field hook_fields[] = {
	FIELD(STRING, "path", spec_hook, path, .flags = FIELD_REQUIRED | FIELD_ABSOLUTE),
	FIELD(STRINGS, "args", spec_hook, args), FIELD(STRINGS, "env", spec_hook, env),
	FIELD(OPT_INT, "timeout", spec_hook, timeout, RANGE(1, INT32_MAX)), {0}};

static const struct object_type hook_type = {
	.size = sizeof(struct spec_hook), .fields = hook_fields, .check = check_hook};

static const struct field hooks_fields[] = {
	FIELD(ARRAY, "prestart", spec, hooks.prestart, .type = &hook_type),
	FIELD(ARRAY, "createRuntime", spec, hooks.create_runtime, .type = &hook_type),
	FIELD(ARRAY, "createContainer", spec, hooks.create_container, .type = &hook_type),
	FIELD(ARRAY, "startContainer", spec, hooks.start_container, .type = &hook_type),
	FIELD(ARRAY, "poststart", spec, hooks.poststart, .type = &hook_type),
	FIELD(ARRAY, "poststop", spec, hooks.poststop, .type = &hook_type), {0}};

static const struct object_type hooks_type = {.fields = hooks_fields};

/*
 * Skips a number of a SemVer version: digits without a leading zero. Returns NULL if the text
 * begins with no such number.
 */
static const char *skip_number(const char *s)
{
	size_t n = strspn(s, "0123456789");

	return n == 0 || (n > 1 && s[0] == '0') ? NULL : s + n;
}

/*
 * Skips the dot-separated identifiers of [0-9A-Za-z-] in a SemVer version. Returns NULL if an
 * identifier is empty.
 */
static const char *skip_identifiers(const char *s)
{
	for (;; s++) {
		const char *start = s;
		while (isalnum((unsigned char)*s) || *s == '-')
			s++;
		if (s == start)
			return NULL;
		if (*s != '.')
			return s;
	}
}

/* Returns whether the text is a version of SemVer 2.0.0: MAJOR.MINOR.PATCH[-PRERELEASE][+BUILD]. */
static bool is_semver(const char *s)
{
	for (int i = 0; i < 3; i++) {
		s = skip_number(s);
		if (!s || (i < 2 && *s++ != '.'))
			return false;
	}
	if (*s == '-')
		s = skip_identifiers(s + 1);
	if (s && *s == '+')
		s = skip_identifiers(s + 1);
	return s && !*s;
}

static int check_version(struct parser *p, const char *version)
{
	if (!is_semver(version))
		return parse_error_at(p, "ociVersion",
			"expected a SemVer version such as \"%s\", found \"%.80s\"", SPEC_VERSION,
			version);
	if (!str_starts(version, "1."))
		return parse_error_at(p, "ociVersion",
			"expected a version 1.x (caisson knows the runtime specification up to "
			"%s), found \"%.80s\"",
			SPEC_VERSION, version);
	return 0;
}

static int check_uts_name(
	struct parser *p, const struct spec *s, const char *property, const char *name)
{
	if (!name)
		return 0;
	if (strlen(name) > MAX_HOSTNAME)
		return parse_error_at(p, property, "expected at most %d bytes, found %zu",
			MAX_HOSTNAME, strlen(name));
	if (!s->ns[SPEC_NS_UTS].set)
		return parse_error_at(p, property,
			"unable to set %s without a private UTS namespace: expected nothing, or "
			"a uts namespace in linux.namespaces, found \"%s\"",
			property, name);
	return 0;
}

/*
 * Returns whether the version of the specification is older than 1.3.0. A pre-release of 1.3.0 does
 * not count as older, because pids.limit already has the meaning of 1.3.0 in such a pre-release.
 */
static bool is_before_1_3(const char *version)
{
	unsigned major, minor;

	return sscanf(version, "%u.%u.", &major, &minor) == 2 && major == 1 && minor < 3;
}

void spec_settle_resources(const struct spec *s, struct cg_resources *res)
{
	if (res->pids_limit.set && res->pids_limit.v == 0 && is_before_1_3(s->oci_version))
		res->pids_limit.v = -1;
}

static int check_config(struct parser *p, const struct json *node, void *obj)
{
	struct spec *s = obj;
	const char *net = spec_annotation(s, SPEC_VM_NET);
	int r = check_version(p, s->oci_version);

	if (r >= 0 && !s->root_path)
		r = parse_error_at(
			p, "root", "root must be specified: expected an object, found nothing");
	if (r >= 0)
		r = check_uts_name(p, s, "hostname", s->hostname);
	if (r >= 0)
		r = check_uts_name(p, s, "domainname", s->domainname);
	if (r >= 0)
		r = spec_check_uts_sysctl(p, s);
	if (r >= 0 && net)
		r = spec_parse_vm_net(p->arena, net, &s->vm_net);
	if (r >= 0)
		r = spec_parse_idmaps(p, s);
	if (r >= 0)
		spec_settle_resources(s, &s->resources);
	return r;
}

static const struct field config_fields[] = {
	FIELD(STRING, "ociVersion", spec, oci_version, REQUIRED), FIELD_GROUP("root", &root_type),
	FIELD(STRING, "hostname", spec, hostname), FIELD(STRING, "domainname", spec, domainname),
	FIELD(ARRAY, "mounts", spec, mounts, .type = &spec_mount_type),
	FIELD(OBJECT_PTR, "process", spec, process, .type = &spec_process_type),
	FIELD_GROUP("hooks", &hooks_type), FIELD(PAIRS, "annotations", spec, annotations),
	FIELD_GROUP("linux", &spec_linux_type),
	FIELD(OBJECT_PTR, "vm", spec, vm, .type = &spec_vm_type), {0}};

const struct object_type spec_config_type = {
	.size = sizeof(struct spec), .fields = config_fields, .check = check_config};

static int parse_document(struct arena *a, const struct json *root, const char *what,
	const struct object_type *t, void *ret)
{
	struct parser p = {.arena = a, .what = what};

	return parse_object(&p, root, t, ret);
}

int spec_parse(
	struct arena *a, const char *text, size_t len, const char *what, const struct spec **ret)
{
	struct spec *s = arena_alloc(a, sizeof(*s));
	struct json *root;

	if (!s)
		return -ENOMEM;
	int r = json_parse(a, text, len, what, &root);
	if (r < 0)
		return r;
	s->json = root;
	r = parse_document(a, root, what, &spec_config_type, s);
	if (r < 0)
		return r;
	*ret = s;
	return 0;
}

/*
 * Reads a JSON file, or standard input if path is "-". The message for a missing file is not the
 * kernel's "No such file or directory", because engines conclude from these words that the
 * container's program is missing.
 */
static int read_document(const char *path, struct strbuf *ret, const char **ret_what)
{
	if (streq(path, "-")) {
		*ret_what = "standard input";
		return fd_read_all(STDIN_FILENO, ret, SPEC_MAX_SIZE, *ret_what);
	}
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0 && errno == ENOENT)
		return err_set(ENOENT, "%s not found", path);
	if (fd < 0)
		return err_sys("open %s", path);
	const char *slash = strrchr(path, '/');
	*ret_what = slash && slash[1] ? slash + 1 : path;
	return fd_read_all(fd, ret, SPEC_MAX_SIZE, path);
}

static int load_document(struct arena *a, const char *path, const struct object_type *t, void *ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	struct json *root;
	const char *what = NULL;
	int r = read_document(path, &text, &what);

	if (r >= 0)
		r = json_parse(a, strbuf_str(&text), text.len, what, &root);
	if (r >= 0)
		r = parse_document(a, root, what, t, ret);
	return r;
}

int spec_load_process(struct arena *a, const char *path, const struct spec_process **ret)
{
	struct spec_process *process = arena_alloc(a, sizeof(*process));

	if (!process)
		return -ENOMEM;
	int r = load_document(a, path, &spec_process_type, process);
	if (r >= 0)
		*ret = process;
	return r;
}

int spec_parse_process(struct arena *a, const char *text, size_t len, const char *what,
	const struct spec_process **ret)
{
	struct spec_process *process = arena_alloc(a, sizeof(*process));
	struct json *root;

	if (!process)
		return -ENOMEM;
	int r = json_parse(a, text, len, what, &root);
	if (r >= 0)
		r = parse_document(a, root, what, &spec_process_type, process);
	if (r >= 0)
		*ret = process;
	return r < 0 ? r : 0;
}

int spec_parse_resources(
	struct arena *a, const struct json *node, const char *what, struct cg_resources *ret)
{
	*ret = (struct cg_resources){0};
	if (!node)
		return err_set(EINVAL, "%s: expected an object, found nothing", what);
	return parse_document(a, node, what, &spec_resources_type, ret);
}

int spec_load_resources(struct arena *a, const char *path, struct cg_resources *ret)
{
	*ret = (struct cg_resources){0};
	return load_document(a, path, &spec_resources_type, ret);
}

const char *spec_annotation(const struct spec *s, const char *key)
{
	for (size_t i = 0; i < s->annotations.n; i++)
		if (streq(s->annotations.v[i].key, key))
			return s->annotations.v[i].value;
	return NULL;
}

bool spec_guest_is_foreign(const struct spec *s)
{
	const char *guest = spec_annotation(s, SPEC_GUEST);

	return guest && streq(guest, "foreign");
}

bool spec_mount_is_image(const struct spec_mount *m)
{
	return m->backend && streq(m->backend, SPEC_MOUNT_IMAGE);
}

bool spec_image_is_root(const struct spec *s)
{
	const char *use = spec_annotation(s, SPEC_IMAGE_USE);

	return s->vm && s->vm->image_path && !(use && streq(use, "disk"));
}

bool spec_image_is_overlay(const struct spec *s)
{
	const char *use = spec_annotation(s, SPEC_IMAGE_USE);

	return s->vm && s->vm->image_path && use && streq(use, SPEC_IMAGE_OVERLAY);
}
