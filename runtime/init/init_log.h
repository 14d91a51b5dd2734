/* SPDX-License-Identifier: Apache-2.0 */
/* Ends INIT's log to the runtime. */
#pragma once
#include "base/log.h"

void init_log_open(int channel, enum log_level level);
/* Stops logging, because the runtime no longer reads INIT's messages. */
void init_log_close(void);
