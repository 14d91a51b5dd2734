/* SPDX-License-Identifier: Apache-2.0 */
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "images/oci/auth_internal.h"
#include "images/oci/fields.h"

#define FILES_MAX 3

struct files {
	const char *v[FILES_MAX];
	size_t n;
};

static int add_file(struct arena *a, struct files *f, const char *dir, const char *name)
{
	f->v[f->n] = arena_printf(a, "%s/%s", dir, name);
	return f->v[f->n++] ? 0 : -ENOMEM;
}

static int find_files(struct arena *a, const char *named, struct files *ret)
{
	const char *variable = getenv("REGISTRY_AUTH_FILE"), *home = getenv("HOME");
	const char *run = getenv("XDG_RUNTIME_DIR"), *config = getenv("XDG_CONFIG_HOME");
	const char *docker = getenv("DOCKER_CONFIG");

	*ret = (struct files){0};
	if (!named && variable && *variable)
		named = variable;
	if (named) {
		ret->v[ret->n++] = named;
		return 0;
	}
	if (!run || *run != '/')
		run = arena_printf(a, "/run/containers/%u", geteuid());
	else
		run = arena_printf(a, "%s/containers", run);
	int r = run ? add_file(a, ret, run, "auth.json") : -ENOMEM;
	if (r >= 0 && config && *config == '/')
		r = add_file(a, ret, config, "containers/auth.json");
	else if (r >= 0 && home && *home == '/')
		r = add_file(a, ret, home, ".config/containers/auth.json");
	if (r >= 0 && docker && *docker == '/')
		r = add_file(a, ret, docker, "config.json");
	else if (r >= 0 && home && *home == '/')
		r = add_file(a, ret, home, ".docker/config.json");
	return r;
}

/* Reads a file of credentials. If the file does not exist or is empty (/dev/null), *ret is NULL. */
static int load(struct arena *a, const char *path, const struct json **ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};

	*ret = NULL;
	if (access(path, F_OK) < 0 && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	int r = fd_read_file(AT_FDCWD, path, &text, OCI_DOCUMENT_MAX);
	return r < 0 || text.len == 0 ? r : fields_parse(a, &text, path, ret);
}

/* Returns the HOST[/NAMESPACE] that a key of "auths" names. docker also writes URLs as keys. */
static const char *clean_key(struct arena *a, const char *key)
{
	const char *start = str_starts(key, "https://")  ? key + strlen("https://")
			    : str_starts(key, "http://") ? key + strlen("http://")
							 : key;
	size_t len = start == key ? strlen(key) : strcspn(start, "/");

	if (len == strlen("index.docker.io") && str_starts(start, "index.docker.io"))
		return "docker.io";
	return arena_strndup(a, start, len);
}

/* Decodes a text "USER:PASSWORD" from base64. */
static int decode(struct arena *a, const char *text, const char *path, struct credentials *ret)
{
	size_t len = strlen(text);
	unsigned char *plain = arena_alloc(a, len + 4);

	if (!plain)
		return -ENOMEM;
	int n = len % 4 == 0 && len < INT_MAX
			? EVP_DecodeBlock(plain, (const unsigned char *)text, (int)len)
			: -1;
	char *colon = n > 0 ? memchr(plain, ':', (size_t)n) : NULL;
	/*
	 * The padding of the base64 text is subtracted, because EVP_DecodeBlock() counts it as
	 * bytes of the decoded text.
	 */
	for (size_t i = len; n > 0 && i > 0 && text[i - 1] == '=' && len - i < 2; i--)
		n--;
	if (n <= 0 || !colon || memchr(plain, '\0', (size_t)n))
		return err_set(EINVAL, "%s: auth: expected user:password in base64", path);
	plain[n] = '\0';
	*colon = '\0';
	*ret = (struct credentials){.user = (char *)plain, .password = colon + 1};
	return 1;
}

static int take_entry(
	struct arena *a, const struct json *entry, const char *path, struct credentials *ret)
{
	const char *auth, *token;
	int r = field_string(&(struct field){entry, path, "identitytoken"}, &token);

	if (r >= 0)
		r = field_string(&(struct field){entry, path, "auth"}, &auth);
	if (r < 0)
		return r;
	if (token && *token) {
		*ret = (struct credentials){.identity_token = token};
		return 1;
	}
	return auth && *auth ? decode(a, auth, path, ret) : 0;
}

/*
 * Finds the credentials under the longest of the keys HOST/a/b, HOST/a and HOST that "auths" has,
 * because the longest key is meant for the fewest repositories.
 */
static int find_in_auths(struct arena *a, const struct json *auths, const char *path,
	const char *name, struct credentials *ret)
{
	size_t best = 0;
	const struct json *entry = NULL;

	for (const struct json *n = auths ? auths->first : NULL; n; n = n->next) {
		const char *key = clean_key(a, n->key);
		if (!key)
			return -ENOMEM;
		size_t len = strlen(key);
		bool matches = str_starts(name, key) && (name[len] == '\0' || name[len] == '/');
		if (matches && len > best && n->type == JSON_OBJECT) {
			best = len;
			entry = n;
		}
	}
	return entry ? take_entry(a, entry, path, ret) : 0;
}

