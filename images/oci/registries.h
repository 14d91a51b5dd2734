/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the registries that a name may mean: containers-registries.conf(5), version 2, as podman,
 * skopeo and buildah read it. These files are read:
 *
 *	$CONTAINERS_REGISTRIES_CONF; else
 *	~/.config/containers/registries.conf, for users who have it; else
 *	/etc/containers/registries.conf
 *	and after it the files *.conf of /etc/containers/registries.conf.d and of
 *	~/.config/containers/registries.conf.d, in the order of their names
 *
 * A short name is sent only to registries that one of these files names. If there is no file at
 * all, a short name means docker.io's image, as it does to docker, and the caller is told so that
 * it can tell the user.
 */
#pragma once
#include "base/json.h"
#include "images/oci/reference.h"

#define REGISTRIES_FILES_MAX 64
#define REGISTRIES_CANDIDATES_MAX 16
#define REGISTRIES_ENDPOINTS_MAX 16

struct registries {
	/* contents of the files in the order of reading; the last file that has a setting wins */
	const struct json *files[REGISTRIES_FILES_MAX];
	const char *paths[REGISTRIES_FILES_MAX];
	size_t n;
};

/* A registry, and a repository in it. */
struct endpoint {
	const char *host, *repository;
	bool insecure; /* whether plain HTTP and unchecked certificates are allowed */
	bool mirror;
};

struct endpoints {
	/* places in the order in which the caller should try them */
	struct endpoint v[REGISTRIES_ENDPOINTS_MAX];
	size_t n;
};

struct candidates {
	/* names in the order in which the caller should try them */
	struct reference v[REGISTRIES_CANDIDATES_MAX];
	size_t n;
	/* the reason for the choice, to show to the user, if the name was a short one; else NULL */
	const char *why;
};

int registries_load(struct arena *a, struct registries *ret) must_check;

/*
 * Finds the full names that a name may mean. Returns -EINVAL for a short name that registries.conf
 * does not explain, or that several registries of its search list could mean, unless
 * short-name-mode is "permissive" or "disabled".
 */
int registries_candidates(const struct registries *g, struct arena *a, const struct reference *r,
	struct candidates *ret) must_check;

/*
 * Finds the places from which a full name is fetched: first the registry's mirrors, then the
 * registry itself. Returns -EPERM if registries.conf blocks the registry.
 */
int registries_endpoints(const struct registries *g, struct arena *a, const struct reference *r,
	struct endpoints *ret) must_check;
