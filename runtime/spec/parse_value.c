/* SPDX-License-Identifier: Apache-2.0 */
#include "spec/parse_value.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define SHOWN 80 /* how many bytes of a value from config.json an error message shows */

static void enter_step(struct parser *p, struct parse_step step)
{
	assert(p->depth < PARSE_MAX_DEPTH);
	p->path[p->depth++] = step;
}

void parse_enter(struct parser *p, const char *name)
{
	enter_step(p, (struct parse_step){.kind = PARSE_NAME, .name = name});
}

void parse_enter_key(struct parser *p, const char *key)
{
	enter_step(p, (struct parse_step){.kind = PARSE_KEY, .name = key});
}

void parse_enter_index(struct parser *p, size_t index)
{
	enter_step(p, (struct parse_step){.kind = PARSE_INDEX, .index = index});
}

void parse_leave(struct parser *p)
{
	assert(p->depth > 0);
	p->depth--;
}

/* A buffer of fixed size for the text of a message. Text that does not fit is cut. */
struct text {
	size_t len;
	char s[ERR_MAX];
};

static void text_add(struct text *t, const char *fmt, ...) printf_like(2, 3);
static void text_vadd(struct text *t, const char *fmt, va_list ap)
{
	int n = vsnprintf(t->s + t->len, sizeof(t->s) - t->len, fmt, ap);

	if (n > 0)
		t->len += (size_t)n;
	if (t->len >= sizeof(t->s))
		t->len = sizeof(t->s) - 1;
}

static void text_add(struct text *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	text_vadd(t, fmt, ap);
	va_end(ap);
}

/*
 * Adds a string to the text, in quotes. The string is shortened and has '?' in place of control
 * characters, because the error message may end up on a terminal.
 */
static void text_add_quoted(struct text *t, const char *s)
{
	char shown[SHOWN + 1];
	size_t n = strnlen(s, SHOWN);

	/*
	 * The place at which the string is cut is moved back to the start of a UTF-8 sequence, so
	 * that the cut is not in the middle of one.
	 */
	while (s[n] && n > 0 && ((unsigned char)s[n] & 0xc0) == 0x80)
		n--;
	str_clean(shown, sizeof(shown), s, n);
	text_add(t, "\"%s%s\"", shown, s[n] ? "..." : "");
}

static void text_add_path(struct text *t, const struct parser *p)
{
	text_add(t, "%s: ", p->what);
	for (unsigned i = 0; i < p->depth; i++) {
		const struct parse_step *step = &p->path[i];
		if (step->kind == PARSE_INDEX) {
			text_add(t, "[%zu]", step->index);
		} else if (step->kind == PARSE_KEY) {
			text_add(t, "[");
			text_add_quoted(t, step->name);
			text_add(t, "]");
		} else {
			text_add(t, "%s%s", i ? "." : "", step->name);
		}
	}
	if (p->depth)
		text_add(t, ": ");
}

static void text_add_found(struct text *t, const struct json *node)
{
	if (!node || node->type == JSON_NULL)
		text_add(t, "nothing");
	else if (node->type == JSON_NUMBER)
		text_add(t, "%.*s", SHOWN, node->text);
	else if (node->type == JSON_STRING)
		text_add_quoted(t, node->text);
	else if (node->type == JSON_BOOL)
		text_add(t, "%s", node->boolean ? "true" : "false");
	else if (node->count == 0)
		text_add(t, "an empty %s", node->type == JSON_ARRAY ? "array" : "object");
	else
		text_add(t, "%s", json_type_name(node->type));
}

int parse_error(struct parser *p, const char *fmt, ...)
{
	struct text t = {0};
	va_list ap;

	text_add_path(&t, p);
	va_start(ap, fmt);
	text_vadd(&t, fmt, ap);
	va_end(ap);
	return err_set(EINVAL, "%s", t.s);
}

int parse_error_at(struct parser *p, const char *name, const char *fmt, ...)
{
	struct text t = {0};
	va_list ap;

	parse_enter(p, name);
	text_add_path(&t, p);
	parse_leave(p);
	va_start(ap, fmt);
	text_vadd(&t, fmt, ap);
	va_end(ap);
	return err_set(EINVAL, "%s", t.s);
}

int parse_unexpected(struct parser *p, const struct json *node, const char *fmt, ...)
{
	struct text t = {0};
	va_list ap;

	text_add_path(&t, p);
	text_add(&t, "expected ");
	va_start(ap, fmt);
	text_vadd(&t, fmt, ap);
	va_end(ap);
	text_add(&t, ", found ");
	text_add_found(&t, node);
	return err_set(EINVAL, "%s", t.s);
}

