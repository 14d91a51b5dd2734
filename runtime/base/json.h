/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads and writes JSON, with yajl.
 *
 * Reading gives a tree in an arena. Numbers keep their text, so that 64-bit values survive. The
 * cost of a hostile or broken file is bounded: values deeper than JSON_MAX_DEPTH levels are left
 * out without an error, because caisson knows no property that deep and must accept unknown ones;
 * an object has at most JSON_MAX_MEMBERS members; and the caller who reads the file limits its
 * size. Writing goes through struct json_out, a thin layer over yajl_gen that remembers the first
 * failure.
 */
#pragma once
#include <stdint.h>

#include "base/arena.h"
#include "base/str.h"

#define JSON_MAX_DEPTH 64
#define JSON_MAX_MEMBERS 4096 /* largest number of members of one object */

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json {
	enum json_type type;
	uint32_t count;    /* number of elements of an array or object */
	const char *key;   /* name of the member if the parent is an object, else NULL */
	struct json *next; /* the next element of the same array or object */
	union {
		bool boolean;
		/* text of a JSON_STRING (UTF-8 without NUL) or of a JSON_NUMBER (as written) */
		const char *text;
		struct json *first; /* first element of a JSON_ARRAY or JSON_OBJECT */
	};
};

/*
 * Parses a JSON document. `what` names the document in errors, for example "config.json". Returns
 * -EINVAL if the text is not JSON or not UTF-8, or if it has more than one value, a NUL character
 * in a string, or a member given twice.
 */
int json_parse(struct arena *a, const char *text, size_t len, const char *what, struct json **ret)
	must_check;

/*
 * Returns the member of obj with the name `key`, or NULL if there is none. obj may be NULL or no
 * object.
 */
const struct json *json_get(const struct json *obj, const char *key);

/*
 * Returns the string member of obj with the name `key`, or NULL if the member is absent or no
 * string. This function is for files that caisson itself wrote.
 */
const char *json_get_str(const struct json *obj, const char *key);
/*
 * Reads the number member of obj with the name `key`, in a file that caisson itself wrote. Returns
 * 0, -ENOENT if the member is absent, or -EINVAL or -ERANGE, all without a message.
 */
int json_get_i64(const struct json *obj, const char *key, int64_t *ret) must_check;
int json_get_u64(const struct json *obj, const char *key, uint64_t *ret) must_check;
/* Returns whether obj has a member with the name `key` that is the boolean true. */
bool json_get_true(const struct json *obj, const char *key);

/* Returns the name of a JSON type as error messages use it: "a string", "an object", ... */
const char *json_type_name(enum json_type t);

struct json_out {
	void *gen; /* the handle of yajl_gen, the JSON writer of the library yajl */
	int failed;
};

int json_out_init(struct json_out *o, bool pretty) must_check;
void json_out_release(struct json_out *o);
#define _cleanup_json_out_ __attribute__((cleanup(json_out_release), unused))

/*
 * Begins an object. In all json_out_*() functions key is NULL for elements of arrays and for the
 * outermost value.
 */
void json_out_object(struct json_out *o, const char *key);
void json_out_end_object(struct json_out *o);
void json_out_array(struct json_out *o, const char *key);
void json_out_end_array(struct json_out *o);
/* Writes a string. Bytes that are not UTF-8 are replaced by U+FFFD. */
void json_out_str(struct json_out *o, const char *key, const char *value);
void json_out_i64(struct json_out *o, const char *key, int64_t value);
void json_out_u64(struct json_out *o, const char *key, uint64_t value);
void json_out_double(struct json_out *o, const char *key, double value);
void json_out_bool(struct json_out *o, const char *key, bool value);
void json_out_null(struct json_out *o, const char *key);
/*
 * Writes a JSON value that json_parse() has read. Numbers are written as they were in the source.
 */
void json_out_node(struct json_out *o, const char *key, const struct json *node);

/*
 * Returns 0 with the text that was written so far, or the first error of any json_out_*() call. The
 * text is valid until json_out_release().
 */
int json_out_text(struct json_out *o, const char **ret, size_t *ret_len) must_check;
