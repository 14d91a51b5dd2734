/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives a test a cgroup on this machine's cgroup2 mount that needs no controller. Tests skip
 * themselves if the machine has no cgroup2 mount.
 */
#pragma once
#include "unit/rig/cgroup.h"

int live_setup(void **state);

int live_teardown(void **state);

struct fixture *live_fixture(void **state);
