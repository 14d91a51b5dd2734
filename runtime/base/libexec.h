/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds caisson's helper programs: caisson-guest, caisson-systemd, caisson-disk, caisson-image and
 * caisson-registry.
 */
#pragma once
#include "base/arena.h"

/*
 * The environment variable that names the directory of all helper programs. If it is set, no other
 * directory is searched.
 */
#define LIBEXEC_VARIABLE "CAISSON_LIBEXEC"

/*
 * Finds the directory of the helper program `name`. These directories are tried in this order:
 * $CAISSON_LIBEXEC; `built`, the helper's directory in a build tree, relative to the directory of
 * the running program; ../libexec/caisson, relative to the directory of the running program, for an
 * installation that was copied elsewhere; and the directory to which this build is installed. For
 * the first and the last directory nothing checks that the program is there.
 */
int libexec_find(struct arena *a, const char *name, const char *built, const char **ret) must_check;

/*
 * Finds a helper program. If the running program is in a build tree, the helper program is looked
 * for in the running program's directory. Sets *ret to the path of the helper program, even if that
 * file does not exist.
 */
int libexec_program(struct arena *a, const char *name, const char **ret) must_check;

/*
 * Environment variables by which caisson tells caisson-disk and caisson-inside the path of caisson
 * and the directory of all state directories.
 */
#define RUNTIME_VARIABLE "CAISSON_DISK_RUNTIME"
#define STATE_VARIABLE "CAISSON_DISK_STATE"
