/* SPDX-License-Identifier: Apache-2.0 */
#include "images/oci/policy.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fd.h"
#include "images/oci/fields.h"

#define SYSTEM_FILE "/etc/containers/policy.json"

static const char *find_file(char buf[PATH_MAX])
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	int n = 0;

	if (geteuid() != 0 && config && *config == '/')
		n = snprintf(buf, PATH_MAX, "%s/containers/policy.json", config);
	else if (geteuid() != 0 && home && *home == '/')
		n = snprintf(buf, PATH_MAX, "%s/.config/containers/policy.json", home);
	if (n > 0 && n < PATH_MAX && access(buf, F_OK) == 0)
		return buf;
	return access(SYSTEM_FILE, F_OK) == 0 ? SYSTEM_FILE : NULL;
}

static int check_requirements(const struct json *list, const char *path, const char *scope)
{
	if (list->type != JSON_ARRAY || !list->first)
		return err_set(
			EINVAL, "%s: \"%.200s\": expected a list of requirements", path, scope);
	for (const struct json *n = list->first; n; n = n->next) {
		const char *type = json_get_str(n, "type");
		if (!type)
			return err_set(
				EINVAL, "%s: \"%.200s\": a requirement has no type", path, scope);
		if (streq(type, "reject"))
			return err_set(EPERM, "%s rejects the image, by its rule for \"%.200s\"",
				path, scope);
		if (!streq(type, "insecureAcceptAnything"))
			return err_set(EPERM,
				"%s demands a signature (\"%.50s\", for \"%.200s\"), which caisson "
				"cannot check: the image is refused",
				path, type, scope);
	}
	return 0;
}

static const struct json *get_scope(const struct json *scopes, const char *name, size_t len)
{
	for (const struct json *n = scopes->first; n; n = n->next)
		if (strlen(n->key) == len && memcmp(n->key, name, len) == 0)
			return n;
	return NULL;
}

/*
 * Finds the narrowest scope of the policy that covers an image of a registry. From narrow to wide
 * the scopes are HOST/REPOSITORY:TAG or HOST/REPOSITORY@DIGEST, HOST/REPOSITORY, the parents of the
 * repository, HOST, "*.DOMAIN", and "" for the transport.
 */
static const struct json *find_scope(const struct json *scopes, const struct reference *r)
{
	_cleanup_arena_ struct arena a = {0};
	const char *full = reference_text(&a, r);
	const char *name = arena_printf(&a, "%s/%s", r->host, r->repository);
	const struct json *n;

	if (!full || !name)
		return NULL;
	n = get_scope(scopes, full, strlen(full));
	for (size_t len = strlen(name); !n && len > 0; len--)
		if (name[len] == '\0' || name[len] == '/')
			n = get_scope(scopes, name, len);
	for (const char *dot = strchr(r->host, '.'); !n && dot; dot = strchr(dot + 1, '.')) {
		const char *wild = arena_printf(&a, "*%.*s", (int)strcspn(dot, ":"), dot);
		n = wild ? get_scope(scopes, wild, strlen(wild)) : NULL;
	}
	return n ? n : get_scope(scopes, "", 0);
}

/*
 * Finds the narrowest scope of the policy that covers an image of the file system. From narrow to
 * wide the scopes are PATH:TAG, PATH, its parent directories, and "" for the transport. The root
 * directory is no scope, because policy.json does not allow it.
 */
static const struct json *find_path_scope(
	const struct json *scopes, const char *path, const char *tag)
{
	_cleanup_arena_ struct arena a = {0};
	char real[PATH_MAX];
	const struct json *n = NULL;

	if (streq(path, "-") || !realpath(path, real))
		return get_scope(scopes, "", 0);
	if (tag) {
		const char *full = arena_printf(&a, "%s:%s", real, tag);
		n = full ? get_scope(scopes, full, strlen(full)) : NULL;
	}
	for (size_t len = strlen(real); !n && len > 0; len--)
		if (real[len] == '\0' || real[len] == '/')
			n = get_scope(scopes, real, len);
	return n ? n : get_scope(scopes, "", 0);
}

/* Reads policy.json. *ret is NULL if there is no such file. */
static int load(struct arena *a, const char **ret_path, const struct json **ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	char buf[PATH_MAX];
	const char *path = find_file(buf);

	*ret = NULL;
	if (!path)
		return 0;
	*ret_path = arena_strdup(a, path);
	if (!*ret_path)
		return -ENOMEM;
	int r = fd_read_file(AT_FDCWD, path, &text, OCI_DOCUMENT_MAX);
	return r < 0 ? r : fields_parse(a, &text, *ret_path, ret);
}

/* What policy.json says of one transport. */
struct rules {
	const char *path;        /* path of policy.json */
	const struct json *root; /* parsed content of policy.json; NULL: there is no policy.json */
	/*
	 * what policy.json says of the transport's scopes; NULL: policy.json does not name the
	 * transport
	 */
	const struct json *scopes;
};

static int load_rules(struct arena *a, const char *transport, struct rules *ret)
{
	const struct json *transports;
	int r = load(a, &ret->path, &ret->root);

	ret->scopes = NULL;
	if (r < 0 || !ret->root)
		return r;
	r = field_object(&(struct field){ret->root, ret->path, "transports"}, &transports);
	return r < 0 || !transports
		       ? r
		       : field_object(
				 &(struct field){transports, ret->path, transport}, &ret->scopes);
}

/* Checks the requirements of the scope `found`, or the policy's default if no scope was found. */
static int check(const struct rules *p, const char *transport, const struct json *found)
{
	if (!p->root)
		return 0;
	if (found)
		return check_requirements(found, p->path, *found->key ? found->key : transport);
	found = json_get(p->root, "default");
	return found ? check_requirements(found, p->path, "default")
		     : err_set(EINVAL, "%s: default is missing", p->path);
}

int policy_check(const struct reference *r)
{
	_cleanup_arena_ struct arena a = {0};
	struct rules p;
	int e = load_rules(&a, "docker", &p);

	return e < 0 ? e : check(&p, "docker", p.scopes ? find_scope(p.scopes, r) : NULL);
}

int policy_check_path(const char *transport, const char *image, const char *tag)
{
	_cleanup_arena_ struct arena a = {0};
	struct rules p;
	int e = load_rules(&a, transport, &p);

	return e < 0 ? e
		     : check(&p, transport,
			       p.scopes ? find_path_scope(p.scopes, image, tag) : NULL);
}
