/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the TOML of registries.conf into the tree that base/json.h describes. Debian 12 has no C
 * library for TOML. This reader is strict: it knows tables, arrays of tables, strings of one line,
 * booleans, whole numbers and arrays, which is all that containers-registries.conf(5) has, and
 * anything else is an error that names its line.
 */
#pragma once
#include "base/json.h"

#define TOML_MAX (1u << 20) /* bytes of a file */

/* `what` names the file in messages. -EINVAL: it is no TOML, or of a kind not known here. */
int toml_parse(struct arena *a, const struct strbuf *text, const char *what, struct json **ret)
	must_check;
