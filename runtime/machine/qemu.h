/* SPDX-License-Identifier: Apache-2.0 */
/* The QEMU that VM mode needs, and what one says that it can't work with. */
#pragma once
#include "base/err.h"

#define QEMU_PROGRAM "qemu-system-x86_64"
#define QEMU_PACKAGE "qemu-system-x86"
#define QEMU_MAJOR 7 /* Debian 12's, which the tests run */
#define QEMU_MINOR 2

#define QEMU_BACKEND "backend" /* and a number: the ids of external back ends' sockets */

/* The last that it said on standard error, as a part of a message; to be read once it is dead. */
void qemu_read_words(int errors, char *ret, size_t size);
/* The number of the back end that it names, as it does for all that goes wrong with one, or -1. */
int qemu_blamed_backend(const char *words);
/* The error of a QEMU that ended by itself. parameters: its user's are on the command line too. */
int qemu_ended(int code, const char *words, bool parameters);
