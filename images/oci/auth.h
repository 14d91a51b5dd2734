/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds credentials for registries in podman's and docker's files (containers-auth.json(5)):
 *
 *	$REGISTRY_AUTH_FILE; else
 *	$XDG_RUNTIME_DIR/containers/auth.json or /run/containers/UID/auth.json, then
 *	~/.config/containers/auth.json, then
 *	$DOCKER_CONFIG/config.json or ~/.docker/config.json
 *
 * The files may name credential helpers (credHelpers, credsStore), which are programs called
 * docker-credential-*.
 */
#pragma once
#include "base/arena.h"

struct credentials {
	const char *user, *password; /* NULL: no user name or no password is known */
	/* token for OAuth 2, in place of user and password; NULL: there is no such token */
	const char *identity_token;
};

/*
 * Finds the credentials for HOST/REPOSITORY in `file`, or in the usual files if `file` is NULL. If
 * several keys of a file match, the longest wins. Returns 1, or 0 if no credentials are known.
 */
int auth_find(struct arena *a, const char *file, const char *host, const char *repository,
	struct credentials *ret) must_check;

/*
 * Stores the credentials of a registry, or removes them if c is NULL. The place is `file`, or the
 * first of the usual files if `file` is NULL, or the helper that this file names. Sets *ret_file to
 * the place. Returns -ENOENT if there was nothing to remove.
 */
int auth_store(struct arena *a, const char *file, const char *host, const struct credentials *c,
	const char **ret_file) must_check;

/* Encodes "user:password" in base64, for a header or a file. */
int auth_basic(struct arena *a, const struct credentials *c, const char **ret) must_check;
