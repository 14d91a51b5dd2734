/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of a filter that answers ENOSYS for system calls that are newer than the profile. Only
 * the files of filter/ use this header.
 */
#pragma once
#include "spec/spec.h"

/*
 * Appends the stub (struct sock_filter[]) to program. Appends nothing if the profile's default
 * action needs no stub. After the stub, execution goes on with the next instruction.
 */
int seccomp_stub(const struct spec_seccomp *s, struct strbuf *program) must_check;
