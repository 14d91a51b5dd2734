/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads policy.json of containers/image (containers-policy.json(5)), which says whether an image of
 * a given name may be used. The file is ~/.config/containers/policy.json, else
 * /etc/containers/policy.json. If neither exists, every image may be used.
 *
 * The requirements "insecureAcceptAnything" and "reject" are implemented. An image for which the
 * policy requires a signature (signedBy, sigstoreSigned) is refused, because this program cannot
 * check signatures.
 */
#pragma once
#include "base/arena.h"
#include "images/oci/reference.h"

/*
 * Returns 0 if the policy allows an image of a registry (the transport "docker"), or -EPERM with a
 * message if it does not.
 */
int policy_check(const struct reference *r) must_check;

/*
 * Does what policy_check() does, for an image of the host's file system. `transport` is skopeo's
 * name for the format: "oci", "oci-archive", "docker-archive" or "dir". `tag` may be NULL. The path
 * "-" is standard input.
 */
int policy_check_path(const char *transport, const char *path, const char *tag) must_check;
