/* SPDX-License-Identifier: Apache-2.0 */
/* Makes files in the tree that the virtio-fs server serves, for the server's tests. */
#pragma once
#include "unit/rig/vmfs_front.h"

#define ENDED 0
#define REFUSED 3

int front_make(struct front *f, const char *name, uint32_t mode, uint32_t rdev);

void front_ready(struct front *f);

uint64_t front_create(struct front *f, const char *name, uint64_t *ret_node);
