/* SPDX-License-Identifier: Apache-2.0 */
#include "spec/parse.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "spec/parse_value.h"

_Static_assert(sizeof(struct spec_pair) == sizeof(struct cg_unified), "FIELD_PAIRS serves both");
_Static_assert(offsetof(struct spec_strings, n) == sizeof(void *), "{v, n} are adjacent");

static int parse_bool(struct parser *p, const struct json *node, bool *ret)
{
	if (node->type != JSON_BOOL)
		return parse_unexpected(p, node, "true or false");
	*ret = node->boolean;
	return 0;
}

static int parse_string(struct parser *p, const struct json *node, unsigned flags, const char **ret)
{
	const char *expected = flags & FIELD_ABSOLUTE ? "an absolute path" : "a string";

	if (node->type != JSON_STRING)
		return parse_unexpected(p, node, "%s", expected);
	*ret = NULL;
	if (!*node->text) {
		if ((flags & FIELD_REQUIRED) && !(flags & FIELD_EMPTY_OK))
			return parse_unexpected(p, node, "%s that is not empty", expected);
		return 0;
	}
	if ((flags & FIELD_ABSOLUTE) && node->text[0] != '/')
		return parse_unexpected(p, node, "%s", expected);
	if ((flags & FIELD_ONE_LINE) && strchr(node->text, '\n'))
		return parse_unexpected(p, node, "one line without a newline");
	*ret = node->text;
	return 0;
}

int parse_strings(
	struct parser *p, const struct json *node, unsigned flags, struct spec_strings *ret)
{
	if (node->type != JSON_ARRAY)
		return parse_unexpected(p, node, "an array of strings");
	if (node->count == 0 && (flags & FIELD_NONEMPTY))
		return parse_unexpected(p, node, "an array of at least one string");
	const char **v = arena_array(p->arena, node->count + (size_t)1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	size_t n = 0;
	for (const struct json *e = node->first; e; e = e->next, n++) {
		parse_enter_index(p, n);
		int r = parse_string(p, e, flags & (FIELD_ABSOLUTE | FIELD_ONE_LINE), &v[n]);
		if (r >= 0 && !v[n] && (flags & FIELD_ABSOLUTE))
			r = parse_unexpected(p, e, "an absolute path");
		if (r < 0)
			return r;
		if (!v[n])
			/*
			 * A string that is not a path may be "" in an array of strings, although ""
			 * elsewhere counts as absent.
			 */
			v[n] = "";
		parse_leave(p);
	}
	*ret = (struct spec_strings){.v = v, .n = n};
	return 0;
}

int parse_array(struct parser *p, const struct json *node, const struct object_type *t, void *ret,
	size_t *ret_n)
{
	if (node->type != JSON_ARRAY)
		return parse_unexpected(p, node, "an array of objects");
	char *v = node->count ? arena_array(p->arena, node->count, t->size) : NULL;
	if (node->count && !v)
		return -ENOMEM;
	size_t n = 0;
	for (const struct json *e = node->first; e; e = e->next, n++) {
		parse_enter_index(p, n);
		int r = parse_object(p, e, t, v + n * t->size);
		if (r < 0)
			return r;
		parse_leave(p);
	}
	memcpy(ret, &v, sizeof(v));
	*ret_n = n;
	return 0;
}

static int parse_map(
	struct parser *p, const struct json *node, const struct object_type *t, void *member)
{
	if (node->type != JSON_OBJECT)
		return parse_unexpected(p, node, "an object of objects");
	char *v = node->count ? arena_array(p->arena, node->count, t->size) : NULL;
	if (node->count && !v)
		return -ENOMEM;
	size_t n = 0;
	for (const struct json *e = node->first; e; e = e->next, n++) {
		parse_enter_key(p, e->key);
		memcpy(v + n * t->size, &e->key, sizeof(e->key));
		int r = parse_object(p, e, t, v + n * t->size);
		if (r < 0)
			return r;
		parse_leave(p);
	}
	memcpy(member, &v, sizeof(v));
	memcpy((char *)member + sizeof(v), &n, sizeof(n));
	return 0;
}

static int parse_pairs(struct parser *p, const struct json *node, void *member)
{
	if (node->type != JSON_OBJECT)
		return parse_unexpected(p, node, "an object of strings");
	struct spec_pairs pairs = {0};
	struct spec_pair *v = node->count ? arena_array(p->arena, node->count, sizeof(*v)) : NULL;
	if (node->count && !v)
		return -ENOMEM;
	for (const struct json *e = node->first; e; e = e->next) {
		parse_enter_key(p, e->key);
		if (!*e->key)
			return parse_error(p, "expected a name that is not empty, found \"\"");
		if (e->type != JSON_STRING)
			return parse_unexpected(p, e, "a string");
		v[pairs.n++] = (struct spec_pair){.key = e->key, .value = e->text};
		parse_leave(p);
	}
	pairs.v = v;
	memcpy(member, &pairs, sizeof(pairs));
	return 0;
}

/* Parses an array of numbers or of names into an array of uint32_t. */
static int parse_u32s(
	struct parser *p, const struct json *node, const struct field *f, void *member)
{
	const char *elements = f->kind == FIELD_ENUMS ? "strings" : "numbers";

