/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends requests to a registry, follows redirects, and repeats requests that failed, after a pause.
 */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/clock.h"
#include "images/oci/fields.h"
#include "images/oci/registry_internal.h"

#define DOCKER_API_HOST "registry-1.docker.io"
#define REDIRECTS_MAX 5
#define TRIES_MAX 6
#define FIRST_PAUSE_MS 250
#define PAUSE_MAX_MS 120000
#define SAID_PAUSE_MS 1000 /* shortest pause, in ms, of which the user is told */
/* largest number of seconds that Retry-After can ask for: a year */
#define RETRY_AFTER_MAX INT64_C(31536000)

static void open_lock(
	struct registry *g, const struct endpoint *e, const struct registry_options *o)
{
	*g = (struct registry){.host = e->host,
		.repository = e->repository ? e->repository : "",
		.options = o,
		.insecure = e->insecure || o->insecure};
	pthread_mutex_init(&g->lock, NULL);
}

static int set_base(struct registry *g, const char *scheme)
{
	const char *host = streq(g->host, REFERENCE_DOCKER_HOST) ? DOCKER_API_HOST : g->host;

	g->base = arena_printf(&g->arena, "%s://%s", scheme, host);
	return g->base ? http_origin(g->base, &g->origin) : -ENOMEM;
}

static int ping(struct registry *g, struct http *h, struct http_response *ret)
{
	_cleanup_arena_ struct arena a = {0};
	struct http_request q = {.method = "GET", .insecure = g->insecure};
	struct backoff pauses = {0};
	int r;

	q.url = arena_printf(&a, "%s/v2/", g->base);
	if (!q.url)
		return -ENOMEM;
	h->cert_dir = g->options->cert_dir;
	do
		r = http_do(h, &q, ret);
	while (r != -EPROTO && r != -ECONNREFUSED && registry_try_again(g, &pauses, r, ret));
	return r;
}

/*
 * Connects to the registry by https. If that fails and the registry may be used without TLS,
 * connects by http.
 */
static int find_scheme(struct registry *g, struct http *h, struct http_response *ret)
{
	char first[ERR_MAX];
	int r = set_base(g, "https");

	if (r < 0)
		return r;
	bool may_be_plain = g->insecure || http_is_loopback(g->origin.host);
	r = ping(g, h, ret);
	/*
	 * http is tried after EACCES too, because many proxies refuse to connect to a port other
	 * than 443, but fetch from such a port by http.
	 */
	if (r >= 0 || !may_be_plain ||
		(r != -EPROTO && r != -EPIPE && r != -ECONNREFUSED && r != -EACCES))
		return r;
	snprintf(first, sizeof(first), "%s", err_msg());
	int plain = set_base(g, "http");
	if (plain >= 0)
		plain = ping(g, h, ret);
	return plain >= 0 ? 0 : err_set(-r, "%s", first);
}

int registry_open(struct registry *g, const struct endpoint *e, const struct registry_options *o)
{
	_cleanup_http_ struct http h = {0};
	_cleanup_response_ struct http_response answer = {0};
	int r;

	open_lock(g, e, o);
	if (o->credentials) {
		g->credentials = *o->credentials;
		r = 1;
	} else {
		r = auth_find(&g->arena, o->auth_file, g->host, g->repository, &g->credentials);
	}
	g->has_credentials = r > 0;
	if (r >= 0)
		r = registry_handle(g, &h);
	if (r >= 0)
		r = find_scheme(g, &h, &answer);
	/*
	 * Every status of the first answer is accepted, because some registries answer the request
	 * for /v2/ with a status other than 200 and 401.
	 */
	if (r >= 0 && answer.status == 401)
		r = auth_learn(g, strbuf_str(&answer.challenges), NULL);
	return r < 0 ? r : 0;
}

void registry_close(struct registry *g)
{
	arena_release(&g->arena);
	pthread_mutex_destroy(&g->lock);
}

int registry_handle(struct registry *g, struct http *ret)
{
	*ret = (struct http){.cancel = &g->cancel};
	return http_init(ret);
}

