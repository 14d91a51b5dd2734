/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the TOML of registries.conf into the tree that base/json.h describes. caisson has its own
 * reader, because Debian 12 has no C library for TOML. The reader knows what
 * containers-registries.conf(5) uses: tables, arrays of tables, strings of one line, booleans,
 * whole numbers and arrays. Everything else is an error that names its line.
 */
#pragma once
#include "base/json.h"

#define TOML_MAX (1u << 20) /* largest file in bytes */

/*
 * Parses the text. `what` is the file's name in messages. Returns -EINVAL if the text is no TOML,
 * or if it uses something that this reader does not know.
 */
int toml_parse(struct arena *a, const struct strbuf *text, const char *what, struct json **ret)
	must_check;
