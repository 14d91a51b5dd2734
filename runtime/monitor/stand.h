/* SPDX-License-Identifier: Apache-2.0 */
/* What a process of the host's needs to stand for one in the guest: a terminal, and an end. */
#pragma once
#include <stdint.h>

#include "err.h"

/*
 * The slave side is raw: echo, line editing and signals are the guest's terminal's. 0 rows: no size
 * is set.
 */
int stand_terminal(uint16_t rows, uint16_t columns, int *ret_master, int *ret_slave) must_check;

/* Whether it is /dev/null, or closed. */
bool stand_is_null(int fd);

/* Ends this process as that one ended: status is waitpid(2)'s. */
_Noreturn void stand_end(int status);
