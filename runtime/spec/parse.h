/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table engine: JSON objects to C structures. A struct object_type is a list of rows, one a
 * property of the specification: its name, what it must be, and where it goes. The rows are the
 * checklist of what this program knows of config.json; tests compare them with the specification's
 * own schema.
 *
 * What a table can't say (one property against another) is in the type's check(), which runs when
 * all properties of the object are in place. JSON null stands for an absent property, as Go writes
 * it; so does the empty string, unless the row says otherwise. Properties without a row are
 * ignored.
 *
 * Errors are "WHAT: JSON.PATH: expected ..., found ...".
 */
#pragma once
#include "spec/spec.h"

#define PARSE_MAX_DEPTH 16 /* of the specification's own nesting, not of the document's */

struct parser {
	struct arena *arena;
	const char *what; /* names the document in errors */
	unsigned depth;
	struct parse_step {
		enum { PARSE_NAME, PARSE_KEY, PARSE_INDEX } kind;
		const char *name;
		size_t index;
	} path[PARSE_MAX_DEPTH];
};

/*
 * What a property must be, and the C type it goes to. Arrays and maps go to two adjacent members, a
 * pointer and a size_t count: {v, n}.
 */
enum field_kind {
	FIELD_BOOL,       /* bool */
	FIELD_OPT_BOOL,   /* struct opt_bool */
	FIELD_INT,        /* an integer of any width, checked against min and max */
	FIELD_OPT_INT,    /* struct opt_i64 or opt_u64 */
	FIELD_STRING,     /* const char * */
	FIELD_LIST,       /* const char *: "0-3,7", blanks taken out */
	FIELD_ENUM,       /* an integer: one of names */
	FIELD_FLAGS,      /* an integer: the values of an array of names, or-ed */
	FIELD_STRINGS,    /* struct spec_strings */
	FIELD_INTS,       /* const uint32_t *, size_t: each checked against min and max */
	FIELD_ENUMS,      /* const uint32_t *, size_t: each one of names */
	FIELD_OBJECT,     /* a structure in place; type's offsets count from here */
	FIELD_OBJECT_PTR, /* const struct *: allocated */
	FIELD_ARRAY,      /* const struct *, size_t: an array of objects */
	FIELD_MAP,        /* the same from an object; each structure's first member is its key */
	FIELD_PAIRS,      /* struct spec_pairs, or another {const char *, const char *} array */
	FIELD_CUSTOM,     /* custom() does it; type, if set, tells what properties it knows */
};

#define FIELD_REQUIRED (1 << 0)
#define FIELD_ABSOLUTE (1 << 1) /* the string, or each string, starts with / */
#define FIELD_EMPTY_OK (1 << 2) /* required, but "" will do, and is absent */
#define FIELD_NONEMPTY (1 << 3) /* the array has an element */
#define FIELD_WARN (1 << 4)     /* FIELD_FLAGS: an unknown name is a warning */
#define FIELD_ONE_LINE (1 << 5) /* the string, or each string, has no newline */
#define FIELD_CHECK_ONLY \
	(1 << 6) /* FIELD_INT: checked, stored nowhere; check() looks at the JSON */

struct spec_name {
	const char *name; /* NULL ends the table */
	uint64_t value;
};

struct field {
	const char *name; /* NULL ends the table */
	enum field_kind kind;
	unsigned flags;
	size_t offset, size; /* of the member, in its structure */
	int64_t min;
	uint64_t max;
	const struct spec_name *names;
	const struct object_type *type;
	int (*custom)(struct parser *p, const struct json *node, void *obj);
};

struct object_type {
	size_t size; /* of the structure */
	const struct field *fields;
	int (*check)(struct parser *p, const struct json *node, void *obj);
};

#define FIELD(kind_, name_, S, member, ...) \
	{ \
		.name = (name_), .kind = FIELD_##kind_, .offset = offsetof(struct S, member), \
		.size = sizeof(((struct S *)0)->member), __VA_ARGS__ \
	}
/* A row without a member of its own: the offsets of its type count from the enclosing structure. */
#define FIELD_GROUP(name_, type_, ...) \
	{ \
		.name = (name_), .kind = FIELD_OBJECT, .type = (type_), __VA_ARGS__ \
	}
#define REQUIRED .flags = FIELD_REQUIRED
#define RANGE(min_, max_) .min = (min_), .max = (max_)

/* Fills the zeroed *obj from the object node. */
int parse_object(struct parser *p, const struct json *node, const struct object_type *t, void *obj)
	must_check;

/* An array of objects, in the arena; *ret is NULL where it is empty. */
int parse_array(struct parser *p, const struct json *node, const struct object_type *t, void *ret,
	size_t *ret_n) must_check;
int parse_strings(struct parser *p, const struct json *node, unsigned flags,
	struct spec_strings *ret) must_check;

/* "WHAT: PATH: " and the text. Returns -EINVAL. */
int parse_error(struct parser *p, const char *fmt, ...) printf_like(2, 3);
/* The same for the property name of the object that is being parsed. */
int parse_error_at(struct parser *p, const char *name, const char *fmt, ...) printf_like(3, 4);
/* "..., found <node>"; node NULL: the required property is missing. */
int parse_unexpected(struct parser *p, const struct json *node, const char *fmt, ...)
	printf_like(3, 4);

void parse_enter(struct parser *p, const char *name); /* a property */
void parse_enter_index(struct parser *p, size_t index);
void parse_leave(struct parser *p);

/* Whether the property is there and not null. */
bool parse_has(const struct json *node, const char *name);
/* A number that the table has already checked, or otherwise. */
uint64_t parse_number_or(const struct json *node, const char *name, uint64_t otherwise);

/* The types that documents start with; the rest hangs from them. */
extern const struct object_type spec_config_type, spec_process_type, spec_resources_type;

/* Those that config.json's own table joins together, a file each. */
extern const struct object_type spec_linux_type, spec_mount_type, spec_vm_type, spec_seccomp_type,
	spec_id_map_type;

/* What holds between properties of id maps: no overlap, no overflow, no more than the kernel takes.
 */
int spec_check_id_maps(struct parser *p, const char *name, struct spec_id_maps maps) must_check;
/* "idmap=uids=...;gids=..." of the mounts; relative ids are linux.uidMappings' and gidMappings'. */
int spec_parse_idmaps(struct parser *p, struct spec *s) must_check;
int spec_check_sysctl(struct parser *p, const struct spec *s) must_check;

/* As the kernel's dev_valid_name(). */
bool spec_is_interface_name(const char *s);

/* vm_net.c: the annotation's value; errors name it. */
int spec_parse_vm_net(struct arena *a, const char *value, const struct spec_vm_net **ret)
	must_check;
