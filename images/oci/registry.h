/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client of a repository in a registry, as OCI distribution-spec 1.1 describes it.
 *
 * Credentials and tokens go only to the registry's own origin (scheme, host and port). If a
 * redirect or an upload's Location leads elsewhere, the request goes there without credentials and
 * tokens. A token server of another origin gets credentials only if the user lists it (struct
 * registry_options), or if it is known to belong to the registry. Any token server may be asked by
 * https without credentials. The system's CAs and certs.d decide whether a certificate is valid.
 * Plain HTTP is tried only for this machine's own addresses, and for registries that
 * registries.conf calls "insecure".
 *
 * Order of calls: registry_open(), then any other functions, then registry_close(). Several threads
 * may call these other functions, each with a struct http of its own. A request that fails for a
 * while (429, 500 to 504, a cut connection) is repeated after growing pauses, or when Retry-After
 * says.
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
	/*
	 * file with credentials, and directory with certificates; NULL: podman's and docker's usual
	 * places
	 */
	const char *auth_file, *cert_dir;
	/* credentials for the registry; NULL: those that auth_find() finds */
	const struct credentials *credentials;
	/* URLs of token servers that may get credentials, such as "https://auth.example.com" */
	const char *realms[REGISTRY_REALMS_MAX];
	size_t nrealms;
	bool insecure; /* whether the user allows plain HTTP and unchecked certificates */
	/*
	 * Called before a pause of at least a second, with a text that says for what the pause is.
	 * Several threads may call it at the same time. May be NULL.
	 */
	void (*pausing)(void *data, const char *text);
	void *data;
};

struct registry_token {
	const char *scope, *text;
	int64_t until; /* end of the token's lifetime, in the time of clock_ms() */
};

struct registry {
	const char *host, *repository; /* host and repository as the user wrote them */
	const struct registry_options *options;
	const char *base; /* beginning of all URLs, such as "https://registry-1.docker.io" */
	struct http_origin origin;
	bool insecure;
	struct credentials credentials;
	bool has_credentials;
	atomic_bool cancel; /* all requests fail with -ECANCELED once it becomes true */
	/* the lock guards the members from here on */
	pthread_mutex_t lock;
	struct arena arena;
	struct challenge challenge;
	struct registry_token tokens[REGISTRY_TOKENS_MAX];
	size_t ntokens;
};

/*
 * Connects to the registry, and finds out how it authenticates clients. Returns -EACCES if the
 * registry wants credentials and none are known, or if the registry refuses the known credentials.
 */
int registry_open(struct registry *g, const struct endpoint *e, const struct registry_options *o)
	must_check;
void registry_close(struct registry *g);

/* Opens a struct http with which one thread makes its requests. */
int registry_handle(struct registry *g, struct http *ret) must_check;

struct manifest {
	struct strbuf text;
	char media_type[128];
	/* digest of the text, which was checked if the caller asked for the manifest by digest */
	struct digest digest;
};
void manifest_release(struct manifest *m);
#define _cleanup_manifest_ __attribute__((cleanup(manifest_release), unused))

/*
 * Fetches a manifest or an index by its tag or digest. Returns -ENOENT if the registry has no such
 * manifest.
 */
int registry_get_manifest(
	struct registry *g, struct http *h, const char *reference, struct manifest *ret) must_check;

struct transfer_events {
	/* called with the number of bytes of the blob that were moved so far; may be NULL */
	void (*bytes)(void *data, uint64_t done);
	void *data;
};

/*
 * Downloads that part of the blob which *w lacks, and finishes the blob, which checks the blob's
 * size and digest.
 */
int registry_get_blob(struct registry *g, struct http *h, const struct descriptor *d,
	struct blob_writer *w, const struct transfer_events *events) must_check;

/*
 * Puts a blob into the repository. Either the registry copies the blob from its own repository
 * `from` (NULL: no repository is known to have the blob), or this function uploads the file fd,
 * which is the blob, in chunks. Returns 1 if the registry had or copied the blob, and 0 if the blob
 * was uploaded.
 */
int registry_put_blob(struct registry *g, struct http *h, const struct descriptor *d, int fd,
	const char *from, const struct transfer_events *events) must_check;

/*
 * Uploads a manifest under a tag or its digest. *ret_subject tells whether the registry itself adds
 * the manifest to the list of referrers of the manifest's subject.
 */
int registry_put_manifest(struct registry *g, struct http *h, const char *reference,
	const struct manifest *m, bool *ret_subject) must_check;

/* A page of the list of referrers. */
struct referrers_page {
	struct manifest list;
	struct strbuf next; /* URL of the page that follows; empty: this is the last page */
};
void referrers_page_release(struct referrers_page *p);
#define _cleanup_referrers_page_ __attribute__((cleanup(referrers_page_release), unused))

/*
 * Fetches one page of the index of the manifests that refer to a digest: the page that p->next
 * names, or the first page if p->next is empty. If the registry has no API for referrers, the index
 * is under a tag made from the digest (distribution-spec, "Referrers tag schema"). Returns -ENOENT
 * if there is no such index.
 */
int registry_get_referrers(struct registry *g, struct http *h, const struct digest *subject,
	struct referrers_page *p) must_check;

/* Checks that the registry accepts the credentials, for `caisson image login`. */
int registry_check_login(struct registry *g, struct http *h) must_check;

/*
 * Returns the tag under which clients keep the referrers of a digest if the registry has no API for
 * them.
 */
const char *registry_referrers_tag(struct arena *a, const struct digest *subject) must_check;
