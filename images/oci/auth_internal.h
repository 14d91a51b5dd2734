/* SPDX-License-Identifier: Apache-2.0 */
/* Declares the functions for credential helpers, which the files auth*.c share. */
#pragma once
#include "images/oci/auth.h"

/* the key under which docker stores the credentials of docker.io */
#define AUTH_DOCKER_KEY "https://index.docker.io/v1/"

/*
 * Asks a credential helper for the host's credentials. Returns 1, or 0 if the helper does not know
 * the host.
 */
int helper_get(struct arena *a, const char *helper, const char *host, struct credentials *ret)
	must_check;
int helper_store(const char *helper, const char *host, const struct credentials *c) must_check;
/*
 * Lets a credential helper remove the host's credentials. Returns -ENOENT if the helper has none.
 */
int helper_erase(const char *helper, const char *host) must_check;
