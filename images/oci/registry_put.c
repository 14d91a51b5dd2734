/* SPDX-License-Identifier: Apache-2.0 */
/* Uploads blobs and manifests. */
#include <inttypes.h>
#include <stdio.h>

#include "images/oci/registry_internal.h"

#define CHUNK (16u << 20)

/* Returns 1 if the registry has the blob, else 0. */
static int registry_has_blob(struct registry *g, struct http *h, const struct digest *d)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_response_ struct http_response answer = {0};
	struct registry_request q = {
		.http = {.method = "HEAD"},
		.path = arena_printf(&a, "/v2/%s/blobs/%s", g->repository, d->text),
		.scope = registry_scope(&a, g, "pull,push"),
		.follow = true,
		.arena = &a,
	};

	if (!q.path || !q.scope)
		return -ENOMEM;
	int r = registry_do_patiently(g, h, &q, &answer);
	if (r < 0)
		return r;
	if (answer.status == 200 || answer.status == 404)
		return answer.status == 200;
	return registry_failure(g, &answer, d->text);
}

/* The state of an upload. Each answer of the registry gives the URL for the next request. */
struct upload {
	struct registry *g;
	struct http *h;
	const struct descriptor *d;
	const struct transfer_events *events;
	int fd;
	struct arena arena;
	const char *url, *scope;
	uint64_t done;
};

static int take_location(struct upload *u, const struct http_response *answer, const char *from)
{
	if (answer->location.len == 0)
		return err_set(
			EPROTO, "the registry %s does not say where an upload goes", u->g->host);
	return registry_resolve(u->g, &u->arena, from, strbuf_str(&answer->location), &u->url);
}

/*
 * Begins the upload of a blob. Returns 1 if the registry has copied the blob from its repository
 * `from`, so that no upload is needed, else 0.
 */
static int begin(struct upload *u, const char *from)
{
	_cleanup_response_ struct http_response answer = {0};
	const char *url = NULL;
	struct registry_request q = {
		.http = {.method = "POST"},
		.scope = u->scope,
		.ret_url = &url,
		.arena = &u->arena,
	};

	q.path = from ? arena_printf(&u->arena, "/v2/%s/blobs/uploads/?mount=%s&from=%s",
				u->g->repository, u->d->digest.text, from)
		      : arena_printf(&u->arena, "/v2/%s/blobs/uploads/", u->g->repository);
	if (!q.path)
		return -ENOMEM;
	int r = registry_do_patiently(u->g, u->h, &q, &answer);
	if (r < 0)
		return r;
	if (from && answer.status == 201)
		return 1;
	/*
	 * If the registry has not copied the blob, an ordinary upload begins, because a registry
	 * may answer the request to copy with an error if the client may not read the other
	 * repository.
	 */
	if (from && answer.status != 202)
		return begin(u, NULL);
	if (answer.status != 202)
		return registry_failure(u->g, &answer, "an upload");
	u->done = 0;
	return take_location(u, &answer, url);
}

static void sent(void *data, uint64_t bytes)
{
	struct upload *u = data;

	u->done += bytes;
	if (u->events->bytes)
		u->events->bytes(u->events->data, u->done);
}

/*
 * Asks the registry, after an upload was cut, how many bytes of the blob it has. The answer "0-0"
 * may mean no byte or one byte, so after this answer the upload begins anew.
 */
static int ask_state(struct upload *u)
{
	_cleanup_response_ struct http_response answer = {0};
	const char *url = NULL;
	struct registry_request q = {
		.http = {.method = "GET"},
		.url = u->url,
		.scope = u->scope,
		.ret_url = &url,
		.arena = &u->arena,
	};
	uint64_t from, to, size;
	int r = registry_do_patiently(u->g, u->h, &q, &answer);

	if (r < 0)
		return r;
	if (answer.status == 204 && http_parse_range(answer.range, &from, &to, &size) >= 0 &&
		from == 0 && to > 0 && to < u->d->size) {
		u->done = to + 1;
		return answer.location.len ? take_location(u, &answer, url) : 0;
	}
	r = begin(u, NULL);
	return r < 0 ? r : 0;
}

