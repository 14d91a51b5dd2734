/* SPDX-License-Identifier: Apache-2.0 */
/* The table of all properties of config.json that test_spec_properties.c goes through. */
#pragma once
#include <stddef.h>

#define MAX_BAD 10

#define REQ 1   /* required */
#define CROSS 2 /* other properties of spec_full.json need it, so removing it may be an error */
#define EMPTY 4 /* required, but may be "" */

/*
 * Types: b boolean, i integer, s string, S array of strings, N array of numbers, A array of
 * objects, O object, M object of strings, P object of objects.
 */
struct property {
	const char *path;
	char type;
	int flags;
	const char *bad[MAX_BAD]; /* JSON values of the right type that must be refused */
};

extern const struct property spec_properties[];
extern const size_t spec_property_count;
