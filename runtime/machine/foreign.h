/* SPDX-License-Identifier: Apache-2.0 */
/* Decides what machine a foreign guest gets, an operating system with an init of its own. */
#pragma once
#include "machine/machine_config.h"

/* annotations with the paths of the EFI firmware and of its variables */
#define MACHINE_FIRMWARE "io.caisson.vm.firmware"
#define MACHINE_FIRMWARE_VARS "io.caisson.vm.firmware.vars"
#define MACHINE_VNC "io.caisson.vm.vnc"

/* Sets m->foreign, m->seed, m->firmware, m->firmware_vars and m->vnc. */
int machine_decide_guest(const struct spec *s, struct machine_config *m) must_check;
/* Sets the error message for an option that only QEMU's machine has. Returns -ENOTSUP. */
int machine_refuse_kvm(const char *option);
