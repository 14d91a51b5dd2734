/* SPDX-License-Identifier: Apache-2.0 */
/* The filter of system calls that a container from an image gets if nobody asks for another one. */
#pragma once
#include "base/json.h"

/*
 * Writes linux.seccomp for a program that may have these capabilities ("CAP_CHOWN", ..., NULL).
 * What a capability allows is let through if the program may have it. AF_ALG sockets and io_uring
 * are refused to all.
 */
void seccomp_put_default(struct json_out *o, const char *const *capabilities);
