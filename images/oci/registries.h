/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a name leads: containers-registries.conf(5), version 2, as podman, skopeo and buildah read
 * it. Read are
 *	$CONTAINERS_REGISTRIES_CONF; else ~/.config/containers/registries.conf, for users who have
 *	it; else /etc/containers/registries.conf
 *	and behind it the files *.conf of /etc/containers/registries.conf.d and of
 *	~/.config/containers/registries.conf.d, in the order of their names
 *
 * A short name is never sent to a registry that no file names. If there is no such file at all, it
 * means docker.io's, as it does to docker, and the caller is told so that it can say so.
 */
#pragma once
#include "base/json.h"
#include "images/oci/reference.h"

#define REGISTRIES_FILES_MAX 64
#define REGISTRIES_CANDIDATES_MAX 16
#define REGISTRIES_ENDPOINTS_MAX 16

struct registries {
	const struct json *files[REGISTRIES_FILES_MAX]; /* the last one that says something wins */
	const char *paths[REGISTRIES_FILES_MAX];
	size_t n;
};

/* A registry, and the repository there. */
struct endpoint {
	const char *host, *repository;
	bool insecure; /* TLS without a check, and plain HTTP, are allowed */
	bool mirror;
};

struct endpoints {
	struct endpoint v[REGISTRIES_ENDPOINTS_MAX]; /* to be tried in this order */
	size_t n;
};

struct candidates {
	struct reference v[REGISTRIES_CANDIDATES_MAX]; /* to be tried in this order */
	size_t n;
	const char *why; /* for the user, if the name was a short one, else NULL */
};

int registries_load(struct arena *a, struct registries *ret) must_check;

/*
 * The full names that a name may mean. -EINVAL: a short name that no file explains, or that several
 * registries of the search list could mean (unless short-name-mode is "permissive" or "disabled").
 */
int registries_candidates(const struct registries *g, struct arena *a, const struct reference *r,
	struct candidates *ret) must_check;

/* Where a full name is fetched from: its mirrors, then itself. -EPERM: it is blocked. */
int registries_endpoints(const struct registries *g, struct arena *a, const struct reference *r,
	struct endpoints *ret) must_check;
