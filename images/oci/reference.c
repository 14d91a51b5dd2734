/* SPDX-License-Identifier: Apache-2.0 */
#include "images/oci/reference.h"

#include <ctype.h>
#include <string.h>

static int no_name(const char *text, const char *why)
{
	return err_set(EINVAL, "\"%.300s\" is no name of an image: %s", text, why);
}

static bool is_lower(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_alnum(char c)
{
	return is_lower(c) || (c >= 'A' && c <= 'Z');
}

/* Returns whether the text is letters and digits, with ".", "_", "__" or dashes between them. */
static bool is_component(const char *s, size_t len)
{
	size_t i = 0;

	while (i < len) {
		size_t start = i;
		while (i < len && is_lower(s[i]))
			i++;
		if (i == start)
			return false;
		if (i == len)
			return true;
		if (s[i] == '-') {
			while (i < len && s[i] == '-')
				i++;
		} else if (s[i] == '.') {
			i++;
		} else if (s[i] == '_') {
			i += i + 1 < len && s[i + 1] == '_' ? 2 : 1;
		} else {
			return false;
		}
	}
	return false;
}

static bool is_repository(const char *s)
{
	for (;;) {
		size_t n = strcspn(s, "/");
		if (!is_component(s, n))
			return false;
		if (!s[n])
			return true;
		s += n + 1;
	}
}

static bool is_port(const char *s)
{
	uint64_t port;

	return str_to_u64(s, &port) == 0 && port > 0 && port < 65536;
}

static bool is_host_name(const char *s, size_t len)
{
	size_t label = 0;

	for (size_t i = 0; i < len; i++) {
		if (s[i] == '.') {
			if (label == 0 || s[i - 1] == '-')
				return false;
			label = 0;
		} else if (is_alnum(s[i]) || (s[i] == '-' && label > 0)) {
			label++;
		} else {
			return false;
		}
	}
	return label > 0 && s[len - 1] != '-';
}

static bool is_host(const char *host)
{
	const char *end;

	if (*host == '[') {
		size_t n = strspn(host + 1, "0123456789abcdefABCDEF:.");
		end = host + 1 + n;
		if (n < 2 || *end != ']')
			return false;
		end++;
	} else {
		end = host + strcspn(host, ":");
		if (end == host || !is_host_name(host, (size_t)(end - host)))
			return false;
	}
	return !*end || (*end == ':' && is_port(end + 1));
}

int reference_check_host(const char *host)
{
	const char *slash = strchr(host, '/');
	char copy[REFERENCE_NAME_MAX + 1];
	size_t len = slash ? (size_t)(slash - host) : strlen(host);

	if (len == 0 || strlen(host) >= sizeof(copy))
		return no_name(host, "a registry's name has 1 to 255 bytes");
	memcpy(copy, host, len);
	copy[len] = '\0';
	if (!is_host(copy))
		return no_name(host, "expected a registry as HOST or HOST:PORT");
	if (slash && !is_repository(slash + 1))
		return no_name(host, "the repository is malformed");
	return 0;
}

static bool looks_like_host(const char *first)
{
	for (const char *p = first; *p; p++)
		if (*p == '.' || *p == ':' || (*p >= 'A' && *p <= 'Z'))
			return true;
	return streq(first, "localhost");
}

static int take_digest(struct arena *a, char *name, struct reference *ret)
{
	char *at = strchr(name, '@');

	if (!at)
		return 0;
	*at = '\0';
	return digest_parse(at + 1, "the digest of an image's name", &ret->digest);
}

static int take_tag(char *name, const char *text, struct reference *ret)
{
	char *slash = strrchr(name, '/'), *colon = strchr(slash ? slash : name, ':');

	if (!colon)
		return 0;
	*colon++ = '\0';
	for (const char *p = colon; *p; p++)
		if (!is_alnum(*p) && *p != '_' && (p == colon || (*p != '.' && *p != '-')))
			return no_name(text, "its tag is malformed");
	if (!*colon || strlen(colon) > REFERENCE_TAG_MAX)
		return no_name(text, "its tag has 1 to 128 characters");
	ret->tag = colon;
	return 0;
}

/*
 * Gives docker's registry the one name docker.io, and repositories of docker.io with one word the
 * prefix "library/".
 */
static int normalise(struct arena *a, struct reference *r)
{
	if (streq(r->host, "index.docker.io") || streq(r->host, "registry-1.docker.io"))
		r->host = REFERENCE_DOCKER_HOST;
	if (streq(r->host, REFERENCE_DOCKER_HOST) && !strchr(r->repository, '/'))
		r->repository = arena_printf(a, "library/%s", r->repository);
	return r->repository ? 0 : -ENOMEM;
}

int reference_at(
	struct arena *a, const char *registry, const struct reference *r, struct reference *ret)
{
	size_t len = strcspn(registry, "/");
	int e = reference_check_host(registry);

	if (e < 0)
		return e;
	*ret = *r;
	ret->host = arena_strndup(a, registry, len);
	if (registry[len])
		ret->repository = arena_printf(a, "%s/%s", registry + len + 1, r->repository);
	return ret->host && ret->repository ? normalise(a, ret) : -ENOMEM;
}

static int take_host(struct arena *a, char *name, const char *text, struct reference *ret)
{
	char *slash = strchr(name, '/');

	ret->repository = name;
	if (!slash)
		return 0;
	*slash = '\0';
	if (!looks_like_host(name)) {
		*slash = '/';
		return 0;
	}
	if (!is_host(name))
		return no_name(text, "its registry is malformed");
	ret->host = name;
	ret->repository = slash + 1;
	return normalise(a, ret);
}

bool reference_is_other_transport(const char *text)
{
	static const char *const others[] = {"oci:", "dir:", "oci-archive:", "docker-archive:",
		"docker-daemon:", "containers-storage:", "ostree:", "sif:", "tarball:"};

	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (str_starts(text, others[i]))
			return true;
	return false;
}

int reference_parse(struct arena *a, const char *text, struct reference *ret)
{
	const char *start = str_starts(text, "docker://") ? text + strlen("docker://") : text;
	char *name = arena_strdup(a, start);

	*ret = (struct reference){0};
	if (!name)
		return -ENOMEM;
	if (!*name)
		return no_name(text, "it is empty");
	int r = take_digest(a, name, ret);
	if (r >= 0)
		r = take_tag(name, text, ret);
	if (r >= 0 && strlen(name) > REFERENCE_NAME_MAX)
		return no_name(text, "it has more than 255 bytes");
	if (r >= 0)
		r = take_host(a, name, text, ret);
	if (r < 0)
		return r;
	if (!is_repository(ret->repository))
		return no_name(text,
			"a repository has lower-case letters and digits, with . _ __ - between "
			"them, and slashes");
	/*
	 * A short name of 64 hex digits is refused, because docker takes it for the ID of an image.
	 */
	if (!ret->host && strlen(ret->repository) == 64 &&
		strspn(ret->repository, "0123456789abcdef") == 64)
		return no_name(text, "64 hexadecimal digits are an image's ID");
	return 0;
}

const char *reference_text(struct arena *a, const struct reference *r)
{
	bool has_digest = *r->digest.text;
	const char *tag = r->tag ? r->tag : has_digest ? NULL : "latest";

	return arena_printf(a, "%s%s%s%s%s%s%s", r->host ? r->host : "", r->host ? "/" : "",
		r->repository, tag ? ":" : "", tag ? tag : "", has_digest ? "@" : "",
		r->digest.text);
}
