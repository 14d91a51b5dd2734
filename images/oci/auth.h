/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Credentials for registries, from podman's and docker's files (containers-auth.json(5)):
 *	$REGISTRY_AUTH_FILE; else $XDG_RUNTIME_DIR/containers/auth.json or
 *	/run/containers/UID/auth.json, then ~/.config/containers/auth.json, then
 *	$DOCKER_CONFIG/config.json or ~/.docker/config.json
 * with their credential helpers (credHelpers, credsStore), which are programs docker-credential-*.
 */
#pragma once
#include "base/arena.h"

struct credentials {
	const char *user, *password; /* NULL: none */
	const char *identity_token;  /* for OAuth 2, in place of both; NULL: none */
};

/*
 * Finds what is known for HOST/REPOSITORY: the narrowest key wins. file NULL: the files above. 1:
 * found. 0: nothing is known.
 */
int auth_find(struct arena *a, const char *file, const char *host, const char *repository,
	struct credentials *ret) must_check;

/*
 * Writes or removes (credentials NULL) what is known of a registry, in `file` or in the first of
 * the files above, or by the helper that this file names. -ENOENT: there was nothing to remove.
 * *ret_file is where.
 */
int auth_store(struct arena *a, const char *file, const char *host, const struct credentials *c,
	const char **ret_file) must_check;

/* "BASE64(user:password)", for a header or a file. */
int auth_basic(struct arena *a, const struct credentials *c, const char **ret) must_check;
