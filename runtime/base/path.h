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

/*
 * Opens path beneath root with the flags of open(2) and O_CLOEXEC. The message names the path only;
 * the caller adds the field that it came from.
 */
int path_open(int root, const char *path, int flags) must_check;

/* Like path_open(), but refuses a symbolic link anywhere in path with -ELOOP. */
int path_open_nolinks(int root, const char *path, int flags) must_check;

/*
 * Opens the directory path beneath root (O_PATH). Creates missing directories with mode 0755, as
 * the caller's user. A component that exists and is not a directory is an error. If a component is
 * a symbolic link to nothing, the directory that it points to (beneath root) is created.
 */
int path_mkdirs(int root, const char *path) must_check;

/*
 * Opens path beneath root (O_PATH). If there is nothing, creates an empty regular file, and its
 * missing parents. What exists is opened as it is, whatever its type. If path is a symbolic link to
 * nothing, the file that it points to (beneath root) is created, because images come with
 * /etc/resolv.conf linked into an empty /run.
 */
int path_mkfile(int root, const char *path) must_check;

/*
 * Opens the directory that holds path's last component (O_PATH), and creates missing directories.
 * Points *ret_name at that component, inside path. If the last component is ".", ".." or "",
 * returns -EINVAL.
 */
int path_parent(int root, const char *path, const char **ret_name) must_check;

/*
 * Makes `root` the root and the current directory of this process. `root` is the root of a mount
 * that lies above the present root. No mount of the old tree is left in this mount namespace, which
 * must be a private one of this process.
 */
int path_pivot(int root) must_check;

/* Opens /proc (O_PATH), and checks that it is procfs and its root directory. */
int path_open_proc(void) must_check;

/*
 * Opens a file of procfs, such as "self/attr/exec" or "sys/net/core/somaxconn". Refuses to enter
 * anything that is mounted over it (RESOLVE_NO_XDEV), and to follow magic links. `proc` comes from
 * path_open_proc().
 */
int path_open_in_proc(int proc, const char *path, int flags) must_check;
int path_write_proc(int proc, const char *path, const char *text) must_check;
