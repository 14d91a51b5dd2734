/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of a filter that answers ENOSYS for system calls that are newer than the profile. Only
 * the files of filter/ use this header.
 */
#pragma once
#include "spec/spec.h"

/*
 * Appends to `program` the part that answers ENOSYS, an array of struct sock_filter. Appends
 * nothing if the profile's default action needs no such part. For a call that it does not answer,
 * execution goes on with the instruction that the caller appends next.
 */
int seccomp_stub(const struct spec_seccomp *s, struct strbuf *program) must_check;
