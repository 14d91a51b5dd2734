/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declares two functions of caisson-init, a container's first process: one tells the runtime which
 * steps are done, and one ends the log.
 */
#pragma once
#include "base/log.h"

void init_log_open(int channel, enum log_level level);
/*
 * Tells the runtime that the first process of the container has done the step with this index in
 * its plan, and how long the step took.
 */
void init_log_step(size_t index, uint64_t took_ns);
/*
 * Stops the log of the container's first process, because from then on the runtime no longer reads
 * what that process sends.
 */
void init_log_close(void);
