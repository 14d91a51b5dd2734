/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of images in registries, as docker writes them: "debian:12", "localhost:5000/a/b:tag",
 * "quay.io/a/b@sha256:...". The first component is a host if it is "localhost" or holds a dot, a
 * colon or a capital letter, else the name is a short one, without a host.
 */
#pragma once
#include "base/arena.h"
#include "images/oci/digest.h"

#define REFERENCE_NAME_MAX 255u /* bytes of host and repository */
#define REFERENCE_TAG_MAX 128u
#define REFERENCE_DOCKER_HOST "docker.io"

struct reference {
	const char *host;       /* "docker.io", "localhost:5000"; NULL: the name is a short one */
	const char *repository; /* "library/debian" */
	const char *tag;        /* NULL: none was given */
	struct digest digest;   /* text "": none was given */
};

/*
 * Parses a name, which may have "docker://" before it, as skopeo writes it. A one-word repository
 * of docker.io gets its "library/". What is parsed lives in the arena. -EINVAL: it is no name.
 */
int reference_parse(struct arena *a, const char *text, struct reference *ret) must_check;

/* Whether the text begins with another transport of skopeo's: "oci:", "dir:" and others. */
bool reference_is_other_transport(const char *text);

/* The short name r at a registry, "HOST[/REPOSITORY]", whose host may be of any form. */
int reference_at(struct arena *a, const char *registry, const struct reference *r,
	struct reference *ret) must_check;

/* Checks "HOST[/REPOSITORY]", as registries.conf and `login` have it. */
int reference_check_host(const char *host) must_check;

/* "HOST/REPOSITORY[:TAG][@DIGEST]", as the store names it; without tag and digest ":latest". */
const char *reference_text(struct arena *a, const struct reference *r) must_check;
