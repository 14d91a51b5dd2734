/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A registry's repository, by OCI distribution-spec 1.1.
 *
 * Who gets what: credentials and tokens go to the registry's own origin (scheme, host and port).
 * A redirect or an upload's Location that leads elsewhere is followed without them. A token server
 * elsewhere gets credentials only if the user lists it (struct registry_options), or if it is one
 * of those that are known to belong to the registry; without credentials any server of https is
 * asked. TLS is checked by the system's CAs and certs.d. Plain HTTP is tried only for this
 * machine's own addresses and where registries.conf says "insecure".
 *
 * Order of calls: registry_open(), then any, from several threads, each with a struct http of its
 * own, then registry_close(). What fails for a while (429, 500 to 504, a cut connection) is tried
 * again with growing pauses, or as Retry-After says.
 */
#pragma once
#include <pthread.h>

#include "images/oci/auth.h"
#include "images/oci/challenge.h"
#include "images/oci/http.h"
#include "images/oci/registries.h"
#include "images/oci/store.h"

#define REGISTRY_TOKENS_MAX 8
#define REGISTRY_REALMS_MAX 16

struct registry_options {
	const char *auth_file, *cert_dir;        /* NULL: the usual ones */
	const struct credentials *credentials;   /* NULL: what auth_find() finds */
	const char *realms[REGISTRY_REALMS_MAX]; /* "https://auth.example.com" */
	size_t nrealms;
	bool insecure; /* the user allows plain HTTP and unknown certificates */
};

struct registry_token {
	const char *scope, *text;
	int64_t until; /* clock_ms() */
};

struct registry {
	const char *host, *repository; /* as the user names them */
	const struct registry_options *options;
	const char *base; /* "https://registry-1.docker.io" */
	struct http_origin origin;
	bool insecure;
	struct credentials credentials;
	bool has_credentials;
	atomic_bool cancel; /* stops all requests */
	/* guarded by the lock */
	pthread_mutex_t lock;
	struct arena arena;
	struct challenge challenge;
	struct registry_token tokens[REGISTRY_TOKENS_MAX];
	size_t ntokens;
};

/*
 * Finds out how the registry is spoken to. -EACCES: it wants credentials and none are known, or
 * not these.
 */
int registry_open(struct registry *g, const struct endpoint *e, const struct registry_options *o)
	must_check;
void registry_close(struct registry *g);

/* Opens a handle for one thread. */
int registry_handle(struct registry *g, struct http *ret) must_check;

struct manifest {
	struct strbuf text;
	char media_type[128];
	struct digest digest; /* of the text, checked if it was asked for by digest */
};
void manifest_release(struct manifest *m);
#define _cleanup_manifest_ __attribute__((cleanup(manifest_release), unused))

/* Fetches a manifest or an index, by tag or digest. -ENOENT: there is none of that name. */
int registry_get_manifest(
	struct registry *g, struct http *h, const char *reference, struct manifest *ret) must_check;

struct transfer_events {
	void (*bytes)(void *data, uint64_t done); /* of this blob, so far; may be NULL */
	void *data;
};

/* Downloads what is missing of the blob, and finishes it: size and digest are checked. */
int registry_get_blob(struct registry *g, struct http *h, const struct descriptor *d,
	struct blob_writer *w, const struct transfer_events *events) must_check;

/* 1: the registry has the blob. 0: it does not. */
int registry_has_blob(struct registry *g, struct http *h, const struct digest *d) must_check;

/*
 * Uploads a blob that the file has from its beginning, in chunks, or has the registry take it from
 * its repository `from` (NULL: none is known). 1: it was there, or was taken over. 0: it was sent.
 */
int registry_put_blob(struct registry *g, struct http *h, const struct descriptor *d, int fd,
	const char *from, const struct transfer_events *events) must_check;

/* Uploads a manifest under a tag or its digest. *ret_subject: the registry keeps its subject. */
int registry_put_manifest(struct registry *g, struct http *h, const char *reference,
	const struct manifest *m, bool *ret_subject) must_check;

/*
 * Fetches the index of what refers to a digest: by the referrers API, else by the tag that stands
 * for it (distribution-spec, "Referrers tag schema"). -ENOENT: nothing does.
 */
int registry_get_referrers(struct registry *g, struct http *h, const struct digest *subject,
	struct manifest *ret) must_check;

/* Asks whether the credentials hold: for `login`. */
int registry_check_login(struct registry *g, struct http *h) must_check;

/* The tag that stands for the referrers of a digest where the registry has no API for them. */
const char *registry_referrers_tag(struct arena *a, const struct digest *subject) must_check;
