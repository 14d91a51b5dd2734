/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compiles linux.seccomp into a BPF program, and keeps a cache of such programs. The runtime calls
 * seccomp_compile() on the host. INIT, the container's first process, only loads the program
 * (step/seccomp.c), so that libseccomp is not part of caisson-init.
 */
#pragma once
#include "spec/spec.h"

/*
 * Compiles the profile and returns a descriptor. The descriptor's offset is at the first
 * instruction of the compiled filter, and the rest of the file is the filter (struct
 * sock_filter[]). The file is a memfd, or a file of the cache, in which the filter comes after a
 * header. A process of a container must not get the descriptor, because the file is shared with
 * other containers. cache_dir is a descriptor of a directory that only the runtime's user can write
 * to, or -EBADF for no cache.
 */
int seccomp_compile(const struct spec_seccomp *s, int cache_dir) must_check;
