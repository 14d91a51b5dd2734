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
#include "images/oci/reference.h"

/*
 * Returns 0 if the policy allows the image, or -EPERM. `transport` is skopeo's name: "docker",
 * "oci-archive", ...
 */
int policy_check(const char *transport, const struct reference *r) must_check;
