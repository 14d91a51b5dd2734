/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table engine, which turns JSON objects into C structures. A struct object_type is a list of
 * rows, one for each property of the specification: its name, what its value must be, and the
 * member that the value goes to. The rows are the checklist of what this program knows of
 * config.json; tests compare them with the specification's own schema.
 *
 * A rule that a table can't express (one property against another) is in the type's check(), which
 * runs when all properties of the object are in place. JSON null stands for an absent property,
 * because Go writes it so. The empty string does too, unless the row says otherwise. Properties
 * without a row are ignored.
 *
 * A number that is absent is 0, even if the specification requires it, because the parsers of runc
 * (Go) and crun (libocispec) take it so and configurations rely on it. FIELD_REQUIRED is for
 * numbers for which 0 is no value, and FIELD_OPT_INT for those whose absence means something else.
 * tests/unit/test_spec_numbers.c has the decision for each number.
 *
 * Errors are "WHAT: JSON.PATH: expected ..., found ...".
 */
#pragma once
#include "spec/spec.h"

/*
 * The largest user or group id. The next number is -1 to the kernel, which stands for "unchanged"
 * in setresuid(2) and chown(2), and which no id map can have.
 */
#define SPEC_ID_MAX (UINT32_MAX - 1)

#define PARSE_MAX_DEPTH 16 /* levels that tables can nest, whatever the document does */

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
 * What the value of a property must be, and the C type it is stored in. Arrays and maps are stored
 * in two adjacent members, a pointer and a size_t count: {v, n}.
 */
enum field_kind {
	FIELD_BOOL,       /* bool */
	FIELD_OPT_BOOL,   /* struct opt_bool */
	FIELD_INT,        /* an integer of any width, checked against min and max */
	FIELD_OPT_INT,    /* struct opt_i64 or opt_u64 */
	FIELD_STRING,     /* const char * */
	FIELD_LIST,       /* const char *: a list such as "0-3,7", without its blanks */
	FIELD_ENUM,       /* an integer: the value of one of `names` */
	FIELD_FLAGS,      /* an integer: an array of `names`, whose values are or-ed */
	FIELD_STRINGS,    /* struct spec_strings */
	FIELD_INTS,       /* const uint32_t *, size_t: integers, each checked against min and max */
	FIELD_ENUMS,      /* const uint32_t *, size_t: an array of the values of `names` */
	FIELD_OBJECT,     /* a structure in place; the offsets of its type count from it */
	FIELD_OBJECT_PTR, /* const struct *: a structure of its own */
	FIELD_ARRAY,      /* const struct *, size_t: an array of objects */
	FIELD_MAP,        /* the same of an object; the first member of each structure is its key */
	FIELD_PAIRS,      /* struct spec_pairs, or another {const char *, const char *} array */
	FIELD_CUSTOM,     /* custom() parses it; type, if set, lists the properties, for tests */
};

#define FIELD_REQUIRED (1 << 0)
#define FIELD_ABSOLUTE (1 << 1)   /* the string, or each string of an array, starts with / */
#define FIELD_EMPTY_OK (1 << 2)   /* required, but may be "", which counts as absent */
#define FIELD_NONEMPTY (1 << 3)   /* the array has at least one element */
#define FIELD_WARN (1 << 4)       /* FIELD_FLAGS: an unknown name causes only a warning */
#define FIELD_ONE_LINE (1 << 5)   /* the string, or each string of an array, has no newline */
#define FIELD_CHECK_ONLY (1 << 6) /* checked but not stored: check() reads it from the JSON */

struct spec_name {
	const char *name; /* NULL ends the table */
	uint64_t value;
};

struct field {
	const char *name; /* NULL ends the table */
	enum field_kind kind;
	unsigned flags;
	size_t offset, size; /* of the member in its structure */
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
/*
 * A row for an object that has no structure of its own: the offsets of its type count from the
 * enclosing structure.
 */
#define FIELD_GROUP(name_, type_, ...) \
	{ \
		.name = (name_), .kind = FIELD_OBJECT, .type = (type_), __VA_ARGS__ \
	}
#define REQUIRED .flags = FIELD_REQUIRED
#define RANGE(min_, max_) .min = (min_), .max = (max_)

/* Fills *obj, which is zeroed, from the JSON object `node`. */
int parse_object(struct parser *p, const struct json *node, const struct object_type *t, void *obj)
	must_check;

/*
 * Parses an array of objects to an array of structures in the arena. *ret is NULL if it is empty.
 */
int parse_array(struct parser *p, const struct json *node, const struct object_type *t, void *ret,
	size_t *ret_n) must_check;
int parse_strings(struct parser *p, const struct json *node, unsigned flags,
	struct spec_strings *ret) must_check;

/* Sets the message "WHAT: PATH: " and the text. Returns -EINVAL. */
int parse_error(struct parser *p, const char *fmt, ...) printf_like(2, 3);
/* The same for the property `name` of the object that is being parsed. */
int parse_error_at(struct parser *p, const char *name, const char *fmt, ...) printf_like(3, 4);
/*
 * Sets the message "WHAT: PATH: expected <text>, found <node>". Returns -EINVAL. If node is NULL,
 * the required property is missing.
 */
int parse_unexpected(struct parser *p, const struct json *node, const char *fmt, ...)
	printf_like(3, 4);

/* p->path grows by a property or an index when parsing enters it, and shrinks when it leaves. */
void parse_enter(struct parser *p, const char *name);
void parse_enter_index(struct parser *p, size_t index);
void parse_leave(struct parser *p);

/* Returns whether the property is present and not null. */
bool parse_has(const struct json *node, const char *name);
/* Returns a number that the table has already checked, or `otherwise` if it is absent. */
uint64_t parse_number_or(const struct json *node, const char *name, uint64_t otherwise);

/* The types of whole documents. */
extern const struct object_type spec_config_type, spec_process_type, spec_resources_type;

/* The types that spec_config_type is made of and that have files of their own. */
extern const struct object_type spec_linux_type, spec_mount_type, spec_vm_type, spec_seccomp_type,
	spec_id_map_type;

/*
 * Checks id maps against each other and the kernel's limits: no overlap, no overflow, not too many.
 */
int spec_check_id_maps(struct parser *p, const char *name, struct spec_id_maps maps) must_check;
/*
 * Parses the options "idmap=uids=...;gids=..." of all mounts. Relative ids are looked up in
 * linux.uidMappings and gidMappings.
 */
int spec_parse_idmaps(struct parser *p, struct spec *s) must_check;
int spec_check_sysctl(struct parser *p, const struct spec *s) must_check;
/* The same where the document as a whole is needed. */
int spec_check_uts_sysctl(struct parser *p, const struct spec *s) must_check;

/*
 * Returns whether the kernel takes s as the name of an interface: the rule of its dev_valid_name().
 */
bool spec_is_interface_name(const char *s);

/* Parses the value of the annotation SPEC_VM_NET. Errors name the annotation. (vm_net.c) */
int spec_parse_vm_net(struct arena *a, const char *value, const struct spec_vm_net **ret)
	must_check;
