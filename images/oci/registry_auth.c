/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gets tokens: by the "token" authentication of distribution-spec, or by OAuth 2 for identity
 * tokens.
 */
#include <stdio.h>

#include "base/clock.h"
#include "images/oci/registry_internal.h"

#define CLIENT_ID "caisson"
#define TOKEN_MARGIN_MS 5000

/* Token servers of other origins that are known to belong to their registries. */
static const struct {
	const char *registry, *realm;
} known_realms[] = {
	{"registry-1.docker.io", "https://auth.docker.io"},
	{"registry.gitlab.com", "https://gitlab.com"},
};

const char *registry_scope(struct arena *a, const struct registry *g, const char *actions)
{
	return arena_printf(a, "repository:%s:%s", g->repository, actions);
}

static bool is_listed(const struct registry *g, const struct http_origin *realm)
{
	struct http_origin o;

	for (size_t i = 0; i < ARRAY_SIZE(known_realms); i++)
		if (streq(known_realms[i].registry, g->origin.host) &&
			http_origin(known_realms[i].realm, &o) >= 0 && http_same_origin(&o, realm))
			return true;
	for (size_t i = 0; i < g->options->nrealms; i++)
		if (http_origin(g->options->realms[i], &o) >= 0 && http_same_origin(&o, realm))
			return true;
	return false;
}

/*
 * Checks whether the token server with the URL `url` may be asked, and whether it may get
 * credentials.
 */
static int check_realm(const struct registry *g, const char *url)
{
	struct http_origin realm;
	char redacted[200];
	int r = http_origin(url, &realm);

	if (r < 0)
		return err_ctx(r, "the registry %s: the realm of its tokens", g->host);
	if (http_same_origin(&realm, &g->origin) || is_listed(g, &realm))
		return 0;
	http_redact(url, redacted, sizeof(redacted));
	if (realm.plain)
		return err_set(EPERM,
			"the registry %s wants a token from %s, by plain HTTP: list the server by "
			"--trust-realm if it is the registry's own",
			g->host, redacted);
	if (g->has_credentials)
		return err_set(EPERM,
			"the registry %s wants its users to log in at %s, which is another server: "
			"credentials do not go there unless it is listed by --trust-realm",
			g->host, redacted);
	return 0;
}

static int add_parameter(struct strbuf *b, const char *name, const char *value)
{
	int r = strbuf_addf(b, "%s%s=", b->len ? "&" : "", name);

	return r < 0 ? r : http_escape(b, value);
}

/*
 * Adds the scopes to the query: each word of a text such as "repository:a:pull repository:b:pull"
 * becomes one parameter.
 */
static int add_scopes(struct arena *a, struct strbuf *b, const char *scopes)
{
	int r = 0;

	for (const char *p = scopes; *p && r >= 0; p += strspn(p, " ")) {
		size_t len = strcspn(p, " ");
		const char *one = arena_strndup(a, p, len);
		r = one ? add_parameter(b, "scope", one) : -ENOMEM;
		p += len;
	}
	return r;
}

/*
 * Asks for a token: by POST if there is an identity token, else by GET, with user and password if
 * these are known.
 */
static int ask(struct registry *g, struct arena *a, const char *scope, struct http_request *q,
	struct strbuf *form)
{
	const struct challenge *c = &g->challenge;
	const struct credentials *known = &g->credentials;
	const char *basic;
	int r = 0;

	if (c->service)
		r = add_parameter(form, "service", c->service);
	if (r >= 0 && known->identity_token) {
		r = add_parameter(form, "grant_type", "refresh_token");
		if (r >= 0)
			r = add_parameter(form, "client_id", CLIENT_ID);
		if (r >= 0)
			r = add_parameter(form, "scope", scope);
		if (r >= 0)
			r = add_parameter(form, "refresh_token", known->identity_token);
		q->method = "POST";
		q->url = c->realm;
		q->body = strbuf_str(form);
		return r < 0 ? r
			     : http_add_header(
				       q, "Content-Type: application/x-www-form-urlencoded");
	}
	if (r >= 0)
		r = add_scopes(a, form, scope);
	if (r < 0)
		return r;
	q->method = "GET";
	q->url = arena_printf(
		a, "%s%c%s", c->realm, strchr(c->realm, '?') ? '&' : '?', strbuf_str(form));
	if (!q->url)
		return -ENOMEM;
	if (!known->user)
		return 0;
	r = auth_basic(a, known, &basic);
	return r < 0 ? r : http_add_header(q, arena_printf(a, "Authorization: Basic %s", basic));
}

