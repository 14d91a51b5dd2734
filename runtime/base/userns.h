/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes user namespaces that have no process in them, and reads the id maps of any user namespace.
 */
#pragma once
#include "base/err.h"
#include "base/str.h"

/*
 * Makes a user namespace with the given id maps, written as in /proc/PID/uid_map, for an idmapped
 * mount or for a process that will enter the namespace. Returns a close-on-exec descriptor, or
 * -errno. The error message names the property of config.json, uidMappings or gidMappings.
 */
int userns_open(const char *uid_map, const char *gid_map) must_check;

/*
 * Appends the id maps of the user namespace fd, in the form of /proc/PID/uid_map. The outer ids are
 * ids of the caller's user namespace. The caller needs CAP_SYS_ADMIN in the namespace fd.
 */
int userns_read_maps(int fd, struct strbuf *uid_map, struct strbuf *gid_map) must_check;

/*
 * Puts the capabilities that the calling process has into its ambient set, so that the programs
 * that the process executes get them although the process is not root in its user namespace. The
 * function makes only system calls, because a process that shares its parent's memory calls it.
 * Returns -1 and sets errno on failure.
 */
int userns_raise_ambient(void) must_check;
