/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of credentials share. */
#pragma once
#include "images/oci/auth.h"

/* "https://index.docker.io/v1/" is docker's own key for docker.io. */
#define AUTH_DOCKER_KEY "https://index.docker.io/v1/"

/* 1: the helper knows the host. 0: it does not. */
int helper_get(struct arena *a, const char *helper, const char *host, struct credentials *ret)
	must_check;
int helper_store(const char *helper, const char *host, const struct credentials *c) must_check;
/* -ENOENT: it does not know the host. */
int helper_erase(const char *helper, const char *host) must_check;
