/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes a user namespace that has no process in it, for an idmapped mount or for a process that
 * will enter it.
 */
#pragma once
#include "base/err.h"

/*
 * Makes a user namespace with these id maps, written as in /proc/PID/uid_map. Returns a
 * close-on-exec descriptor, or -errno. The message names the property of config.json, uidMappings
 * or gidMappings.
 */
int userns_open(const char *uid_map, const char *gid_map) must_check;
