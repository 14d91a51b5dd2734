/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of a filter that answers ENOSYS for system calls newer than the profile. Private to
 * step/.
 */
#pragma once
#include "spec/spec.h"

/*
 * Appends the stub (struct sock_filter[]) to program; nothing where the profile's default action
 * needs none. Execution goes on with the instruction behind it.
 */
int seccomp_stub(const struct spec_seccomp *s, struct strbuf *program) must_check;