	if (node->type != JSON_ARRAY)
		return parse_unexpected(p, node, "an array of %s", elements);
	uint32_t *v = node->count ? arena_array(p->arena, node->count, sizeof(*v)) : NULL;
	if (node->count && !v)
		return -ENOMEM;
	size_t n = 0;
	for (const struct json *e = node->first; e; e = e->next, n++) {
		uint64_t value;
		parse_enter_index(p, n);
		int r = f->kind == FIELD_ENUMS ? parse_enum(p, e, f, &value)
					       : parse_int(p, e, f, &value);
		if (r < 0)
			return r;
		v[n] = (uint32_t)value;
		parse_leave(p);
	}
	memcpy(member, &v, sizeof(v));
	memcpy((char *)member + sizeof(v), &n, sizeof(n));
	return 0;
}

static int parse_flags(
	struct parser *p, const struct json *node, const struct field *f, uint64_t *ret)
{
	if (node->type != JSON_ARRAY)
		return parse_unexpected(p, node, "an array of strings");
	size_t n = 0;
	*ret = 0;
	for (const struct json *e = node->first; e; e = e->next, n++) {
		uint64_t value = 0;
		parse_enter_index(p, n);
		int r = parse_enum(p, e, f, &value);
		if (r < 0 && (f->flags & FIELD_WARN) && e->type == JSON_STRING) {
			log_warn("%s", err_msg());
			err_clear();
			r = 0;
		}
		if (r < 0)
			return r;
		*ret |= value;
		parse_leave(p);
	}
	return 0;
}

/*
 * Stores a number in a member of a structure. The member has `size` bytes. The caller has checked
 * the range of the number.
 */
static void store_number(void *member, size_t size, uint64_t value)
{
	switch (size) {
	case 1:
		*(uint8_t *)member = (uint8_t)value;
		break;
	case 2:
		*(uint16_t *)member = (uint16_t)value;
		break;
	case 4:
		*(uint32_t *)member = (uint32_t)value;
		break;
	default:
		assert(size == 8);
		*(uint64_t *)member = value;
	}
}

static int parse_number_field(
	struct parser *p, const struct json *node, const struct field *f, void *member)
{
	uint64_t value;

	if (f->kind == FIELD_ENUM && !(f->flags & FIELD_REQUIRED) && node->type == JSON_STRING &&
		!*node->text)
		return 0;
	int r = f->kind == FIELD_ENUM    ? parse_enum(p, node, f, &value)
		: f->kind == FIELD_FLAGS ? parse_flags(p, node, f, &value)
					 : parse_int(p, node, f, &value);

