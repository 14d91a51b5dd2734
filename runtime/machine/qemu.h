/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decides which versions of QEMU can run a microVM, and explains QEMU's error output.
 * engine/qemu_args.c makes QEMU's command line.
 */
#pragma once
#include "base/err.h"

#define QEMU_PROGRAM "qemu-system-x86_64"
#define QEMU_PACKAGE "qemu-system-x86"
/* oldest version of QEMU that works: the one in Debian 12, with which the tests run */
#define QEMU_MAJOR 7
#define QEMU_MINOR 2

/*
 * prefix of the name that a vhost-user server's chardev has on QEMU's command line; a number
 * follows
 */
#define QEMU_BACKEND "backend"

/*
 * Reads the last text from QEMU's standard error, which an error message quotes. The caller calls
 * it once QEMU has ended.
 */
void qemu_read_words(int errors, char *ret, size_t size);
/*
 * Returns the number of the vhost-user server that QEMU's error output names, or -1 if it names
 * none.
 */
int qemu_blamed_backend(const char *words);
/*
 * Makes the error message for a QEMU that exited with this code. `parameters` says that
 * vm.hypervisor.parameters were on its command line.
 */
int qemu_exit_error(int code, const char *words, bool parameters);
