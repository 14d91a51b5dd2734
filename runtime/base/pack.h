/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes C structures as bytes that another process of the same build can use in place. The runtime
 * hands a plan to INIT, the container's first process, in this form, and a microVM's monitor hands
 * a plan to the guest.
 *
 * A struct pack_type describes a structure: its size, and those of its members that cannot be
 * copied as they are. pack_write() copies the structure, appends the objects that its pointers
 * point to, and replaces the pointers by offsets. pack_read() checks every offset, count, string,
 * boolean and enumerator and turns the offsets into pointers into the same buffer. Members that a
 * type does not list are plain numbers and are copied as they are.
 *
 *	PACK_TYPE(hook, struct spec_hook,
 *		PACK_STRING(struct spec_hook, path), PACK_BOOL(struct spec_hook, has_env));
 *
 * The format is no interface: the header holds a hash of all sizes, offsets and kinds, and a reader
 * of another build refuses the bytes.
 */
#pragma once
#include <stdint.h>

#include "base/str.h"

enum pack_kind {
	PACK_KIND_STRING,  /* a char *, which may be NULL */
	PACK_KIND_STRINGS, /* a char ** and a count; the array ends in NULL */
	/*
	 * a pointer to one structure, or NULL; two pointers to one structure point to one structure
	 * after reading, too
	 */
	PACK_KIND_POINTER,
	PACK_KIND_ARRAY, /* a pointer to an array of structures, and a count */
	PACK_KIND_EMBED, /* a structure inside the enclosing structure */
	PACK_KIND_BOOL,
	PACK_KIND_ENUM, /* an enumerator of 4 bytes, which must be less than `limit` */
	PACK_KIND_DROP, /* a pointer or a size_t that is written as 0 */
};

struct pack_type;

struct pack_field {
	enum pack_kind kind;
	uint32_t offset;
	/* used by STRINGS and ARRAY: offset in the structure of the count, a size_t */
	uint32_t count_offset;
	uint32_t limit; /* used by ENUM: the first value that is too large */
	bool needed;    /* used by STRING and POINTER: whether NULL is an error */
	/* used by POINTER, ARRAY and EMBED: type of the object; NULL for an array of numbers */
	const struct pack_type *type;
	uint32_t element; /* used by an ARRAY of numbers: size of one number in bytes */
};

struct pack_type {
	const char *name; /* name of the type, which error messages use */
	size_t size;      /* size of the structure in bytes */
	const struct pack_field *fields;
	size_t nfields;
	/*
	 * For a structure with a union: a function that returns a type with more members, chosen by
	 * the contents of the structure, or NULL. pack_read() calls variant() after it has checked
	 * the members of `fields`. `variants` lists every type that variant() can return, because
	 * the layout's hash covers all of these types.
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

/* Appends the structure `root` of type t, and everything that it points to, to an empty buffer. */
int pack_write(const struct pack_type *t, const void *root, struct strbuf *out) must_check;

/*
 * Checks `len` bytes and turns them into a structure of type t. `bytes` is aligned to 8 bytes, is
 * modified, and must live as long as *ret. Returns -EPROTO with a message if the bytes are broken
 * or another build wrote them. After an error the contents of `bytes` are undefined.
 */
int pack_read(const struct pack_type *t, void *bytes, size_t len, void **ret) must_check;