	if (r < 0 || (f->flags & FIELD_CHECK_ONLY))
		return r;
	if (f->kind == FIELD_OPT_INT)
		memcpy(member, &(struct opt_u64){.set = true, .v = value}, sizeof(struct opt_u64));
	else
		store_number(member, f->size, value);
	return 0;
}

static int parse_pointer(
	struct parser *p, const struct json *node, const struct field *f, void *member)
{
	void *object = arena_alloc(p->arena, f->type->size);

	if (!object)
		return -ENOMEM;
	memcpy(member, &object, sizeof(object));
	return parse_object(p, node, f->type, object);
}

static int parse_field(struct parser *p, const struct json *node, const struct field *f, void *obj)
{
	char *member = (char *)obj + f->offset;

	switch (f->kind) {
	case FIELD_BOOL:
		return parse_bool(p, node, (bool *)member);
	case FIELD_OPT_BOOL:
		((struct opt_bool *)member)->set = true;
		return parse_bool(p, node, &((struct opt_bool *)member)->v);
	case FIELD_INT:
	case FIELD_OPT_INT:
	case FIELD_ENUM:
	case FIELD_FLAGS:
		return parse_number_field(p, node, f, member);
	case FIELD_STRING:
		return parse_string(p, node, f->flags, (const char **)member);
	case FIELD_LIST:
		return parse_list(p, node, (const char **)member);
	case FIELD_STRINGS:
		return parse_strings(p, node, f->flags, (struct spec_strings *)member);
	case FIELD_INTS:
	case FIELD_ENUMS:
		return parse_u32s(p, node, f, member);
	case FIELD_OBJECT:
		return parse_object(p, node, f->type, member);
	case FIELD_OBJECT_PTR:
		return parse_pointer(p, node, f, member);
	case FIELD_ARRAY:
		return parse_array(p, node, f->type, member, (size_t *)(member + sizeof(void *)));
	case FIELD_MAP:
		return parse_map(p, node, f->type, member);
	case FIELD_PAIRS:
		return parse_pairs(p, node, member);
	case FIELD_CUSTOM:
		return f->custom(p, node, obj);
	}
	return -EINVAL;
}

static const struct field *find_field(const struct object_type *t, const char *name)
{
	for (const struct field *f = t->fields; f->name; f++)
		if (f->name[0] == name[0] && streq(f->name, name))
			return f;
	return NULL;
}

/*
 * Sets the members for every list of strings that is absent to an empty list, so that loops over
 * the list can run to the NULL at its end.
 */
static void set_empty_lists(const struct object_type *t, char *obj)
{
	static const char *const none[] = {NULL};

	for (const struct field *f = t->fields; f->name; f++) {
		if (f->kind == FIELD_STRINGS)
			((struct spec_strings *)(obj + f->offset))->v = none;
		else if (f->kind == FIELD_OBJECT)
			set_empty_lists(f->type, obj + f->offset);
	}
}

int parse_object(struct parser *p, const struct json *node, const struct object_type *t, void *obj)
{
	uint64_t seen = 0;

	if (node->type != JSON_OBJECT)
		return parse_unexpected(p, node, "an object");
	set_empty_lists(t, obj);
	for (const struct json *n = node->first; n; n = n->next) {
		const struct field *f = n->type == JSON_NULL ? NULL : find_field(t, n->key);
		if (!f)
			continue;
		seen |= UINT64_C(1) << (f - t->fields);
		parse_enter(p, f->name);
		int r = parse_field(p, n, f, obj);
		if (r < 0)
			return r;
		parse_leave(p);
	}
	for (const struct field *f = t->fields; f->name; f++) {
		if (!(f->flags & FIELD_REQUIRED) || (seen & UINT64_C(1) << (f - t->fields)))
			continue;
		parse_enter(p, f->name);
		return parse_missing(p, f);
	}
	return t->check ? t->check(p, node, obj) : 0;
}

bool parse_has(const struct json *node, const char *name)
{
	const struct json *n = json_get(node, name);

	return n && n->type != JSON_NULL;
}

uint64_t parse_number_or(const struct json *node, const char *name, uint64_t otherwise)
{
	uint64_t value;

	return json_get_u64(node, name, &value) < 0 ? otherwise : value;
}
