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
 * Finds the narrowest scope of the policy that covers the name. From narrow to wide these are
 * HOST/REPOSITORY:TAG or HOST/REPOSITORY@DIGEST, HOST/REPOSITORY, its parents, HOST, "*.DOMAIN",
 * and "" for the transport.
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

int policy_check(const char *transport, const struct reference *r)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf text = {0};
	char buf[PATH_MAX];
	const char *path = find_file(buf);
	const struct json *root, *transports, *scopes, *found = NULL;

	if (!path)
		return 0;
	int e = fd_read_file(AT_FDCWD, path, &text, OCI_DOCUMENT_MAX);
	if (e >= 0)
		e = fields_parse(&a, &text, path, &root);
	if (e >= 0)
		e = field_object(&(struct field){root, path, "transports"}, &transports);
	if (e >= 0 && transports) {
		e = field_object(&(struct field){transports, path, transport}, &scopes);
		if (e >= 0 && scopes)
			found = r ? find_scope(scopes, r) : get_scope(scopes, "", 0);
	}
	if (e < 0)
		return e;
	if (found)
		return check_requirements(found, path, *found->key ? found->key : transport);
	found = json_get(root, "default");
	if (!found)
		return err_set(EINVAL, "%s: default is missing", path);
	return check_requirements(found, path, "default");
}
