/* SPDX-License-Identifier: Apache-2.0 */
#include "images/oci/challenge.h"

#include <strings.h>

#include "images/oci/fields.h"

/* lifetime in seconds of a token whose answer gives no lifetime, as distribution-spec says */
#define TOKEN_SECONDS 60
#define TOKEN_SECONDS_MAX 3600

static bool is_token_char(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

static const char *skip(const char *p)
{
	while (*p == ' ' || *p == '\t' || *p == ',')
		p++;
	return p;
}

static const char *skip_word(const char *p)
{
	while (is_token_char(*p))
		p++;
	return p;
}

static int malformed(void)
{
	return err_set(EPROTO, "the registry's WWW-Authenticate is malformed");
}

/* Reads a quoted string or a word, and moves *p behind the end of what it read. */
static int value(struct arena *a, const char **p, const char **ret)
{
	const char *s = *p;
	size_t n = 0;

	if (*s != '"') {
		const char *end = skip_word(s);
		*ret = arena_strndup(a, s, (size_t)(end - s));
		*p = end;
		return *ret ? 0 : -ENOMEM;
	}
	char *copy = arena_alloc(a, strcspn(s, "\n") + 1);
	if (!copy)
		return -ENOMEM;
	for (s++; *s && *s != '"' && *s != '\n'; s++) {
		if (*s == '\\' && s[1] && s[1] != '\n')
			s++;
		if ((unsigned char)*s < ' ')
			return malformed();
		copy[n++] = *s;
	}
	if (*s != '"')
		return malformed();
	*ret = copy;
	*p = s + 1;
	return 0;
}

/*
 * Reads one challenge of the header WWW-Authenticate: a scheme, and its parameters up to the next
 * scheme or the end of the line.
 */
static int parse_one(struct arena *a, const char **p, struct challenge *ret)
{
	const char *end = skip_word(*p), *text;
	size_t len = (size_t)(end - *p);

	*ret = (struct challenge){0};
	if (len == 0)
		return malformed();
	if (len == 6 && strncasecmp(*p, "bearer", len) == 0)
		ret->kind = CHALLENGE_BEARER;
	else if (len == 5 && strncasecmp(*p, "basic", len) == 0)
		ret->kind = CHALLENGE_BASIC;
	for (*p = skip(end); **p && **p != '\n'; *p = skip(*p)) {
		const char *key = *p;
		end = skip_word(key);
		len = (size_t)(end - key);
		if (len == 0)
			return malformed();
		/*
		 * A word of the header WWW-Authenticate without "=" behind it is the scheme of the
		 * next challenge.
		 */
		if (*end != '=')
			return 0;
		*p = end + 1;
		int r = value(a, p, &text);
		if (r < 0)
			return r;
		if (len == 5 && strncasecmp(key, "realm", len) == 0)
			ret->realm = text;
		else if (len == 7 && strncasecmp(key, "service", len) == 0)
			ret->service = text;
	}
	return 0;
}

int challenge_parse(struct arena *a, const char *lines, struct challenge *ret)
{
	struct challenge one;

	*ret = (struct challenge){0};
	for (const char *p = lines; *p;) {
		p = skip(p);
		if (*p == '\n') {
			p++;
			continue;
		}
		if (!*p)
			break;
		int r = parse_one(a, &p, &one);
		if (r < 0)
			return r;
		if (one.kind == CHALLENGE_BEARER && !one.realm)
			return err_set(EPROTO, "the registry's Bearer challenge has no realm");
		if (one.kind > ret->kind)
			*ret = one;
	}
	return 0;
}

int token_parse(struct arena *a, const struct strbuf *text, const char *what, struct token *ret)
{
	const char *token, *access;
	const struct json *root;
	int64_t seconds;

	int r = fields_parse(a, text, what, &root);
	if (r >= 0)
		r = field_string(&(struct field){root, what, "token"}, &token);
	if (r >= 0)
		r = field_string(&(struct field){root, what, "access_token"}, &access);
	if (r < 0)
		return r;
	ret->text = token && *token ? token : access;
	if (!ret->text || !*ret->text)
		return err_set(EPROTO, "%s has no token", what);
	for (const char *p = ret->text; *p; p++)
		if (*p <= ' ' || *p > '~')
			return err_set(EPROTO,
				"%s has a token with a character that no header may "
				"have",
				what);
	r = json_get_i64(root, "expires_in", &seconds);
	ret->seconds = r < 0 || seconds < 0          ? TOKEN_SECONDS
		       : seconds > TOKEN_SECONDS_MAX ? TOKEN_SECONDS_MAX
						     : seconds;
	return 0;
}
