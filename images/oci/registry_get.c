/* SPDX-License-Identifier: Apache-2.0 */
/* Downloads manifests, blobs, and the lists of referrers of a manifest. */
#include <inttypes.h>
#include <stdio.h>

#include "images/oci/registry_internal.h"

/*
 * The types of manifests that a registry may send. A registry answers 404 if the type of the
 * manifest is not in this list. Wildcards do not help.
 */
static const char accept_manifests[] = "Accept: " MEDIA_OCI_INDEX ", " MEDIA_OCI_MANIFEST
				       ", " MEDIA_DOCKER_LIST ", " MEDIA_DOCKER_MANIFEST;

void manifest_release(struct manifest *m)
{
	strbuf_release(&m->text);
}

/*
 * Checks the digest of a manifest that the registry sent. If the manifest was asked for by digest,
 * it must have that digest. The header Docker-Content-Digest is compared only if it is sha256,
 * because many registries send sha256 whatever was asked for.
 */
static int check_manifest(const struct registry *g, const char *reference,
	const struct http_response *answer, struct manifest *ret)
{
	const char *colon = strchr(reference, ':');
	struct digest asked, said, found;

	int r = digest_of(DIGEST_SHA256, strbuf_str(&ret->text), ret->text.len, &ret->digest);
	if (r >= 0 && str_starts(answer->digest, "sha256:")) {
		r = digest_parse(answer->digest, "Docker-Content-Digest", &said);
		if (r >= 0 && !digest_equal(&said, &ret->digest))
			r = err_set(EBADMSG,
				"the registry %s says that %s is %s, but its bytes are %s", g->host,
				reference, said.text, ret->digest.text);
	}
	/* A reference without a colon is a tag. */
	if (r < 0 || !colon)
		return r;
	r = digest_parse(reference, "the digest of a manifest", &asked);
	if (r >= 0)
		r = digest_of(asked.algorithm, strbuf_str(&ret->text), ret->text.len, &found);
	if (r >= 0 && !digest_equal(&asked, &found))
		r = err_set(EBADMSG, "the registry %s gave other bytes for %s: their digest is %s",
			g->host, asked.text, found.text);
	if (r >= 0)
		ret->digest = asked;
	return r;
}

int registry_get_manifest(
	struct registry *g, struct http *h, const char *reference, struct manifest *ret)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_response_ struct http_response answer = {0};
	struct registry_request q = {
		.http = {.method = "GET", .text_max = OCI_DOCUMENT_MAX},
		.path = arena_printf(&a, "/v2/%s/manifests/%s", g->repository, reference),
		.scope = registry_scope(&a, g, "pull"),
		.follow = true,
		.arena = &a,
	};

	if (!q.path || !q.scope)
		return -ENOMEM;
	int r = http_add_header(&q.http, accept_manifests);
	if (r >= 0)
		r = registry_do_patiently(g, h, &q, &answer);
	if (r < 0)
		return r;
	const char *what = arena_printf(
		&a, "%s%c%s", g->repository, strchr(reference, ':') ? '@' : ':', reference);
	if (answer.status != 200)
		return registry_failure(g, &answer, what ? what : reference);
	if (answer.text.len == 0)
		return err_set(EBADMSG, "the registry %s gave an empty manifest", g->host);
	ret->text = answer.text;
	answer.text = (struct strbuf){0};
	memcpy(ret->media_type, answer.content_type, sizeof(ret->media_type));
	return check_manifest(g, reference, &answer, ret);
}

/* The state of a blob's download. */
struct download {
	struct blob_writer *w;
	const struct descriptor *d;
	const struct transfer_events *events;
	bool begun; /* whether begin() has looked at the answer's headers */
};

/*
 * Looks at the headers of the answer to the request for a blob. A request for a range of the blob
 * may be answered by that range or by the whole blob.
 */
static int begin(struct download *b, const struct http_response *answer)
{
	uint64_t from, to, size;

	if (answer->status == 206) {
		if (http_parse_range(answer->content_range, &from, &to, &size) < 0 ||
			from != b->w->written || to >= b->d->size ||
			(size != UINT64_MAX && size != b->d->size))
			return err_set(EBADMSG, "%s: the range \"%.60s\" is not what was asked for",
				b->d->digest.text, answer->content_range);
		return 0;
	}
	if (answer->status != 200)
		return err_set(
			EBADMSG, "%s: status %ld for a blob", b->d->digest.text, answer->status);
	if (answer->length != UINT64_MAX && answer->length != b->d->size)
		return err_set(EBADMSG,
			"%s: the registry has %" PRIu64 " bytes of it, its size is %" PRIu64,
			b->d->digest.text, answer->length, b->d->size);
	return b->w->written > 0 ? blob_restart(b->w) : 0;
}

static int take(void *data, const struct http_response *answer, const void *bytes, size_t n)
{
	struct download *b = data;
	int r = b->begun ? 0 : begin(b, answer);

	b->begun = true;
	if (r >= 0)
		r = blob_write(b->w, bytes, n);
	if (r >= 0 && b->events->bytes)
		b->events->bytes(b->events->data, b->w->written);
	return r;
}

static int get_once(
	struct registry *g, struct http *h, struct download *b, struct http_response *answer)
{
	_cleanup_arena_ struct arena a = {0};
	const char *digest = b->d->digest.text;
	struct registry_request q = {
		.http = {.method = "GET", .sink = take, .data = b},
		.path = arena_printf(&a, "/v2/%s/blobs/%s", g->repository, digest),
		.scope = registry_scope(&a, g, "pull"),
		.follow = true,
		.arena = &a,
	};
	int r = 0;

