/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declares the table of all properties of config.json, which test_spec_properties.c goes through.
 */
#pragma once
#include <stddef.h>

#define MAX_BAD 10

#define REQ 1 /* the property is required */
/* other properties of spec_full.json need this property, so its removal may be an error */
#define CROSS 2
#define EMPTY 4 /* the property is required, but may be "" */

/*
 * A property of config.json. The letters of its type are: b boolean, i integer, s string, S array
 * of strings, N array of numbers, A array of objects, O object, M object of strings, P object of
 * objects.
 */
struct property {
	const char *path;
	char type;
	int flags;
	const char *bad[MAX_BAD]; /* JSON values of the right type that the parser must refuse */
};

extern const struct property spec_properties[];
extern const size_t spec_property_count;
