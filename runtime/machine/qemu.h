/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which QEMU VM mode needs, and what QEMU's error output means. The command line is
 * engine/qemu_args.c.
 */
#pragma once
#include "base/err.h"

#define QEMU_PROGRAM "qemu-system-x86_64"
#define QEMU_PACKAGE "qemu-system-x86"
#define QEMU_MAJOR 7 /* the version of Debian 12, with which the tests run */
#define QEMU_MINOR 2

#define QEMU_BACKEND "backend" /* followed by a number: the chardev of a vhost-user server */

/* Reads the end of QEMU's standard error as part of an error message, once QEMU has ended. */
void qemu_read_words(int errors, char *ret, size_t size);
/* The number of the vhost-user server that QEMU's error names, or -1. */
int qemu_blamed_backend(const char *words);
/*
 * The error of a QEMU that exited with this code. parameters: vm.hypervisor.parameters were used.
 */
int qemu_exit_error(int code, const char *words, bool parameters);
