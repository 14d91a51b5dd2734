/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
#include "images/disk/format.h"

/* Returns the format with the name `name`, or NULL if there is none. */
const struct disk_format *disk_format_find(const char *name);
