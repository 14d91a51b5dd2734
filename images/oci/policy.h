/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.json of containers/image (containers-policy.json(5)): whether an image of a name may be
 * used. Known are "insecureAcceptAnything" and "reject". A requirement of a signature (signedBy,
 * sigstoreSigned) is refused, because this program cannot check signatures. Read is
 * ~/.config/containers/policy.json, else /etc/containers/policy.json; if there is none, all may be
 * used.
 */
#pragma once
#include "images/oci/reference.h"

/* -EPERM: it may not. transport is skopeo's: "docker", "oci-archive", ... */
int policy_check(const char *transport, const struct reference *r) must_check;
