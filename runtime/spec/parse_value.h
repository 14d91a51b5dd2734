/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declares functions that parse single values of config.json and word the errors for them. They are
 * the inner half of the parser that turns JSON objects into C structures by tables (parse.h).
 */
#pragma once
#include "spec/parse.h"

/*
 * Parses an integer within the range that f allows. *ret is the number in two's complement, because
 * the number may be negative.
 */
int parse_int(struct parser *p, const struct json *node, const struct field *f, uint64_t *ret)
	must_check;
int parse_enum(struct parser *p, const struct json *node, const struct field *f, uint64_t *ret)
	must_check;
int parse_list(struct parser *p, const struct json *node, const char **ret) must_check;

/* Sets the error message for a required property that is absent. Returns -EINVAL. */
int parse_missing(struct parser *p, const struct field *f);
/*
 * Appends a key of a FIELD_MAP to p->path, the path that error messages name, as parse_enter()
 * appends a property.
 */
void parse_enter_key(struct parser *p, const char *key);
