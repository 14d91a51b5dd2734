/* SPDX-License-Identifier: Apache-2.0 */
/* The program caisson-init, which is embedded in the runtime as bytes. */
#pragma once
#include "base/err.h"

/*
 * Makes a file with the program, which is one start's own and never shared, and returns a
 * descriptor to execute it by (execveat(2)). The file cannot be written to any more.
 *
 * readable: the process that executes it stays "dumpable", so that its user can write its id maps.
 * Otherwise nobody may read the file, and the kernel makes a process that executes it non-dumpable
 * from its first instruction on. dir: a directory for the file where no memfd can be executed.
 */
int init_image_open(bool readable, int dir) must_check;
