/* SPDX-License-Identifier: Apache-2.0 */
/* Sends what INIT tells the runtime besides log lines, and stops INIT's logging. */
#pragma once
#include "base/log.h"

void init_log_open(int channel, enum log_level level);
/*
 * Tells the runtime that the step with this index in INIT's plan was done, and how long the step
 * took.
 */
void init_log_step(size_t index, uint64_t took_ns);
/* Stops logging, because the runtime no longer reads INIT's messages. */
void init_log_close(void);