static int patch(struct upload *u, struct http_response *answer)
{
	const char *url = NULL;
	uint64_t left = u->d->size - u->done, n = left < CHUNK ? left : CHUNK;
	struct registry_request q = {
		.http = {.method = "PATCH",
			.body_fd = u->fd,
			.body_at = u->done,
			.body_size = n,
			.has_body = true,
			.sent = sent,
			.data = u},
		.url = u->url,
		.scope = u->scope,
		.ret_url = &url,
		.arena = &u->arena,
	};
	uint64_t start = u->done;

	int r = http_add_header(&q.http, "Content-Type: application/octet-stream");
	if (r >= 0)
		r = http_add_header(
			&q.http, arena_printf(&u->arena, "Content-Range: %" PRIu64 "-%" PRIu64,
					 start, start + n - 1));
	if (r >= 0)
		r = registry_do(u->g, u->h, &q, answer);
	if (r < 0)
		return r;
	if (answer->status != 202 && answer->status != 204)
		return 0;
	u->done = start + n;
	return take_location(u, answer, url);
}

static int send_chunks(struct upload *u)
{
	struct backoff pauses = {0};

	while (u->done < u->d->size) {
		_cleanup_response_ struct http_response answer = {0};
		uint64_t before = u->done;
		int r = patch(u, &answer);
		if (r >= 0 && (answer.status == 202 || answer.status == 204)) {
			pauses.tries = 0;
			continue;
		}
		u->done = before;
		/*
		 * Status 416 means that the registry has another number of bytes than this client
		 * has counted, and status 404 that the registry has lost the upload. After both the
		 * client asks for the state of the upload and goes on.
		 */
		bool lost = r >= 0 && (answer.status == 416 || answer.status == 404);
		if (!registry_try_again(u->g, &pauses, lost ? -EPIPE : r, &answer))
			return r < 0 ? r : registry_failure(u->g, &answer, "an upload");
		r = ask_state(u);
		if (r < 0)
			return r;
	}
	return 0;
}

static int finish(struct upload *u)
{
	_cleanup_response_ struct http_response answer = {0};
	struct registry_request q = {
		.http = {.method = "PUT"},
		.scope = u->scope,
		.arena = &u->arena,
	};

	q.url = arena_printf(&u->arena, "%s%cdigest=%s", u->url, strchr(u->url, '?') ? '&' : '?',
		u->d->digest.text);
	if (!q.url)
		return -ENOMEM;
	int r = registry_do_patiently(u->g, u->h, &q, &answer);
	if (r < 0)
		return r;
	if (answer.status != 201 && answer.status != 204)
		return registry_failure(u->g, &answer, u->d->digest.text);
	return 0;
}

int registry_put_blob(struct registry *g, struct http *h, const struct descriptor *d, int fd,
	const char *from, const struct transfer_events *events)
{
	struct upload u = {.g = g, .h = h, .d = d, .fd = fd, .events = events};
	int r = registry_has_blob(g, h, &d->digest);

	if (r != 0)
		return r;
	u.scope = registry_scope(&u.arena, g, "pull,push");
	if (u.scope && from)
		u.scope = arena_printf(&u.arena, "%s repository:%s:pull", u.scope, from);
	r = u.scope ? begin(&u, from) : -ENOMEM;
	if (r == 0) {
		r = send_chunks(&u);
		if (r >= 0)
			r = finish(&u);
	}
	arena_release(&u.arena);
	return r;
}

int registry_put_manifest(struct registry *g, struct http *h, const char *reference,
	const struct manifest *m, bool *ret_subject)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_response_ struct http_response answer = {0};
	struct registry_request q = {
		.http = {.method = "PUT", .body = strbuf_str(&m->text)},
		.path = arena_printf(&a, "/v2/%s/manifests/%s", g->repository, reference),
		.scope = registry_scope(&a, g, "pull,push"),
		.arena = &a,
	};

	*ret_subject = false;
	if (!q.path || !q.scope)
		return -ENOMEM;
	if (strlen(strbuf_str(&m->text)) != m->text.len)
		return err_set(EINVAL, "a manifest holds a NUL character");
	int r = http_add_header(&q.http, arena_printf(&a, "Content-Type: %s", m->media_type));
	if (r >= 0)
		r = registry_do_patiently(g, h, &q, &answer);
	if (r < 0)
		return r;
	if (answer.status != 201 && answer.status != 202 && answer.status != 200)
		return registry_failure(g, &answer, "a manifest");
	if (str_starts(answer.digest, "sha256:") && str_starts(m->digest.text, "sha256:") &&
		!streq(answer.digest, m->digest.text))
		return err_set(EBADMSG, "the registry %s has stored %s, not %s", g->host,
			answer.digest, m->digest.text);
	*ret_subject = *answer.subject != '\0';
	return 0;
}

const char *registry_referrers_tag(struct arena *a, const struct digest *subject)
{
	return arena_printf(
		a, "%s-%.64s", digest_algorithm_name(subject->algorithm), digest_hex(subject));
}
