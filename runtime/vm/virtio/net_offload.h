/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Translates between the offloads of a tap (TUN_F_*) and the corresponding features of a network
 * device.
 */
#pragma once
#include <stdint.h>

/*
 * Returns the virtio features that a device can offer if its tap supports `offloads`, a sum of
 * TUN_F_* flags.
 */
uint64_t net_offload_features(unsigned offloads);

/*
 * Returns the offloads that the tap may use after the driver has accepted `features` (virtio 1.2,
 * 5.1.3.1).
 */
unsigned net_accepted_offloads(uint64_t features);