static const char *helper_of(const struct json *root, const char *host, bool *ret_default)
{
	const char *helper = json_get_str(json_get(root, "credHelpers"), host);

	*ret_default = !helper;
	return helper ? helper : json_get_str(root, "credsStore");
}

static int find_in(struct arena *a, const char *path, const char *host, const char *repository,
	struct credentials *ret)
{
	const struct json *root, *auths;
	bool by_default;
	int r = load(a, path, &root);

	if (r < 0 || !root)
		return r;
	const char *helper = helper_of(root, host, &by_default);
	if (helper && *helper && !by_default) {
		r = helper_get(a, helper, host, ret);
		if (r != 0)
			return r;
	}
	const char *name = arena_printf(a, "%s/%s", host, repository);
	if (!name)
		return -ENOMEM;
	r = field_object(&(struct field){root, path, "auths"}, &auths);
	if (r >= 0)
		r = find_in_auths(a, auths, path, name, ret);
	if (r == 0 && helper && *helper && by_default)
		r = helper_get(a, helper, host, ret);
	return r;
}

int auth_find(struct arena *a, const char *file, const char *host, const char *repository,
	struct credentials *ret)
{
	struct files files;
	int r = find_files(a, file, &files);

	*ret = (struct credentials){0};
	for (size_t i = 0; i < files.n && r == 0; i++)
		r = find_in(a, files.v[i], host, repository, ret);
	return r < 0 ? err_ctx(r, "credentials for %s", host) : r;
}

int auth_basic(struct arena *a, const struct credentials *c, const char **ret)
{
	const char *plain = arena_printf(a, "%s:%s", c->user, c->password);
	size_t len = plain ? strlen(plain) : 0;
	unsigned char *text = plain ? arena_alloc(a, len / 3 * 4 + 8) : NULL;

	if (!text || len > INT_MAX / 2)
		return -ENOMEM;
	EVP_EncodeBlock(text, (const unsigned char *)plain, (int)len);
	*ret = (char *)text;
	return 0;
}

/*
 * Writes the file of credentials anew: everything that it had, with the host's entry replaced or
 * left out.
 */
static int rewrite(struct arena *a, const char *path, const struct json *root, const char *host,
	const struct credentials *c)
{
	_cleanup_json_out_ struct json_out o = {0};
	const struct json *auths = json_get(root, "auths");
	const char *text, *basic;
	size_t len;
	int r = json_out_init(&o, true);

	if (r < 0)
		return r;
	json_out_object(&o, NULL);
	json_out_object(&o, "auths");
	for (const struct json *n = auths && auths->type == JSON_OBJECT ? auths->first : NULL; n;
		n = n->next) {
		const char *key = clean_key(a, n->key);
		if (key && !streq(key, host))
			json_out_node(&o, n->key, n);
	}
	if (c) {
		r = auth_basic(a, c, &basic);
		if (r < 0)
			return r;
		json_out_object(&o, host);
		json_out_str(&o, "auth", basic);
		json_out_end_object(&o);
	}
	json_out_end_object(&o);
	for (const struct json *n = root ? root->first : NULL; n; n = n->next)
		if (!streq(n->key, "auths"))
			json_out_node(&o, n->key, n);
	json_out_end_object(&o);
	r = json_out_text(&o, &text, &len);
	return r < 0 ? r : fd_replace_file(AT_FDCWD, path, text, len, 0600);
}

static int make_parents(const char *path)
{
	char prefix[PATH_MAX];

	if (strlen(path) >= sizeof(prefix))
		return err_set(ENAMETOOLONG, "%s is too long", path);
	for (const char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
		memcpy(prefix, path, (size_t)(p - path));
		prefix[p - path] = '\0';
		if (mkdir(prefix, 0700) < 0 && errno != EEXIST)
			return err_sys("create %s", prefix);
	}
	return 0;
}

static bool is_known(struct arena *a, const struct json *root, const char *host)
{
	const struct json *auths = json_get(root, "auths");

	for (const struct json *n = auths && auths->type == JSON_OBJECT ? auths->first : NULL; n;
		n = n->next) {
		const char *key = clean_key(a, n->key);
		if (key && streq(key, host))
			return true;
	}
	return false;
}

int auth_store(struct arena *a, const char *file, const char *host, const struct credentials *c,
	const char **ret_file)
{
	const struct json *root;
	struct files files;
	bool by_default;
	int r = find_files(a, file, &files);

	if (r < 0)
		return r;
	*ret_file = files.v[0];
	r = load(a, files.v[0], &root);
	if (r < 0)
		return r;
	const char *helper = root ? helper_of(root, host, &by_default) : NULL;
	if (helper && *helper)
		return c ? helper_store(helper, host, c) : helper_erase(helper, host);
	if (!c && !is_known(a, root, host))
		return -ENOENT;
	r = make_parents(files.v[0]);
	return r < 0 ? r : rewrite(a, files.v[0], root, host, c);
}
