/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compiles linux.seccomp into a BPF program, and keeps a cache of such programs. HOST does this;
 * INIT only loads the program (step/seccomp.c), so that libseccomp is not part of INIT.
 */
#pragma once
#include "spec/spec.h"

/*
 * Returns a descriptor that is positioned at the first instruction of the compiled filter; reading
 * to its end gives all of them (struct sock_filter[]). The descriptor is of a file of the cache,
 * which has more in front, or of a memfd. A process of a container must not get it, because the
 * file is shared with other containers. cache_dir is a descriptor of a directory that only the
 * runtime's user can write to, or -EBADF for no cache.
 */
int seccomp_compile(const struct spec_seccomp *s, int cache_dir) must_check;
