/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
#include "base/err.h"

/*
 * Executes caisson again from a copy that no container can write to (CVE-2019-5736), unless it runs
 * from such a copy already: then it returns 0. argv: the whole command line.
 */
int seal_self(char *const argv[]) must_check;
