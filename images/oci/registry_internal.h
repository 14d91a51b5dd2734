/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the registry client share. */
#pragma once
#include "images/oci/registry.h"

/* A request to the registry. */
struct registry_request {
	struct http_request http; /* without url, insecure and Authorization */
	const char *path;         /* "/v2/...", or NULL: url is absolute */
	const char *url;
	const char *scope;    /* what a token must allow */
	bool follow;          /* redirects */
	const char **ret_url; /* where the answer came from, in the arena; may be NULL */
	struct arena *arena;
};

/* 0: there is an answer, of whatever status but 401. It is tried once. */
int registry_do(struct registry *g, struct http *h, const struct registry_request *q,
	struct http_response *ret) must_check;

/* The scope of a token for this repository: actions is "pull" or "pull,push". */
const char *registry_scope(struct arena *a, const struct registry *g, const char *actions)
	must_check;

/* Pauses between tries. Initialise it with {0}. */
struct backoff {
	int tries;
};

/*
 * Whether what came of a request may be better later. If so, waits. The result is to be returned
 * otherwise.
 */
bool registry_try_again(
	struct registry *g, struct backoff *b, int r, const struct http_response *answer);

/* registry_do(), tried again as long as that makes sense. */
int registry_do_patiently(struct registry *g, struct http *h, const struct registry_request *q,
	struct http_response *ret) must_check;

/* The failure that an answer means: -ENOENT for 404, -EACCES for 401 and 403, else -EPROTO. */
int registry_failure(const struct registry *g, const struct http_response *answer, const char *what)
	must_check;

/* registry_auth.c: adds Authorization, as far as the registry wants it. */
int auth_add(struct registry *g, struct http *h, struct arena *a, const char *scope,
	struct http_request *q) must_check;
/* Learns from a 401. 1: it is worth another try. */
int auth_learn(struct registry *g, const char *challenges, const char *scope) must_check;
