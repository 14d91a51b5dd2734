/* SPDX-License-Identifier: Apache-2.0 */
#include "images/oci/registries.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fd.h"
#include "images/oci/fields.h"
#include "images/oci/toml.h"

#define SYSTEM_DIR "/etc/containers"
#define FILE_NAME "registries.conf"

/* Reads one file in the form of registries.conf. Returns 1, or 0 if the file does not exist. */
static int load_file(struct arena *a, struct registries *g, const char *path)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	struct json *root;

	if (access(path, F_OK) < 0 && errno == ENOENT)
		return 0;
	if (g->n == REGISTRIES_FILES_MAX)
		return err_set(E2BIG, "more than %d files like %s", REGISTRIES_FILES_MAX, path);
	int r = fd_read_file(AT_FDCWD, path, &text, TOML_MAX);
	if (r >= 0)
		r = toml_parse(a, &text, path, &root);
	if (r < 0)
		return r;
	/*
	 * The table [registries] is refused, because it belongs to version 1 of registries.conf,
	 * from before 2019.
	 */
	if (json_get(root, "registries"))
		return err_set(EINVAL,
			"%s: the table [registries] is of version 1 of this file, which podman no "
			"longer reads either: see containers-registries.conf(5)",
			path);
	g->files[g->n] = root;
	g->paths[g->n++] = arena_strdup(a, path);
	return g->paths[g->n - 1] ? 1 : -ENOMEM;
}

static int is_conf(const struct dirent *e)
{
	return e->d_name[0] != '.' && str_ends(e->d_name, ".conf");
}

static int load_dir(struct arena *a, struct registries *g, const char *dir)
{
	struct dirent **names = NULL;
	char path[PATH_MAX];
	int n = scandir(dir, &names, is_conf, alphasort), r = 0;

	if (n < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : err_sys("read %s", dir);
	for (int i = 0; i < n; i++) {
		if (snprintf(path, sizeof(path), "%s/%s", dir, names[i]->d_name) >=
			(int)sizeof(path))
			r = err_set(ENAMETOOLONG, "%s: a name is too long", dir);
		if (r >= 0)
			r = load_file(a, g, path);
		free(names[i]);
	}
	free(names);
	return r;
}

static const char *user_dir(struct arena *a)
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

	if (geteuid() == 0)
		return NULL;
	if (config && *config == '/')
		return arena_printf(a, "%s/containers", config);
	return home && *home == '/' ? arena_printf(a, "%s/.config/containers", home) : NULL;
}

int registries_load(struct arena *a, struct registries *ret)
{
	const char *named = getenv("CONTAINERS_REGISTRIES_CONF"), *user = user_dir(a);
	int r = 0;

	*ret = (struct registries){0};
	if (named && *named) {
		r = load_file(a, ret, named);
		return r == 0  ? err_set(ENOENT,
					 "$CONTAINERS_REGISTRIES_CONF names %s, which does not "
					  "exist",
					 named)
		       : r < 0 ? r
			       : 0;
	}
	if (user)
		r = load_file(a, ret, arena_printf(a, "%s/" FILE_NAME, user));
	if (r == 0)
		r = load_file(a, ret, SYSTEM_DIR "/" FILE_NAME);
	if (r >= 0)
		r = load_dir(a, ret, SYSTEM_DIR "/" FILE_NAME ".d");
	if (r >= 0 && user)
		r = load_dir(a, ret, arena_printf(a, "%s/" FILE_NAME ".d", user));
	return r < 0 ? r : 0;
}

/*
 * Returns the setting `key` of the last file that has it, because later files replace the settings
 * of earlier files.
 */
static const struct json *last_member(
	const struct registries *g, const char *key, enum json_type type, int *ret_error)
{
	for (size_t i = g->n; i > 0; i--) {
		const struct json *n = json_get(g->files[i - 1], key);
		if (!n)
			continue;
		if (n->type == type)
			return n;
		*ret_error = err_set(EINVAL, "%s: %s is %s: expected %s", g->paths[i - 1], key,
			json_type_name(n->type), json_type_name(type));
		return NULL;
	}
	return NULL;
}

/* Looks a short name up in the aliases. Returns 1 if the short name has an alias, else 0. */
static int find_alias(const struct registries *g, struct arena *a, const struct reference *r,
	struct reference *ret, const char **ret_path)
{
	for (size_t i = g->n; i > 0; i--) {
		const struct json *aliases = json_get(g->files[i - 1], "aliases");
		const char *full = json_get_str(aliases, r->repository);
		if (!full)
			continue;
		/*
		 * An empty alias in a later file cancels the alias of the same short name in an
		 * earlier file.
		 */
		if (!*full)
			return 0;
		int e = reference_parse(a, full, ret);
		if (e < 0)
			return err_ctx(e, "%s: aliases", g->paths[i - 1]);
		if (!ret->host || ret->tag || *ret->digest.text)
			return err_set(EINVAL,
				"%s: aliases: \"%s\": expected a registry and a repository, "
				"without "
				"tag",
				g->paths[i - 1], full);
		ret->tag = r->tag;
		ret->digest = r->digest;
		*ret_path = g->paths[i - 1];
		return 1;
	}
	return 0;
}