static int keep_token(struct registry *g, const char *scope, const struct token *t)
{
	struct registry_token *slot = NULL;

	for (size_t i = 0; i < g->ntokens; i++)
		if (streq(g->tokens[i].scope, scope))
			slot = &g->tokens[i];
	if (!slot && g->ntokens < REGISTRY_TOKENS_MAX)
		slot = &g->tokens[g->ntokens++];
	if (!slot)
		slot = &g->tokens[0];
	slot->scope = arena_strdup(&g->arena, scope);
	slot->text = arena_strdup(&g->arena, t->text);
	slot->until = clock_ms() + t->seconds * 1000 - TOKEN_MARGIN_MS;
	if (slot->scope && slot->text)
		return 0;
	g->ntokens = 0;
	return -ENOMEM;
}

static int fetch_token(
	struct registry *g, struct http *h, const char *scope, struct token *ret, struct arena *a)
{
	_cleanup_response_ struct http_response answer = {0};
	_cleanup_strbuf_ struct strbuf form = {0};
	struct http_request q = {0};
	struct http_origin realm;
	struct backoff pauses = {0};
	char redacted[200];
	int r = check_realm(g, g->challenge.realm);

	if (r >= 0)
		r = http_origin(g->challenge.realm, &realm);
	if (r < 0)
		return r;
	/*
	 * The user's settings for the registry's certificate are used for the token server too, but
	 * only if the token server has the registry's own origin.
	 */
	bool own = http_same_origin(&realm, &g->origin);
	q.insecure = own && g->insecure;
	h->cert_dir = own ? g->options->cert_dir : NULL;
	if (r >= 0)
		r = ask(g, a, scope, &q, &form);
	if (r < 0)
		return r;
	do
		r = http_do(h, &q, &answer);
	while (registry_try_again(g, &pauses, r, &answer));
	if (r < 0)
		return r;
	http_redact(g->challenge.realm, redacted, sizeof(redacted));
	if (answer.status == 401 || answer.status == 403 || answer.status == 400)
		return err_set(EACCES,
			"the registry %s denies access to %s%s: log in by `caisson image login "
			"%s`",
			g->host, g->repository && *g->repository ? g->repository : "it",
			g->has_credentials ? " with the credentials that are known" : "", g->host);
	if (answer.status != 200)
		return err_set(EPROTO, "%s: status %ld in answer to a request for a token",
			redacted, answer.status);
	return token_parse(a, &answer.text, redacted, ret);
}

static const char *find_token(const struct registry *g, const char *scope)
{
	for (size_t i = 0; i < g->ntokens; i++)
		if (streq(g->tokens[i].scope, scope) && clock_ms() < g->tokens[i].until)
			return g->tokens[i].text;
	return NULL;
}

/*
 * Adds a Bearer token to the request. The caller holds g->lock, so that other threads that need the
 * same token wait for it.
 */
static int add_bearer(struct registry *g, struct http *h, struct arena *a, const char *scope,
	struct http_request *q)
{
	struct token t = {.text = find_token(g, scope)};

	if (!t.text) {
		int r = fetch_token(g, h, scope, &t, a);
		if (r >= 0)
			r = keep_token(g, scope, &t);
		if (r < 0)
			return r;
	}
	return http_add_header(q, arena_printf(a, "Authorization: Bearer %s", t.text));
}

int auth_add(struct registry *g, struct http *h, struct arena *a, const char *scope,
	struct http_request *q)
{
	const char *basic;
	int r = 0;

	pthread_mutex_lock(&g->lock);
	if (g->challenge.kind == CHALLENGE_BEARER) {
		r = add_bearer(g, h, a, scope, q);
	} else if (g->challenge.kind == CHALLENGE_BASIC && g->credentials.user) {
		r = auth_basic(a, &g->credentials, &basic);
		if (r >= 0)
			r = http_add_header(q, arena_printf(a, "Authorization: Basic %s", basic));
	}
	pthread_mutex_unlock(&g->lock);
	return r;
}

int auth_learn(struct registry *g, const char *challenges, const char *scope)
{
	struct challenge c;

	pthread_mutex_lock(&g->lock);
	int r = challenge_parse(&g->arena, challenges, &c);
	if (r >= 0 && c.kind != CHALLENGE_NONE)
		g->challenge = c;
	/*
	 * The token for this scope is dropped, because the registry has refused it or it has
	 * expired.
	 */
	for (size_t i = 0; i < g->ntokens; i++)
		if (scope && streq(g->tokens[i].scope, scope))
			g->tokens[i].until = 0;
	pthread_mutex_unlock(&g->lock);
	if (r < 0)
		return err_ctx(r, "the registry %s", g->host);
	return c.kind == CHALLENGE_BEARER || (c.kind == CHALLENGE_BASIC && g->credentials.user);
}
