/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens and creates paths inside a hostile tree, such as a container's root file system. Every
 * function takes a descriptor of the tree's root and resolves the path with openat2(2)
 * RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS (Linux 5.6): symbolic links, even absolute ones, and ".."
 * stay beneath the root, and links such as /proc/self/fd/3 are refused with ELOOP. caisson has no
 * other way from a container's path to a descriptor.
 */
#pragma once
#include <sys/stat.h>

#include "base/fd.h"

/*
 * Opens path beneath root with the flags of open(2) and O_CLOEXEC. The error message names only the
 * path, because only the caller knows the field of config.json from which the path came.
 */
int path_open(int root, const char *path, int flags) must_check;

/*
 * Opens path beneath root as path_open() does, but refuses a symbolic link anywhere in path with
 * -ELOOP.
 */
int path_open_nolinks(int root, const char *path, int flags) must_check;

/*
 * Opens the directory path beneath root (O_PATH). Creates missing directories with mode 0755, owned
 * by the caller's user. Fails if an existing component is not a directory. If a component is a
 * dangling link, creates the directory to which the link points, beneath root.
 */
int path_mkdirs(int root, const char *path) must_check;

/*
 * Opens path beneath root (O_PATH). If there is no file at path, creates an empty regular file and
 * its missing parents. An existing file is opened as it is, whatever its type. If path is a
 * dangling link, creates the file to which the link points, beneath root, because images come with
 * /etc/resolv.conf linked into an empty /run.
 */
int path_mkfile(int root, const char *path) must_check;

/*
 * Opens the directory beneath root that holds path's last component (O_PATH), and creates missing
 * directories. *ret_name points at the last component, inside path. Returns -EINVAL if the last
 * component is ".", ".." or "".
 */
int path_parent(int root, const char *path, const char **ret_name) must_check;

/*
 * Makes the directory `root` the root and the current directory of this process, with
 * pivot_root(2). `root` is the root of a mount that lies above the present root. All mounts of the
 * old tree are removed from this mount namespace, which must be a private one of this process.
 */
int path_pivot(int root) must_check;

/* Opens the directory /proc (O_PATH), and checks that it is the root directory of a procfs. */
int path_open_proc(void) must_check;

/*
 * Opens a file of procfs, such as "self/attr/exec" or "sys/net/core/somaxconn". Refuses to enter
 * anything that is mounted over a part of procfs (RESOLVE_NO_XDEV), and to follow magic links. The
 * argument `proc` is a descriptor from path_open_proc().
 */
int path_open_in_proc(int proc, const char *path, int flags) must_check;
int path_write_proc(int proc, const char *path, const char *text) must_check;