static int add_candidate(
	struct arena *a, const struct reference *r, const char *registry, struct candidates *ret)
{
	if (ret->n == REGISTRIES_CANDIDATES_MAX)
		return err_set(E2BIG, "unqualified-search-registries has more than %d registries",
			REGISTRIES_CANDIDATES_MAX);
	int e = reference_at(a, registry, r, &ret->v[ret->n++]);
	return e < 0 ? err_ctx(e, "unqualified-search-registries") : 0;
}

static int check_several(
	const struct registries *g, const struct reference *r, const struct candidates *found)
{
	_cleanup_strbuf_ struct strbuf list = {0};
	int e = 0;
	const struct json *mode = last_member(g, "short-name-mode", JSON_STRING, &e);

	if (e < 0 || found->n < 2)
		return e;
	if (mode && (streq(mode->text, "permissive") || streq(mode->text, "disabled")))
		return 0;
	for (size_t i = 0; i < found->n && e >= 0; i++)
		e = strbuf_addf(
			&list, "%s%s/%s", i ? ", " : "", found->v[i].host, found->v[i].repository);
	return e < 0 ? e
		     : err_set(EINVAL,
			       "\"%s\" is a short name, and could be any of %s: give one of these "
			       "names, or set short-name-mode = \"permissive\" in registries.conf",
			       r->repository, strbuf_str(&list));
}

static int search(const struct registries *g, struct arena *a, const struct reference *r,
	struct candidates *ret)
{
	int e = 0;
	const struct json *list = last_member(g, "unqualified-search-registries", JSON_ARRAY, &e);

	for (const struct json *n = list ? list->first : NULL; n && e >= 0; n = n->next)
		e = n->type == JSON_STRING
			    ? add_candidate(a, r, n->text, ret)
			    : err_set(EINVAL, "unqualified-search-registries: expected strings");
	if (e < 0)
		return e;
	if (ret->n == 0)
		return err_set(EINVAL,
			"\"%s\" is a short name, and neither an alias nor "
			"unqualified-search-registries in registries.conf explains it: give its "
			"registry, as in docker.io/%s%s",
			r->repository, strchr(r->repository, '/') ? "" : "library/", r->repository);
	ret->why = "unqualified-search-registries of registries.conf";
	return check_several(g, r, ret);
}

int registries_candidates(const struct registries *g, struct arena *a, const struct reference *r,
	struct candidates *ret)
{
	const char *path = NULL;

	*ret = (struct candidates){0};
	if (r->host) {
		ret->v[ret->n++] = *r;
		return 0;
	}
	int e = find_alias(g, a, r, &ret->v[0], &path);
	if (e < 0)
		return e;
	if (e > 0) {
		ret->n = 1;
		ret->why = arena_printf(a, "an alias in %s", path);
		return ret->why ? 0 : -ENOMEM;
	}
	if (g->n == 0) {
		ret->why = "there is no registries.conf, so it means docker's registry";
		return add_candidate(a, r, REFERENCE_DOCKER_HOST, ret);
	}
	return search(g, a, r, ret);
}

/*
 * Returns the length of `prefix` if `name` begins with it and a component of `name` ends there,
 * else 0.
 */
static size_t match_prefix(const char *prefix, const char *name)
{
	size_t len = strlen(prefix);

	if (str_starts(prefix, "*.")) {
		/*
		 * The prefix "*.example.com" matches the hosts of that domain, but not single
		 * repositories.
		 */
		size_t host = strcspn(name, ":/"), tail = len - 1;
		return host > tail && memcmp(name + host - tail, prefix + 1, tail) == 0 ? host : 0;
	}
	if (!str_starts(name, prefix))
		return 0;
	char next = name[len];
	return next == '\0' || next == '/' || next == ':' || next == '@' ? len : 0;
}

struct match {
	const struct json *table;
	const char *path;
	size_t len;
};

