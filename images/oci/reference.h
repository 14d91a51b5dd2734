/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parses the names of images in registries, as docker writes them: "debian:12",
 * "localhost:5000/a/b:tag", "quay.io/a/b@sha256:...". The first component is a host if it is
 * "localhost" or holds a dot, a colon or a capital letter. A name without a host is called a short
 * name.
 */
#pragma once
#include "base/arena.h"
#include "images/oci/digest.h"

#define REFERENCE_NAME_MAX 255u /* longest host and repository together, in bytes */
#define REFERENCE_TAG_MAX 128u
#define REFERENCE_DOCKER_HOST "docker.io"

struct reference {
	/* host of the registry, such as "docker.io" or "localhost:5000"; NULL: a short name */
	const char *host;
	const char *repository; /* repository in the registry, such as "library/debian" */
	const char *tag;        /* tag, such as "12"; NULL: the name has no tag */
	/* digest of the manifest; its text is "" if the name has no digest */
	struct digest digest;
};

/*
 * Parses a name, which may begin with "docker://", as skopeo writes it. A one-word repository of
 * docker.io gets the prefix "library/". The strings of *ret are in the arena. Returns -EINVAL if
 * the text is no name of an image.
 */
int reference_parse(struct arena *a, const char *text, struct reference *ret) must_check;

/* Returns whether the text begins with another transport of skopeo: "oci:", "dir:" and others. */
bool reference_is_other_transport(const char *text);

/*
 * Makes *ret the image that a short name r means in the registry "HOST[/REPOSITORY]". HOST needs no
 * dot here, unlike in a text that reference_parse() parses.
 */
int reference_at(struct arena *a, const char *registry, const struct reference *r,
	struct reference *ret) must_check;

/*
 * Checks a text "HOST[/REPOSITORY]", which registries.conf or the user of `caisson image login` has
 * given.
 */
int reference_check_host(const char *host) must_check;

/*
 * Returns the name in the form in which the store keeps it: "HOST/REPOSITORY[:TAG][@DIGEST]". If
 * the name has neither tag nor digest, it gets ":latest".
 */
const char *reference_text(struct arena *a, const struct reference *r) must_check;
