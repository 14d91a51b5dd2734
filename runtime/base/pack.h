/* SPDX-License-Identifier: Apache-2.0 */
/*
 * C structures as bytes that another process of the same build can use in place: how HOST hands a
 * plan to INIT, and the monitor hands one to the guest.
 *
 * A struct pack_type describes a structure: its size and those members that need work. pack_write()
 * copies the structure, appends what its pointers point to, and puts offsets in the pointers'
 * place. pack_read() checks every offset, count, string, boolean and enumerator and turns the
 * offsets into pointers into the same buffer. Members that a type does not list are plain numbers
 * and are copied as they are.
 *
 *	PACK_TYPE(hook, struct spec_hook,
 *		PACK_STRING(struct spec_hook, path),
 *		PACK_BOOL(struct spec_hook, has_env));
 *
 * The format is no interface: the header holds a hash of all sizes, offsets and kinds, and a reader
 * of another build refuses the bytes.
 */
#pragma once
#include <stdint.h>

#include "base/str.h"

enum pack_kind {
	PACK_KIND_STRING,  /* char *, may be NULL */
	PACK_KIND_STRINGS, /* char **, a count, and NULL behind the last one */
	PACK_KIND_POINTER, /* to one structure, may be NULL; pointers to one stay equal */
	PACK_KIND_ARRAY,   /* of structures, and a count */
	PACK_KIND_EMBED,   /* a structure in this one */
	PACK_KIND_BOOL,
	PACK_KIND_ENUM, /* 4 bytes, less than `limit` */
	PACK_KIND_DROP, /* a pointer, or a size_t, that is written as 0 */
};

struct pack_type;

struct pack_field {
	enum pack_kind kind;
	uint32_t offset;
	uint32_t count_offset;        /* of a size_t: STRINGS, ARRAY */
	uint32_t limit;               /* ENUM */
	bool needed;                  /* STRING, POINTER: NULL is an error */
	const struct pack_type *type; /* POINTER, ARRAY (NULL: numbers), EMBED */
	uint32_t element;             /* ARRAY of numbers: bytes of one */
};

struct pack_type {
	const char *name; /* for errors */
	size_t size;      /* bytes */
	const struct pack_field *fields;
	size_t nfields;
	/*
	 * For a structure that holds a union: more members, chosen by what is in the structure
	 * already. NULL: none. Called after the fields above were checked. `variants` lists all
	 * that it can return, for the hash.
	 */
	const struct pack_type *(*variant)(const void *object);
	const struct pack_type *const *variants;
	size_t nvariants;
};

#define PACK_STRING(s, m) \
	{ \
		.kind = PACK_KIND_STRING, .offset = offsetof(s, m) \
	}
#define PACK_STRING_NEEDED(s, m) \
	{ \
		.kind = PACK_KIND_STRING, .offset = offsetof(s, m), .needed = true \
	}
#define PACK_STRINGS(s, v, n) \
	{ \
		.kind = PACK_KIND_STRINGS, .offset = offsetof(s, v), \
		.count_offset = offsetof(s, n) \
	}
#define PACK_POINTER(s, m, t) \
	{ \
		.kind = PACK_KIND_POINTER, .offset = offsetof(s, m), .type = (t) \
	}
#define PACK_POINTER_NEEDED(s, m, t) \
	{ \
		.kind = PACK_KIND_POINTER, .offset = offsetof(s, m), .type = (t), .needed = true \
	}
#define PACK_ARRAY(s, v, n, t) \
	{ \
		.kind = PACK_KIND_ARRAY, .offset = offsetof(s, v), .count_offset = offsetof(s, n), \
		.type = (t) \
	}
#define PACK_NUMBERS(s, v, n) \
	{ \
		.kind = PACK_KIND_ARRAY, .offset = offsetof(s, v), .count_offset = offsetof(s, n), \
		.element = sizeof(*((s *)0)->v) \
	}
#define PACK_EMBED(s, m, t) \
	{ \
		.kind = PACK_KIND_EMBED, .offset = offsetof(s, m), .type = (t) \
	}
#define PACK_BOOL(s, m) \
	{ \
		.kind = PACK_KIND_BOOL, .offset = offsetof(s, m) \
	}
#define PACK_ENUM(s, m, n) \
	{ \
		.kind = PACK_KIND_ENUM, .offset = offsetof(s, m), .limit = (n) \
	}
#define PACK_DROP(s, m) \
	{ \
		.kind = PACK_KIND_DROP, .offset = offsetof(s, m) \
	}

#define PACK_TYPE(var, s, ...) \
	static const struct pack_field var##_fields[] = {__VA_ARGS__}; \
	static const struct pack_type var = {.name = #s, \
		.size = sizeof(s), \
		.fields = var##_fields, \
		.nfields = ARRAY_SIZE(var##_fields)}

/* Appends `root`, a structure of type t, with all it points to, to an empty buffer. */
int pack_write(const struct pack_type *t, const void *root, struct strbuf *out) must_check;

/*
 * Checks `len` bytes and makes them a structure of type t. `bytes` is aligned to 8 bytes, is
 * written to, and must live as long as *ret. -EPROTO with a message: the bytes are broken, or
 * another build wrote them; they are then in no defined state.
 */
int pack_read(const struct pack_type *t, void *bytes, size_t len, void **ret) must_check;
