/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cgroup on this machine's cgroup2 mount, of which no controller is needed. Tests skip themselves
 * if there is none.
 */
#pragma once
#include "unit/rig/cgroup.h"

int live_setup(void **state);

int live_teardown(void **state);

struct fixture *live_fixture(void **state);
