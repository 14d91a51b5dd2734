/* SPDX-License-Identifier: Apache-2.0 */
/* Declarations that only the files of ns/ use. */
#pragma once
#include <stdint.h>

#include "base/err.h"

/* Sets the error message for a failed clone3(2) with these flags. errno says why it failed. */
int ns_clone_error(uint64_t flags) must_check;