static bool is_redirect(long status)
{
	return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

int registry_resolve(const struct registry *g, struct arena *a, const char *base,
	const char *location, const char **ret)
{
	struct http_origin from, to;
	char redacted[200];
	int r = http_origin(base, &from);

	http_redact(base, redacted, sizeof(redacted));
	if (r >= 0)
		r = http_resolve(a, base, location, ret);
	if (r >= 0)
		r = http_origin(*ret, &to);
	if (r >= 0 && to.plain && !from.plain && !g->insecure)
		return err_set(EPROTO, "%s: a redirect to plain HTTP", redacted);
	return r;
}

/*
 * Finds the URL to which an answer redirects a request. A redirect from https to http is refused.
 */
static int next_url(const struct registry *g, const struct registry_request *q,
	const struct http_response *answer, const char **url)
{
	char redacted[200];

	http_redact(*url, redacted, sizeof(redacted));
	if (!q->follow)
		return err_set(EPROTO, "%s: a redirect, where none may be", redacted);
	if (answer->location.len == 0)
		return err_set(EPROTO, "%s: a redirect that does not say where to", redacted);
	return registry_resolve(g, q->arena, *url, strbuf_str(&answer->location), url);
}

static int do_once(struct registry *g, struct http *h, const struct registry_request *q,
	const char *url, struct http_response *ret)
{
	struct http_request request = q->http;
	struct http_origin origin;
	int r = http_origin(url, &origin);

	if (r < 0)
		return r;
	bool own = http_same_origin(&origin, &g->origin);
	request.url = url;
	/*
	 * The server's certificate may be left unchecked only if the server is the registry itself,
	 * because the user's permission does not hold for servers to which the registry redirects.
	 */
	request.insecure = g->insecure && own;
	h->cert_dir = own ? g->options->cert_dir : NULL;
	if (own)
		r = auth_add(g, h, q->arena, q->scope, &request);
	if (r >= 0)
		r = http_do(h, &request, ret);
	if (r >= 0 && ret->status == 401 && own) {
		r = auth_learn(g, strbuf_str(&ret->challenges), q->scope);
		return r < 0 ? r : r > 0 ? -EAGAIN : 0;
	}
	return r;
}

int registry_do(struct registry *g, struct http *h, const struct registry_request *q,
	struct http_response *ret)
{
	const char *url = q->path ? arena_printf(q->arena, "%s%s", g->base, q->path) : q->url;
	bool again = true;

	if (!url)
		return -ENOMEM;
	for (int hops = 0; hops <= REDIRECTS_MAX;) {
		int r = do_once(g, h, q, url, ret);
		if (r == -EAGAIN && again) {
			again = false;
			continue;
		}
		if (r < 0 && r != -EAGAIN)
			return r;
		if (q->ret_url)
			*q->ret_url = url;
		if (!is_redirect(ret->status))
			return 0;
		r = next_url(g, q, ret, &url);
		if (r < 0)
			return r;
		hops++;
	}
	char redacted[200];
	http_redact(url, redacted, sizeof(redacted));
	return err_set(ELOOP, "%s: more than %d redirects", redacted, REDIRECTS_MAX);
}

/*
 * Returns how many ms the registry wants the client to wait, from the header Retry-After, which is
 * a number of seconds or a date. Returns -1 if the answer has no valid header of this name.
 */
static int64_t retry_after_ms(const struct http_response *answer)
{
	uint64_t seconds;

	if (!*answer->retry_after)
		return -1;
	if (str_to_u64(answer->retry_after, &seconds) < 0) {
		time_t when = curl_getdate(answer->retry_after, NULL), now = time(NULL);
		if (when < 0)
			return -1;
		seconds = when > now ? (uint64_t)(when - now) : 0;
	}
	return seconds > RETRY_AFTER_MAX ? RETRY_AFTER_MAX * 1000 : (int64_t)seconds * 1000;
}

static bool is_passing(int r, const struct http_response *answer)
{
	if (r < 0)
		return r == -ECONNREFUSED || r == -EHOSTUNREACH || r == -ETIMEDOUT || r == -EPIPE;
	return answer->status == 408 || answer->status == 429 || answer->status == 500 ||
	       answer->status == 502 || answer->status == 503 || answer->status == 504;
}

/* Waits for ms milliseconds, but stops early if another thread of the transfer has failed. */
static void pause_ms(const struct registry *g, int64_t ms)
{
	const struct timespec step = {.tv_nsec = 50000000};
	int64_t until = clock_ms() + ms;

	while (clock_ms() < until && !atomic_load(&g->cancel))
		nanosleep(&step, NULL);
}

/* Tells the user that the program pauses, and why. */
static void say_pause(
	const struct registry *g, int r, const struct http_response *answer, int64_t ms)
{
	char text[400], why[200];
	long long seconds = (long long)(ms + 999) / 1000;

	if (ms < SAID_PAUSE_MS || !g->options->pausing)
		return;
	if (r < 0)
		snprintf(why, sizeof(why), "does not answer");
	else
		snprintf(why, sizeof(why), "answers with status %ld%s", answer->status,
			*answer->retry_after ? " and asks for a pause" : "");
	snprintf(text, sizeof(text), "the registry %.100s %s: the next try is in %lld second%s",
		g->host, why, seconds, seconds == 1 ? "" : "s");
	g->options->pausing(g->options->data, text);
}

bool registry_try_again(
	struct registry *g, struct backoff *b, int r, const struct http_response *answer)
{
	unsigned char jitter = 0;

	if (!is_passing(r, answer) || ++b->tries >= TRIES_MAX || atomic_load(&g->cancel))
		return false;
	int64_t ms = r < 0 ? -1 : retry_after_ms(answer);
	/*
	 * If the registry asks for a longer pause than PAUSE_MAX_MS, the request fails now, because
	 * the registry must not be asked again before the pause is over, and the user should not
	 * wait that long. The message says how long the pause is.
	 */
	if (ms > PAUSE_MAX_MS)
		return false;
	if (ms < 0) {
		/*
		 * The pause becomes up to a quarter longer or shorter, so that not all clients of
		 * the registry come back at the same time.
		 */
		(void)!getrandom(&jitter, sizeof(jitter), 0);
		ms = FIRST_PAUSE_MS << (b->tries - 1);
		ms = ms * 3 / 4 + ms * jitter / 512;
	}
	say_pause(g, r, answer, ms);
	pause_ms(g, ms);
	return !atomic_load(&g->cancel);
}

int registry_do_patiently(struct registry *g, struct http *h, const struct registry_request *q,
	struct http_response *ret)
{
	struct backoff pauses = {0};
	int r;

	do
		r = registry_do(g, h, q, ret);
	while (registry_try_again(g, &pauses, r, ret));
	return r;
}

/*
 * Describes an error answer of the registry for a message. distribution-spec defines the form of
 * its body: {"errors": [{"code": ..., "message": ...}]}.
 */
static void explain(const struct http_response *answer, char *buf, size_t size)
{
	_cleanup_arena_ struct arena a = {0};
	const struct json *root, *list, *first = NULL;

	*buf = '\0';
	if (answer->text.len > 0 && fields_parse(&a, &answer->text, "error", &root) >= 0) {
		list = json_get(root, "errors");
		first = list && list->type == JSON_ARRAY ? list->first : NULL;
	}
	const char *code = json_get_str(first, "code"), *message = json_get_str(first, "message");
	if (code || message)
		snprintf(buf, size, ": %.60s%s%.200s", code ? code : "",
			code && message ? ": " : "", message ? message : "");
	err_clear();
}

int registry_failure(const struct registry *g, const struct http_response *answer, const char *what)
{
	char why[300], later[100] = "";
	int64_t ms = retry_after_ms(answer);

	explain(answer, why, sizeof(why));
	if (ms > PAUSE_MAX_MS)
		snprintf(later, sizeof(later), " (it may be asked again in %lld seconds)",
			(long long)ms / 1000);
	switch (answer->status) {
	case 404:
		return err_set(ENOENT, "the registry %s has no %s%s", g->host, what, why);
	case 401:
	case 403:
		return err_set(EACCES,
			"the registry %s denies access to %s%s: log in by `caisson image login "
			"%s`",
			g->host, what, why, g->host);
	case 407:
		return err_set(EACCES,
			"the registry %s: the proxy wants a user and a password: http_proxy names "
			"them, as http://USER:PASSWORD@HOST:PORT",
			g->host);
	case 429:
		return err_set(EBUSY, "the registry %s has had too many requests, for %s%s%s",
			g->host, what, later, why);
	default:
		return err_set(EPROTO, "the registry %s: status %ld for %s%s%s", g->host,
			answer->status, what, later, why);
	}
}

int registry_check_login(struct registry *g, struct http *h)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_response_ struct http_response answer = {0};
	struct registry_request q = {
		.http = {.method = "GET"}, .path = "/v2/", .scope = "", .arena = &a};
	int r = registry_do_patiently(g, h, &q, &answer);

	if (r < 0)
		return r;
	if (answer.status == 401 || answer.status == 403)
		return err_set(
			EACCES, "the registry %s does not take the user and the password", g->host);
	return answer.status == 200 ? 0 : registry_failure(g, &answer, "a login");
}
