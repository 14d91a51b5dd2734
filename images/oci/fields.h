/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads members of a document's JSON objects and checks their types. A member that is absent or
 * null counts as NULL, because most images are written by programs in Go, whose JSON package treats
 * the two as the same.
 */
#pragma once
#include "images/oci/oci.h"

/*
 * Selects one member of a JSON object. `what` is the name of the object, which error messages use.
 */
struct field {
	const struct json *object;
	const char *what;
	const char *name;
};

/* Parses a JSON document within the limits of oci.h. *ret is always a JSON object. */
int fields_parse(struct arena *a, const struct strbuf *text, const char *what,
	const struct json **ret) must_check;

int field_string(const struct field *f, const char **ret) must_check;
int field_object(const struct field *f, const struct json **ret) must_check;
/*
 * Sets *ret to the member if it is an array, which may have at most `max` elements, or to NULL if
 * the member is absent.
 */
int field_array(const struct field *f, size_t max, const struct json **ret) must_check;
/*
 * Sets *ret to the member if it is an object, whose members must all be strings, or to NULL if the
 * member is absent.
 */
int field_string_map(const struct field *f, const struct json **ret) must_check;
