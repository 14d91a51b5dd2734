/* SPDX-License-Identifier: Apache-2.0 */
/* Declares the functions for requests to a registry, which the files registry*.c share. */
#pragma once
#include "images/oci/registry.h"

/* A request to the registry, before the registry's address and the credentials are added. */
struct registry_request {
	/*
	 * the HTTP request, in which the caller leaves out url, insecure and the header
	 * Authorization
	 */
	struct http_request http;
	const char *path; /* path of the URL, such as "/v2/..."; NULL: `url` is the whole URL */
	const char *url;
	/* the scope that a token for this request must have, as registry_scope() returns it */
	const char *scope;
	bool follow; /* whether the request follows redirects */
	/* where to store the URL that answered, which lives in the arena; may be NULL */
	const char **ret_url;
	struct arena *arena;
};

/*
 * Sends the request without pauses between attempts, and follows redirects if q->follow is set.
 * After a 401, authenticates and sends the request once more. Returns 0 if an answer came, whatever
 * the answer's status is, or -errno.
 */
int registry_do(struct registry *g, struct http *h, const struct registry_request *q,
	struct http_response *ret) must_check;

/*
 * Returns the scope that a token for this repository must have. `actions` is "pull" or "pull,push".
 */
const char *registry_scope(struct arena *a, const struct registry *g, const char *actions)
	must_check;

/*
 * Makes *ret the URL to which the answer to a request for `base` leads: by a redirect, by an
 * upload's Location, or as the next page of a list. Refuses to go from https to http, except for a
 * registry that may be used without TLS. `base` and *ret may be the old and the new value of the
 * same variable.
 */
int registry_resolve(const struct registry *g, struct arena *a, const char *base,
	const char *location, const char **ret) must_check;

/*
 * How often a request was tried, from which the next pause is computed. {0} initialises the
 * structure.
 */
struct backoff {
	int tries;
};

/*
 * Returns whether a failed request should be repeated, because the failure may be temporary. Waits
 * before it returns true. r is the result of the request; if the function returns false, the caller
 * returns r.
 */
bool registry_try_again(
	struct registry *g, struct backoff *b, int r, const struct http_response *answer);

/*
 * Does the request like registry_do(), and repeats it as long as registry_try_again() returns true.
 */
int registry_do_patiently(struct registry *g, struct http *h, const struct registry_request *q,
	struct http_response *ret) must_check;

/*
 * Returns the error for the status of an answer, with a message: -ENOENT for 404, -EACCES for 401,
 * 403 and 407, -EBUSY for 429, else -EPROTO.
 */
int registry_failure(const struct registry *g, const struct http_response *answer, const char *what)
	must_check;

/*
 * The functions of registry_auth.c. auth_add() adds the header Authorization if the registry wants
 * one.
 */
int auth_add(struct registry *g, struct http *h, struct arena *a, const char *scope,
	struct http_request *q) must_check;
/*
 * Learns from the challenges of an answer 401 how to authenticate. Returns 1 if the request should
 * be repeated, else 0.
 */
int auth_learn(struct registry *g, const char *challenges, const char *scope) must_check;
