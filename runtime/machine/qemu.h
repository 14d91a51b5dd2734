/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decides which versions of QEMU can run a microVM, and explains QEMU's error output.
 * engine/qemu_args.c makes QEMU's command line.
 */
#pragma once
#include "base/err.h"

#define QEMU_PROGRAM "qemu-system-x86_64"
#define QEMU_PACKAGE "qemu-system-x86"
#define QEMU_MAJOR 7 /* oldest version that works: the one in Debian 12, with which the tests run */
#define QEMU_MINOR 2

/*
 * prefix of the name that a vhost-user server's chardev has on QEMU's command line; a number
 * follows
 */
#define QEMU_BACKEND "backend"

/*
 * Reads the end of QEMU's standard error, of which an error message quotes the text; called once
 * QEMU has ended.
 */
void qemu_read_words(int errors, char *ret, size_t size);
/* Returns the number of the vhost-user server that QEMU's error names, or -1. */
int qemu_blamed_backend(const char *words);
/*
 * Makes the error for a QEMU that exited with this code. parameters says that
 * vm.hypervisor.parameters were used.
 */
int qemu_exit_error(int code, const char *words, bool parameters);
