/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds pinned mount namespaces. A mount namespace is pinned if its file /proc/PID/ns/mnt is
 * bind-mounted somewhere, which keeps the namespace alive without a process; snapd does that, and
 * unshare(1) with --mount=FILE. The kernel refuses with ELOOP to attach a tree with such a mount in
 * a mount namespace that is younger than the pinned one, so that no namespace can pin itself. A
 * container's namespace is younger. But a new mount namespace gets no copies of such mounts, so a
 * tree that is copied inside a new namespace can be attached anywhere.
 */
#pragma once
#include <stdbool.h>

/*
 * Returns whether a mount namespace is pinned beneath `path`. The answer may be true by mistake, if
 * the path cannot be resolved for example, but is never false by mistake.
 */
bool pinned_below(const char *path);
