/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of a filter that answers ENOSYS for system calls that are newer than the profile.
 * Private to filter/.
 */
#pragma once
#include "spec/spec.h"

/*
 * Appends the stub (struct sock_filter[]) to program, or nothing if the profile's default action
 * needs no stub. Execution goes on with the instruction after the stub.
 */
int seccomp_stub(const struct spec_seccomp *s, struct strbuf *program) must_check;
