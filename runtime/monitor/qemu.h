/* SPDX-License-Identifier: Apache-2.0 */
/* The QEMU that VM mode needs: for engine_qemu.c, which runs it, and the doctor, who looks. */
#pragma once

#define QEMU_PROGRAM "qemu-system-x86_64"
#define QEMU_PACKAGE "qemu-system-x86"
#define QEMU_MAJOR 7 /* Debian 12's, which the tests run */
#define QEMU_MINOR 2