/*
 * Returns whether the text of a JSON number has only digits and perhaps a sign. JSON's other forms
 * of numbers (1.0, 1e3) are floating-point numbers.
 */
static bool is_integer(const char *text)
{
	return text[strspn(text, "-0123456789")] == '\0';
}

int parse_int(struct parser *p, const struct json *node, const struct field *f, uint64_t *ret)
{
	int64_t negative;

	if (node->type == JSON_NUMBER && !is_integer(node->text))
		return parse_unexpected(p, node,
			"a whole number from %" PRId64 " to %" PRIu64
			", written without fraction and exponent",
			f->min, f->max);
	if (node->type == JSON_NUMBER && node->text[0] == '-') {
		if (str_to_i64(node->text, &negative) >= 0 && negative >= f->min &&
			(negative < 0 || f->min <= 0)) {
			*ret = (uint64_t)negative;
			return 0;
		}
	} else if (node->type == JSON_NUMBER && str_to_u64(node->text, ret) >= 0) {
		if (*ret <= f->max && (f->min <= 0 || *ret >= (uint64_t)f->min))
			return 0;
	}
	return parse_unexpected(p, node, "a number from %" PRId64 " to %" PRIu64, f->min, f->max);
}

int parse_enum(struct parser *p, const struct json *node, const struct field *f, uint64_t *ret)
{
	struct text known = {0};

	if (node->type == JSON_STRING) {
		for (const struct spec_name *n = f->names; n->name; n++) {
			if (!streq(n->name, node->text))
				continue;
			*ret = n->value;
			return 0;
		}
	}
	if (node->type == JSON_STRING && (f->flags & FIELD_WARN))
		return parse_error(p, "\"%.*s\" is not known and is ignored", SHOWN, node->text);
	for (const struct spec_name *n = f->names; n->name; n++)
		text_add(&known, "%s%s", n == f->names ? "" : ", ", n->name);
	if (!f->names->name)
		return parse_unexpected(
			p, node, "an empty array, because no name is defined for this property");
	return parse_unexpected(p, node, "one of %s", known.s);
}

/*
 * Returns whether the string is a list in the format of cpuset(7). Numbers in the list have at most
 * five digits, because the kernel's largest CPU and node masks need no more.
 */
static bool is_list(const char *s)
{
	for (;;) {
		uint64_t number[2];
		for (int i = 0; i < 2; i++) {
			size_t n = strspn(s, "0123456789");
			if (n == 0 || n > 5)
				return false;
			number[i] = 0;
			for (; n; n--)
				number[i] = number[i] * 10 + (uint64_t)(*s++ - '0');
			if (i == 1 || *s != '-') {
				number[1] = number[i];
				break;
			}
			s++;
		}
		if (number[1] < number[0])
			return false;
		if (!*s)
			return true;
		if (*s++ != ',')
			return false;
	}
}

int parse_list(struct parser *p, const struct json *node, const char **ret)
{
	const char *expected = "a list of numbers and ranges such as \"0-3,7\"";

	if (node->type != JSON_STRING)
		return parse_unexpected(p, node, "%s", expected);
	*ret = NULL;
	if (!*node->text)
		return 0;
	char *list = arena_strdup(p->arena, node->text);
	if (!list)
		return -ENOMEM;
	size_t len = 0;
	for (const char *s = list; *s; s++)
		if (*s != ' ')
			list[len++] = *s;
	list[len] = '\0';
	if (!is_list(list))
		return parse_unexpected(p, node, "%s", expected);
	*ret = list;
	return 0;
}

int parse_missing(struct parser *p, const struct field *f)
{
	static const char *const words[] = {
		[FIELD_BOOL] = "true or false",
		[FIELD_INT] = "a number",
		[FIELD_OPT_INT] = "a number",
		[FIELD_STRING] = "a string",
		[FIELD_STRINGS] = "an array of strings",
		[FIELD_OBJECT] = "an object",
		[FIELD_OBJECT_PTR] = "an object",
		[FIELD_ARRAY] = "an array of objects",
	};
	struct json nothing = {.type = JSON_NULL};
	uint64_t ignored;

	if (f->kind == FIELD_ENUM)
		return parse_enum(p, &nothing, f, &ignored);
	const char *word = f->kind < ARRAY_SIZE(words) ? words[f->kind] : NULL;
	if (f->flags & FIELD_ABSOLUTE)
		word = "an absolute path";
	return parse_unexpected(p, NULL, "%s", word ? word : "a value");
}
