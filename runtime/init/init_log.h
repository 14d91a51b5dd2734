/* SPDX-License-Identifier: Apache-2.0 */
/* Where INIT's log goes. */
#pragma once
#include "base/log.h"

void init_log_open(int channel, enum log_level level);
/* From here on nothing is logged: the runtime does not listen any more. */
void init_log_close(void);
