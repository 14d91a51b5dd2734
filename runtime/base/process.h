/* SPDX-License-Identifier: Apache-2.0 */
/* When a process was started, by which a pid that was reused is told from the first one. */
#pragma once
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/*
 * Reads field 22 of /proc/PID/stat. Returns -ESRCH if there is no such process or it is a zombie.
 */
int process_start_time(pid_t pid, uint64_t *ret) must_check;
