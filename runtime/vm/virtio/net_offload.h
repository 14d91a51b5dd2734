/* SPDX-License-Identifier: Apache-2.0 */
/* The offloads of a tap (TUN_F_*) and the features of a network device that stand for them. */
#pragma once
#include <stdint.h>

/* The features that a device offers whose tap supports these offloads. */
uint64_t net_offload_features(unsigned offloads);

/* The offloads that the tap may use because the driver has accepted these features (5.1.3.1). */
unsigned net_accepted_offloads(uint64_t features);