static int find_registry(const struct registries *g, const char *name, struct match *ret)
{
	*ret = (struct match){0};
	for (size_t i = g->n; i > 0; i--) {
		const char *path = g->paths[i - 1];
		const struct json *list;
		int r = field_array(&(struct field){g->files[i - 1], path, "registry"},
			JSON_MAX_MEMBERS, &list);
		if (r < 0)
			return r;
		for (const struct json *n = list ? list->first : NULL; n; n = n->next) {
			const char *prefix, *location;
			if (n->type != JSON_OBJECT)
				return err_set(EINVAL, "%s: registry: expected [[registry]]", path);
			r = field_string(&(struct field){n, path, "prefix"}, &prefix);
			if (r >= 0)
				r = field_string(&(struct field){n, path, "location"}, &location);
			if (r < 0)
				return r;
			if (!prefix || !*prefix)
				prefix = location;
			if (!prefix || !*prefix)
				return err_set(EINVAL,
					"%s: a [[registry]] has neither prefix nor location", path);
			size_t len = match_prefix(prefix, name);
			if (len > ret->len)
				*ret = (struct match){n, path, len};
		}
	}
	return 0;
}

static int flag(const struct json *table, const char *path, const char *key, bool *ret)
{
	const struct json *n = json_get(table, key);

	*ret = n && n->type == JSON_BOOL && n->boolean;
	return !n || n->type == JSON_BOOL
		       ? 0
		       : err_set(EINVAL, "%s: %s: expected true or false", path, key);
}

/*
 * Adds a place from which the image `name` can be fetched: `name` with its matching prefix replaced
 * by the "location" of `table`, which describes the registry or one of its mirrors.
 */
static int add_endpoint(struct arena *a, const struct match *m, const struct json *table,
	const char *name, struct endpoints *ret)
{
	const char *location;
	bool insecure;
	struct reference where;

	if (ret->n == REGISTRIES_ENDPOINTS_MAX)
		return err_set(
			E2BIG, "%s: more than %d mirrors", m->path, REGISTRIES_ENDPOINTS_MAX - 1);
	int r = field_string(&(struct field){table, m->path, "location"}, &location);
	if (r >= 0)
		r = flag(table, m->path, "insecure", &insecure);
	if (r < 0)
		return r;
	bool moved = location && *location;
	if (!moved && table != m->table)
		return err_set(EINVAL, "%s: a mirror has no location", m->path);
	const char *full = moved ? arena_printf(a, "%s%s", location, name + m->len) : name;
	if (!full)
		return -ENOMEM;
	r = reference_parse(a, full, &where);
	if (r >= 0 && !where.host)
		r = err_set(EINVAL, "the location has no registry");
	if (r < 0)
		return err_ctx(r, "%s: location \"%.200s\"", m->path, moved ? location : "");
	ret->v[ret->n++] =
		(struct endpoint){where.host, where.repository, insecure, table != m->table};
	return 0;
}

/*
 * Returns whether the mirror serves the image r. According to registries.conf a mirror serves "all"
 * images, which is the default, or only those that are named by digest ("digest-only") or by tag
 * ("tag-only").
 */
static int serves(const struct match *m, const struct json *mirror, const struct reference *r)
{
	const char *which;
	bool by_digest, has_digest = *r->digest.text;
	int e = flag(m->table, m->path, "mirror-by-digest-only", &by_digest);

	if (e >= 0)
		e = field_string(&(struct field){mirror, m->path, "pull-from-mirror"}, &which);
	if (e < 0)
		return e;
	if (by_digest)
		return has_digest;
	if (!which || !*which || streq(which, "all"))
		return 1;
	if (streq(which, "digest-only"))
		return has_digest;
	if (streq(which, "tag-only"))
		return !has_digest;
	return err_set(EINVAL,
		"%s: pull-from-mirror is \"%.50s\": expected all, digest-only or tag-only", m->path,
		which);
}

int registries_endpoints(const struct registries *g, struct arena *a, const struct reference *r,
	struct endpoints *ret)
{
	const char *name = arena_printf(a, "%s/%s", r->host, r->repository);
	const struct json *mirrors;
	struct match m;
	bool blocked;

	*ret = (struct endpoints){0};
	if (!name)
		return -ENOMEM;
	int e = find_registry(g, name, &m);
	if (e < 0)
		return e;
	if (!m.table) {
		ret->v[ret->n++] = (struct endpoint){.host = r->host, .repository = r->repository};
		return 0;
	}
	e = flag(m.table, m.path, "blocked", &blocked);
	if (e >= 0 && blocked)
		return err_set(EPERM, "%s is blocked by %s", name, m.path);
	if (e >= 0)
		e = field_array(&(struct field){m.table, m.path, "mirror"},
			REGISTRIES_ENDPOINTS_MAX, &mirrors);
	for (const struct json *n = e >= 0 && mirrors ? mirrors->first : NULL; n && e >= 0;
		n = n->next) {
		e = n->type == JSON_OBJECT
			    ? serves(&m, n, r)
			    : err_set(EINVAL, "%s: mirror: expected a table", m.path);
		if (e > 0)
			e = add_endpoint(a, &m, n, name, ret);
	}
	return e < 0 ? e : add_endpoint(a, &m, m.table, name, ret);
}
