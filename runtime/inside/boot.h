/* SPDX-License-Identifier: Apache-2.0 */
/* Names the files of the tar that the command `boot` sends from the guest to the host. */
#pragma once

#include <stdint.h>

#define BOOT_BYTES_MAX (UINT64_C(2) << 30) /* limit of the bytes of all files together */
#define BOOT_KERNEL "kernel"
#define BOOT_INITRD "initrd"   /* the initramfs; the tar lacks it if the kernel needs none */
#define BOOT_CMDLINE "cmdline" /* the kernel's command line, in printable ASCII */
/* name of the user whom cloud-init makes; the tar lacks it if the name is not known */
#define BOOT_USER "user"
