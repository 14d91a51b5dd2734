/* SPDX-License-Identifier: Apache-2.0 */
/* Compares lists of strings. */
#pragma once
#include "spec/spec.h"

/* Checks that the list has exactly these strings, in this order. */
#define assert_strings(list, ...) \
	check_strings((list), (const char *const[]){__VA_ARGS__, NULL}, __LINE__)
void check_strings(struct spec_strings list, const char *const *expected, int line);