	if (!q.path || !q.scope)
		return -ENOMEM;
	b->begun = false;
	if (b->w->written > 0)
		r = http_add_header(
			&q.http, arena_printf(&a, "Range: bytes=%" PRIu64 "-", b->w->written));
	if (r >= 0)
		r = registry_do(g, h, &q, answer);
	if (r < 0)
		return r;
	/*
	 * Status 416 means that the server supports no ranges, or refuses this one, so the download
	 * starts from the beginning.
	 */
	if (answer->status == 416 && b->w->written > 0) {
		r = blob_restart(b->w);
		return r < 0 ? r : err_set(EPIPE, "%s: no such range", digest);
	}
	if (answer->status != 200 && answer->status != 206)
		return 0;
	if (b->w->written < b->d->size)
		return err_set(EPIPE, "%s: ends after %" PRIu64 " of %" PRIu64 " bytes", digest,
			b->w->written, b->d->size);
	return 0;
}

/*
 * Downloads the rest of the blob. The number of failed attempts is counted from 0 again after an
 * attempt that got more bytes.
 */
static int get_bytes(struct registry *g, struct http *h, struct download *b)
{
	struct backoff pauses = {0};

	/*
	 * No request is made if all bytes of the blob are there, because registries give wrong
	 * answers to the request for a range that starts at the end of the blob.
	 */
	while (b->w->written < b->d->size) {
		_cleanup_response_ struct http_response answer = {0};
		uint64_t before = b->w->written;
		int r = get_once(g, h, b, &answer);
		if (r >= 0 && (answer.status == 200 || answer.status == 206))
			return 0;
		if (b->w->written > before)
			pauses.tries = 0;
		if (registry_try_again(g, &pauses, r, &answer))
			continue;
		return r < 0 ? r : registry_failure(g, &answer, b->d->digest.text);
	}
	return 0;
}

int registry_get_blob(struct registry *g, struct http *h, const struct descriptor *d,
	struct blob_writer *w, const struct transfer_events *events)
{
	struct download b = {.w = w, .d = d, .events = events};
	bool continued = w->written > 0;
	int r = get_bytes(g, h, &b);

	if (r >= 0)
		r = blob_finish(w, NULL, NULL);
	/*
	 * If the blob has the wrong digest and its first bytes came from an earlier, interrupted
	 * download, the blob is downloaded once more from its beginning, because these bytes may be
	 * wrong or from another registry.
	 */
	if (r == -EBADMSG && continued) {
		r = blob_begin(w->store, &d->digest, d->size, w);
		if (r != 0)
			return r < 0 ? r : 0;
		r = get_bytes(g, h, &b);
		if (r >= 0)
			r = blob_finish(w, NULL, NULL);
	}
	return r;
}

void referrers_page_release(struct referrers_page *p)
{
	manifest_release(&p->list);
	strbuf_release(&p->next);
}

/*
 * Takes the list of referrers from one page, and finds the URL of the next page, which the header
 * Link names.
 */
static int take_page(const struct registry *g, struct arena *a, const char *url,
	struct http_response *answer, struct referrers_page *p)
{
	const char *next;

	p->list.text = answer->text;
	answer->text = (struct strbuf){0};
	snprintf(p->list.media_type, sizeof(p->list.media_type), "%s", MEDIA_OCI_INDEX);
	int r = digest_of(
		DIGEST_SHA256, strbuf_str(&p->list.text), p->list.text.len, &p->list.digest);
	if (r >= 0)
		r = http_find_next(a, strbuf_str(&answer->link), &next);
	strbuf_reset(&p->next);
	if (r < 0 || !next)
		return r;
	r = registry_resolve(g, a, url, next, &next);
	return r < 0 ? r : strbuf_add(&p->next, next, strlen(next));
}

int registry_get_referrers(
	struct registry *g, struct http *h, const struct digest *subject, struct referrers_page *p)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_response_ struct http_response answer = {0};
	const bool first = p->next.len == 0;
	const char *url = NULL;
	struct registry_request q = {
		.http = {.method = "GET", .text_max = OCI_DOCUMENT_MAX},
		.scope = registry_scope(&a, g, "pull"),
		.follow = true,
		.ret_url = &url,
		.arena = &a,
	};

	manifest_release(&p->list);
	p->list = (struct manifest){0};
	if (first)
		q.path = arena_printf(&a, "/v2/%s/referrers/%s", g->repository, subject->text);
	else
		q.url = arena_strdup(&a, strbuf_str(&p->next));
	if ((!q.path && !q.url) || !q.scope)
		return -ENOMEM;
	int r = http_add_header(&q.http, "Accept: " MEDIA_OCI_INDEX);
	if (r >= 0)
		r = registry_do_patiently(g, h, &q, &answer);
	if (r < 0)
		return r;
	if (answer.status == 200 && streq(answer.content_type, MEDIA_OCI_INDEX))
		return take_page(g, &a, url, &answer, p);
	/*
	 * Several error statuses of the first page mean that the registry has no API for referrers,
	 * because such registries answer 404 or another status.
	 */
	if (!first || (answer.status != 404 && answer.status != 400 && answer.status != 405 &&
			      answer.status != 200))
		return registry_failure(g, &answer, "its referrers");
	const char *tag = registry_referrers_tag(&a, subject);
	return tag ? registry_get_manifest(g, h, tag, &p->list) : -ENOMEM;
}
