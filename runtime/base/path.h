/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths inside a hostile tree. Everything takes a descriptor of the tree's root and resolves with
 * openat2(2) RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS (Linux 5.6): symbolic links, absolute ones and
 * ".." stay beneath the root, and links such as /proc/self/fd/3 are refused with ELOOP. There is no
 * other way from a container's path to a descriptor in this program.
 */
#pragma once
#include <sys/stat.h>

#include "base/fd.h"

/* Opens path beneath root with open(2) flags (O_CLOEXEC is added). The caller names it in errors.
 */
int path_open(int root, const char *path, int flags) must_check;

/* As path_open(), but a symbolic link anywhere in path is refused: -ELOOP. */
int path_open_nolinks(int root, const char *path, int flags) must_check;

/*
 * Opens the directory path beneath root (O_PATH), creating what is missing with mode 0755 as the
 * caller's user. A component that exists and is not a directory is an error. Where a component is a
 * symbolic link to nothing, what it points at (beneath root) is created.
 */
int path_mkdirs(int root, const char *path) must_check;

/*
 * Opens path beneath root (O_PATH), creating it, and its missing parents, as an empty regular file.
 * What exists already is opened as it is, whatever its type. Where path is a symbolic link to
 * nothing, what it points at (beneath root) is created: images come with /etc/resolv.conf linked
 * into an empty /run.
 */
int path_mkfile(int root, const char *path) must_check;

/*
 * Opens the directory that holds path's last component (O_PATH), creating missing directories, and
 * points *ret_name at that component (inside path). "." ".." and "" as last component are -EINVAL.
 */
int path_parent(int root, const char *path, const char **ret_name) must_check;

/*
 * Makes `root`, the root of a mount that lies above our root, our root and current directory.
 * Nothing of the tree before is left in this mount namespace, which must be our own, and private.
 */
int path_pivot(int root) must_check;

/* A checked descriptor of /proc: really procfs, and its root directory. O_PATH. */
int path_open_proc(void) must_check;

/*
 * Opens a file of procfs, e.g. "self/attr/exec" or "sys/net/core/somaxconn": refuses to cross into
 * anything that is mounted over it (RESOLVE_NO_XDEV) and to follow magic links. proc:
 * path_open_proc().
 */
int path_open_in_proc(int proc, const char *path, int flags) must_check;
int path_write_proc(int proc, const char *path, const char *text) must_check;
