/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes device registers of QEMU's machine, while the guest stands still. QEMU's object "qtest"
 * takes lines such as "writel ADDRESS VALUE" from a socket, and answers each line. The object can
 * be made in any machine, while QEMU runs. It stays until QEMU ends, because QEMU keeps a pointer
 * into the first such object for its answers, also when that object is deleted.
 */
#pragma once
#include "engine/qemu_carry.h"

/*
 * Does what the guest's driver has done with the device: sets the features, the rings and the
 * status. Returns -EIO if the device does not accept that.
 */
int qemu_registers_drive(struct engine *e, const struct qemu_carried *c) must_check;
