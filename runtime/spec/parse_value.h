/* SPDX-License-Identifier: Apache-2.0 */
/* The table engine's inner half: single values, and the words of its errors. */
#pragma once
#include "spec/parse.h"

int parse_int(struct parser *p, const struct json *node, const struct field *f, uint64_t *ret)
	must_check; /* two's complement */
int parse_enum(struct parser *p, const struct json *node, const struct field *f, uint64_t *ret)
	must_check;
int parse_list(struct parser *p, const struct json *node, const char **ret) must_check;

/* The error for a required property that is not there. */
int parse_missing(struct parser *p, const struct field *f);
void parse_enter_key(struct parser *p, const char *key); /* a map's */
