/* SPDX-License-Identifier: Apache-2.0 */
/* Prints results and reports errors, for caisson and its helper programs. */
#pragma once
#include "base/json.h"

/* Writes the text to standard output. */
int program_print(const char *text, size_t len) must_check;

/* Writes the JSON to standard output, followed by a line end. */
int program_print_json(struct json_out *o) must_check;

/*
 * Reports the failure r, a negative errno, by log_error(), which gets this thread's error message,
 * or the text of the errno if there is no message. Returns 1, the exit code of a failed command.
 */
int program_fail(int r);

/*
 * Exit code of `caisson update` if a device or a mount that an option --rm-... names is not
 * attached. caisson-net calls `caisson update` and takes this code for success.
 */
#define PROGRAM_EXIT_NOT_ATTACHED 3
