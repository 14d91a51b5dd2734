/* SPDX-License-Identifier: Apache-2.0 */
/* The program caisson-init, which is embedded in the runtime as bytes. */
#pragma once
#include "base/err.h"

/*
 * Makes a file that contains caisson-init, for one start of a container only, and returns a
 * descriptor by which the file can be executed (execveat(2)). No process can write to the file.
 *
 * If `readable` is set, the process that executes the file stays "dumpable", so that the user of
 * that process can write its id maps. Otherwise nobody may read the file, and so the kernel makes
 * the process non-dumpable from its first instruction on. `dir` is a directory for the file on
 * hosts where no memfd can be executed.
 */
int init_image_open(bool readable, int dir) must_check;
