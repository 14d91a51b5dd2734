/* SPDX-License-Identifier: Apache-2.0 */
/* Reads when a process was started. The time tells a process from a later one with the same pid. */
#pragma once
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/*
 * Reads the start time, field 22 of /proc/PID/stat. Returns -ESRCH if there is no such process or
 * it is a zombie.
 */
int process_start_time(pid_t pid, uint64_t *ret) must_check;
