/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declares the table engine, which turns JSON objects into C structures. A struct object_type is a
 * list of rows, one for each property of the specification: its name, what its value must be, and
 * the member that stores the value. The rows are the complete list of the properties that caisson
 * knows; tests compare them with the specification's own schema.
 *
 * A rule that a table cannot express, such as one between two properties, is in the type's check(),
 * which runs after all properties of the object have been stored. JSON null counts as absent,
 * because Go writes it for absent properties. The empty string counts as absent too, unless the row
 * says otherwise. Properties without a row are ignored.
 *
 * A number that is absent is 0, even if the specification requires it, because the parsers of runc
 * (Go) and crun (libocispec) do the same and configurations rely on that. FIELD_REQUIRED is for
 * numbers for which 0 is no valid value, and FIELD_OPT_INT is for numbers whose absence does not
 * mean 0. tests/unit/test_spec_numbers.c has the decision for each number.
 *
 * Errors have the form "WHAT: JSON.PATH: expected ..., found ...".
 */
#pragma once
#include "spec/spec.h"

/*
 * The largest user or group id. The next number is (uid_t)-1, which no id map can have, because it
 * stands for "unchanged" in setresuid(2) and chown(2).
 */
#define SPEC_ID_MAX (UINT32_MAX - 1)

/* how many tables for JSON objects can be nested, whatever the document contains */
#define PARSE_MAX_DEPTH 16

struct parser {
	struct arena *arena;
	const char *what; /* name of the document, which error messages use */
	unsigned depth;
	struct parse_step {
		enum { PARSE_NAME, PARSE_KEY, PARSE_INDEX } kind;
		const char *name;
		size_t index;
	} path[PARSE_MAX_DEPTH];
};

/*
 * Says what the value of a property must be, and the C type that stores it. An array or a map is
 * stored in two adjacent members, a pointer and a size_t count: {v, n}.
 */
enum field_kind {
	FIELD_BOOL,     /* a boolean, stored as bool */
	FIELD_OPT_BOOL, /* a boolean that may be absent, stored as struct opt_bool */
	FIELD_INT,      /* an integer of any width, checked against min and max */
	FIELD_OPT_INT,  /* an integer, stored as struct opt_i64 or opt_u64 */
	FIELD_STRING,   /* a string, stored as const char * */
	FIELD_LIST,     /* a list such as "0-3,7", stored as const char * without its blanks */
	/* a string that is one of the table `names`, stored as its value in an integer */
	FIELD_ENUM,
	/*
	 * an array of strings from the table `names`, stored as the union (|) of their values in an
	 * integer
	 */
	FIELD_FLAGS,
	FIELD_STRINGS, /* an array of strings, stored as struct spec_strings */
	/*
	 * an array of integers, each checked against min and max, stored as const uint32_t *,
	 * size_t
	 */
	FIELD_INTS,
	/*
	 * an array of strings from the table `names`, stored as the values of the names: const
	 * uint32_t *, size_t
	 */
	FIELD_ENUMS,
	/*
	 * an object, stored in a structure inside the structure of the enclosing object; the
	 * offsets in the table of the object's properties count from the beginning of the inner
	 * structure
	 */
	FIELD_OBJECT,
	FIELD_OBJECT_PTR, /* an object, stored in a structure of its own: const struct * */
	/* an array of objects, stored as an array of structures: const struct *, size_t */
	FIELD_ARRAY,
	/*
	 * an object whose members are objects, stored as const struct *, size_t; the key is the
	 * first member of each structure
	 */
	FIELD_MAP,
	/*
	 * an object whose members are strings, stored as struct spec_pairs or as an array of {const
	 * char *, const char *}
	 */
	FIELD_PAIRS,
	/*
	 * a value that the function custom() of the row parses; `type`, if set, lists the value's
	 * properties for tests
	 */
	FIELD_CUSTOM,
};

#define FIELD_REQUIRED (1 << 0)
#define FIELD_ABSOLUTE (1 << 1) /* the string, or each string of an array, starts with / */
/* the property is required, but may be "", which counts as absent */
#define FIELD_EMPTY_OK (1 << 2)
#define FIELD_NONEMPTY (1 << 3) /* the array has at least one element */
#define FIELD_WARN (1 << 4)     /* for FIELD_FLAGS: an unknown name causes only a warning */
#define FIELD_ONE_LINE (1 << 5) /* the string, or each string of an array, has no newline */
/*
 * the value is checked but not stored; the function check() of the object's type reads it from the
 * JSON
 */
#define FIELD_CHECK_ONLY (1 << 6)

struct spec_name {
	const char *name; /* the name that config.json has for the value; NULL ends the table */
	uint64_t value;
};

