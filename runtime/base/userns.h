/* SPDX-License-Identifier: Apache-2.0 */
/* A user namespace without a process, for an idmapped mount or to be entered. */
#pragma once
#include "base/err.h"

/*
 * Makes a user namespace with these maps, in the form of /proc/PID/uid_map. Returns a close-on-exec
 * descriptor. An error names the property of config.json, uidMappings or gidMappings.
 */
int userns_open(const char *uid_map, const char *gid_map) must_check;
