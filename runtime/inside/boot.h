/* SPDX-License-Identifier: Apache-2.0 */
/* What `boot` sends from the guest to the host, as files of a tar. */
#pragma once

#include <stdint.h>

#define BOOT_BYTES_MAX (UINT64_C(2) << 30) /* most bytes of all files */
#define BOOT_KERNEL "kernel"
#define BOOT_INITRD "initrd"   /* not there: the kernel needs none */
#define BOOT_CMDLINE "cmdline" /* printable ASCII */
#define BOOT_USER "user"       /* the user whom cloud-init makes; not there: unknown */
