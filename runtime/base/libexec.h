/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where caisson's helper programs are: caisson-init, caisson-systemd, caisson-disk, caisson-image.
 */
#pragma once
#include "base/arena.h"

/* The variable that names the directory of all helper programs, in place of a search. */
#define LIBEXEC_VARIABLE "CAISSON_LIBEXEC"

/*
 * Finds the directory of the helper program `name`: $CAISSON_LIBEXEC; else, from the directory of
 * the running program, `built` (where it is in a build directory) or ../libexec/caisson (where it
 * is if an installation was copied to another place); else the directory that this build is
 * installed to. The program may be missing from the first and from the last of these.
 */
int libexec_find(struct arena *a, const char *name, const char *built, const char **ret) must_check;
