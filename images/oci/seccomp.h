/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes the filter of system calls of a container from an image, if the user names no other
 * filter.
 */
#pragma once
#include "base/json.h"

/*
 * Writes linux.seccomp for a program whose capabilities are at most those in the list
 * `capabilities` ("CAP_CHOWN", ..., NULL). A call that needs a capability is allowed if the list
 * has the capability. AF_ALG sockets and io_uring are always refused.
 */
void seccomp_put_default(struct json_out *o, const char *const *capabilities);
