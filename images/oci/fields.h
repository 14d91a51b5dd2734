/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Members of a document's objects, with their types checked. A member that is absent or null gives
 * NULL, as Go's JSON has it, which wrote most of the images there are.
 */
#pragma once
#include "images/oci/oci.h"

/* One member, and what to call its object in messages. */
struct field {
	const struct json *object;
	const char *what;
	const char *name;
};

/* Parses a document within the bounds of oci.h: *ret is an object. */
int fields_parse(struct arena *a, const struct strbuf *text, const char *what,
	const struct json **ret) must_check;

int field_string(const struct field *f, const char **ret) must_check;
int field_object(const struct field *f, const struct json **ret) must_check;
/* At most max elements. */
int field_array(const struct field *f, size_t max, const struct json **ret) must_check;
/* An object whose members all are strings. */
int field_string_map(const struct field *f, const struct json **ret) must_check;
