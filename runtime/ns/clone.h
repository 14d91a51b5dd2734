/* SPDX-License-Identifier: Apache-2.0 */
/* Private to ns/. */
#pragma once
#include <stdint.h>

#include "base/err.h"

/* Sets the message for a failure of clone3(2) with these flags; errno says which. */
int ns_clone_error(uint64_t flags) must_check;