struct field {
	const char *name; /* name of the property in config.json; NULL ends the table */
	enum field_kind kind;
	unsigned flags;
	/* offset and size of the member that stores the property, in the structure of the object */
	size_t offset, size;
	int64_t min;
	uint64_t max;
	const struct spec_name *names;
	const struct object_type *type;
	int (*custom)(struct parser *p, const struct json *node, void *obj);
};

struct object_type {
	size_t size; /* size in bytes of the structure that stores the object */
	const struct field *fields;
	int (*check)(struct parser *p, const struct json *node, void *obj);
};

#define FIELD(kind_, name_, S, member, ...) \
	{ \
		.name = (name_), .kind = FIELD_##kind_, .offset = offsetof(struct S, member), \
		.size = sizeof(((struct S *)0)->member), __VA_ARGS__ \
	}
/*
 * A row for a JSON object that has no structure of its own: its properties are stored in members of
 * the structure of the enclosing object.
 */
#define FIELD_GROUP(name_, type_, ...) \
	{ \
		.name = (name_), .kind = FIELD_OBJECT, .type = (type_), __VA_ARGS__ \
	}
#define REQUIRED .flags = FIELD_REQUIRED
#define RANGE(min_, max_) .min = (min_), .max = (max_)

/* Fills the structure *obj, which the caller has zeroed, from the JSON object `node`. */
int parse_object(struct parser *p, const struct json *node, const struct object_type *t, void *obj)
	must_check;

/*
 * Parses an array of objects into an array of structures in the arena. *ret is NULL if the array is
 * empty.
 */
int parse_array(struct parser *p, const struct json *node, const struct object_type *t, void *ret,
	size_t *ret_n) must_check;
int parse_strings(struct parser *p, const struct json *node, unsigned flags,
	struct spec_strings *ret) must_check;

/*
 * Sets the error message: the document's name, the path of the object that is being parsed, and the
 * formatted text. Returns -EINVAL.
 */
int parse_error(struct parser *p, const char *fmt, ...) printf_like(2, 3);
/*
 * Sets the error message as parse_error() does, except that the path in the message ends in the
 * property `name` of the object that is being parsed.
 */
int parse_error_at(struct parser *p, const char *name, const char *fmt, ...) printf_like(3, 4);
/*
 * Sets the error message "WHAT: PATH: expected <text>, found <node>", with the formatted text and a
 * description of node. If node is NULL, the message says that the required property is missing.
 * Returns -EINVAL.
 */
int parse_unexpected(struct parser *p, const struct json *node, const char *fmt, ...)
	printf_like(3, 4);

/*
 * parse_enter() and parse_enter_index() append a property or an index to p->path, the path that
 * error messages name, when the parser enters that value; parse_leave() removes the last part of
 * p->path again.
 */
void parse_enter(struct parser *p, const char *name);
void parse_enter_index(struct parser *p, size_t index);
void parse_leave(struct parser *p);

/* Returns whether the object `node` has the property `name` and the property is not null. */
bool parse_has(const struct json *node, const char *name);
/*
 * Returns the number property `name` of the object `node`, whose type and range were checked
 * before, or `otherwise` if the property is absent.
 */
uint64_t parse_number_or(const struct json *node, const char *name, uint64_t otherwise);

/*
 * The types of whole documents: config.json, and the files of exec --process and update
 * --resources.
 */
extern const struct object_type spec_config_type, spec_process_type, spec_resources_type;

/* The types of those parts of config.json whose parsers are in files of their own. */
extern const struct object_type spec_linux_type, spec_mount_type, spec_vm_type, spec_seccomp_type,
	spec_id_map_type;

/*
 * Checks that the ranges of an id map do not overlap or overflow, and that the map has no more
 * ranges than the kernel allows. `name` is the name of the property, which error messages use.
 */
int spec_check_id_maps(struct parser *p, const char *name, struct spec_id_maps maps) must_check;
/*
 * Parses the mount options "idmap=uids=...;gids=..." of all mounts. Ids that are relative to the
 * container's user namespace are looked up in linux.uidMappings and gidMappings.
 */
int spec_parse_idmaps(struct parser *p, struct spec *s) must_check;
int spec_check_sysctl(struct parser *p, const struct spec *s) must_check;
/*
 * Checks hostname and domainname against linux.sysctl. The caller calls this function once the
 * whole document has been parsed.
 */
int spec_check_uts_sysctl(struct parser *p, const struct spec *s) must_check;

/*
 * Returns whether the kernel accepts s as the name of an interface, by the rule of its
 * dev_valid_name().
 */
bool spec_is_interface_name(const char *s);

/* Parses the value of the annotation SPEC_VM_NET (vm_net.c). Error messages name the annotation. */
int spec_parse_vm_net(struct arena *a, const char *value, const struct spec_vm_net **ret)
	must_check;
