/* SPDX-License-Identifier: Apache-2.0 */
#include "images/oci/toml.h"

#include <stdlib.h>

#define DEPTH_MAX 8 /* how many levels of tables and arrays may be inside one another */

struct toml {
	struct arena *a;
	const char *what;
	const char *p, *end;
	unsigned line;
};

static int wrong(const struct toml *t, const char *why)
{
	return err_set(EINVAL, "%s: line %u: %s", t->what, t->line, why);
}

static bool at_end(const struct toml *t)
{
	return t->p == t->end;
}

static char peek(const struct toml *t)
{
	return at_end(t) ? '\0' : *t->p;
}

static void skip_blanks(struct toml *t)
{
	while (!at_end(t) && (*t->p == ' ' || *t->p == '\t'))
		t->p++;
}

/* Skips blanks and a comment, and expects the end of the line. */
static int end_line(struct toml *t)
{
	skip_blanks(t);
	if (peek(t) == '#')
		while (!at_end(t) && *t->p != '\n')
			t->p++;
	if (peek(t) == '\r' && t->p + 1 < t->end && t->p[1] == '\n')
		t->p++;
	if (at_end(t))
		return 0;
	if (*t->p != '\n')
		return wrong(t, "expected the end of the line");
	t->p++;
	t->line++;
	return 0;
}

/* Skips blanks, comments and line ends, which may stand between the elements of an array. */
static int skip_lines(struct toml *t)
{
	for (;;) {
		skip_blanks(t);
		char c = peek(t);
		if (at_end(t) || (c != '#' && c != '\n' && c != '\r'))
			return 0;
		int r = end_line(t);
		if (r < 0)
			return r;
	}
}

static struct json *new_node(struct toml *t, enum json_type type, const char *key)
{
	struct json *n = arena_alloc(t->a, sizeof(*n));

	if (n) {
		n->type = type;
		n->key = key;
	}
	return n;
}

static void append(struct json *parent, struct json *n)
{
	struct json **last = &parent->first;

	while (*last)
		last = &(*last)->next;
	*last = n;
	parent->count++;
}

static int hex(struct toml *t, int digits, uint32_t *ret)
{
	*ret = 0;
	for (int i = 0; i < digits; i++) {
		char c = peek(t);
		int v = c >= '0' && c <= '9'   ? c - '0'
			: c >= 'a' && c <= 'f' ? c - 'a' + 10
			: c >= 'A' && c <= 'F' ? c - 'A' + 10
					       : -1;
		if (v < 0)
			return wrong(t, "a broken escape in a string");
		*ret = *ret << 4 | (uint32_t)v;
		t->p++;
	}
	return 0;
}

static int add_utf8(struct strbuf *b, uint32_t c)
{
	char s[4];
	size_t n;

	if (c < 0x80) {
		s[0] = (char)c;
		n = 1;
	} else if (c < 0x800) {
		s[0] = (char)(0xc0 | c >> 6);
		s[1] = (char)(0x80 | (c & 0x3f));
		n = 2;
	} else if (c < 0x10000) {
		s[0] = (char)(0xe0 | c >> 12);
		s[1] = (char)(0x80 | (c >> 6 & 0x3f));
		s[2] = (char)(0x80 | (c & 0x3f));
		n = 3;
	} else {
		s[0] = (char)(0xf0 | c >> 18);
		s[1] = (char)(0x80 | (c >> 12 & 0x3f));
		s[2] = (char)(0x80 | (c >> 6 & 0x3f));
		s[3] = (char)(0x80 | (c & 0x3f));
		n = 4;
	}
	return strbuf_add(b, s, n);
}

static int escape(struct toml *t, struct strbuf *b)
{
	static const char from[] = "btnfr\"\\", to[] = "\b\t\n\f\r\"\\";
	char c = peek(t);
	uint32_t v;

	t->p += !at_end(t);
	if (c == 'u' || c == 'U') {
		int r = hex(t, c == 'u' ? 4 : 8, &v);
		if (r < 0)
			return r;
		if (v == 0 || v > 0x10ffff || (v >= 0xd800 && v < 0xe000))
			return wrong(t, "an escape that is no character");
		return add_utf8(b, v);
	}
	const char *at = c ? strchr(from, c) : NULL;
	return at ? strbuf_add(b, &to[at - from], 1) : wrong(t, "a broken escape in a string");
}

static int string(struct toml *t, const char **ret)
{
	_cleanup_strbuf_ struct strbuf b = {0};
	char quote = *t->p++;
	int r = 0;

	if (t->end - t->p >= 2 && t->p[0] == quote && t->p[1] == quote)
		return wrong(t, "a string of several lines, which is not known here");
	while (r >= 0) {
		char c = peek(t);
		if (at_end(t) || (unsigned char)c < ' ')
			return wrong(t, "a string without end, or with a control character");
		t->p++;
		if (c == quote)
			break;
		r = c == '\\' && quote == '"' ? escape(t, &b) : strbuf_add(&b, &c, 1);
	}
	if (r < 0)
		return r;
	*ret = arena_strndup(t->a, strbuf_str(&b), b.len);
	return *ret ? 0 : -ENOMEM;
}

static bool is_key(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '-';
}

static int one_key(struct toml *t, const char **ret)
{
	const char *start = t->p;

	if (peek(t) == '"' || peek(t) == '\'')
		return string(t, ret);
	while (!at_end(t) && is_key(*t->p))
		t->p++;
	if (t->p == start)
		return wrong(t, "expected a key");
	*ret = arena_strndup(t->a, start, (size_t)(t->p - start));
	return *ret ? 0 : -ENOMEM;
}

static int value(struct toml *t, const char *key, int depth, struct json **ret);

static int array(struct toml *t, const char *key, int depth, struct json **ret)
{
	struct json *n = new_node(t, JSON_ARRAY, key), *element;

	if (!n)
		return -ENOMEM;
	t->p++;
	for (;;) {
		int r = skip_lines(t);
		if (r < 0)
			return r;
		if (peek(t) == ']')
			break;
		r = value(t, NULL, depth + 1, &element);
		if (r >= 0)
			append(n, element);
		if (r >= 0)
			r = skip_lines(t);
		if (r < 0)
			return r;
		if (peek(t) == ',')
			t->p++;
		else if (peek(t) != ']')
			return wrong(t, "expected a comma or ] in an array");
	}
	t->p++;
	*ret = n;
	return 0;
}

static int member(struct toml *t, struct json *table, int depth);

static int inline_table(struct toml *t, const char *key, int depth, struct json **ret)
{
	struct json *n = new_node(t, JSON_OBJECT, key);

	if (!n)
		return -ENOMEM;
	t->p++;
	skip_blanks(t);
	for (bool first = true; peek(t) != '}'; first = false) {
		if (!first) {
			if (peek(t) != ',')
				return wrong(t, "expected a comma or } in a table");
			t->p++;
			skip_blanks(t);
		}
		int r = member(t, n, depth + 1);
		if (r < 0)
			return r;
		skip_blanks(t);
	}
	t->p++;
	*ret = n;
	return 0;
}

static int word(struct toml *t, const char *key, struct json **ret)
{
	const char *start = t->p;

	while (!at_end(t) && (is_key(*t->p) || *t->p == '+' || *t->p == '.' || *t->p == ':'))
		t->p++;
	const char *text = arena_strndup(t->a, start, (size_t)(t->p - start));
	if (!text)
		return -ENOMEM;
	bool truth = streq(text, "true");
	int64_t number;
	struct json *n = new_node(t, JSON_BOOL, key);
	if (!n)
		return -ENOMEM;
	if (truth || streq(text, "false")) {
		n->boolean = truth;
	} else if (str_to_i64(text, &number) == 0) {
		n->type = JSON_NUMBER;
		n->text = text;
	} else {
		return wrong(
			t, "expected a string, a boolean, a whole number, an array or a table");
	}
	*ret = n;
	return 0;
}

static int value(struct toml *t, const char *key, int depth, struct json **ret)
{
	const char *text;

	if (depth > DEPTH_MAX)
		return wrong(t, "values nested too deep");
	switch (peek(t)) {
	case '"':
	case '\'': {
		struct json *n = new_node(t, JSON_STRING, key);
		if (!n)
			return -ENOMEM;
		int r = string(t, &text);
		if (r < 0)
			return r;
		n->text = text;
		*ret = n;
		return 0;
	}
	case '[':
		return array(t, key, depth, ret);
	case '{':
		return inline_table(t, key, depth, ret);
	default:
		return word(t, key, ret);
	}
}

static int add_member(struct toml *t, struct json *table, struct json *n)
{
	if (table->count == JSON_MAX_MEMBERS)
		return wrong(t, "a table has too many members");
	if (json_get(table, n->key))
		return wrong(t, "a key is given twice");
	append(table, n);
	return 0;
}

/* Reads one line "KEY = VALUE". */
static int member(struct toml *t, struct json *table, int depth)
{
	const char *key;
	struct json *n;
	int r = one_key(t, &key);

	if (r < 0)
		return r;
	skip_blanks(t);
	if (peek(t) == '.')
		return wrong(t, "a key with dots, which is not known here");
	if (peek(t) != '=')
		return wrong(t, "expected = behind a key");
	t->p++;
	skip_blanks(t);
	r = value(t, key, depth, &n);
	return r < 0 ? r : add_member(t, table, n);
}

/*
 * Finds the table with the name `key` inside `in`. If the name belongs to an array of tables, finds
 * the last table of the array.
 */
static int enter(struct toml *t, struct json *in, const char *key, struct json **ret)
{
	struct json *n = (struct json *)json_get(in, key);

	if (!n) {
		n = new_node(t, JSON_OBJECT, key);
		int r = n ? add_member(t, in, n) : -ENOMEM;
		if (r < 0)
			return r;
	}
	if (n->type == JSON_ARRAY && n->first) {
		n = n->first;
		while (n->next)
			n = n->next;
	}
	if (n->type != JSON_OBJECT)
		return wrong(t, "a table has the name of a value");
	*ret = n;
	return 0;
}

static int add_table(struct toml *t, struct json *in, const char *key, struct json **ret)
{
	struct json *array = (struct json *)json_get(in, key);
	struct json *n = new_node(t, JSON_OBJECT, NULL);
	int r = 0;

	if (!n)
		return -ENOMEM;
	if (!array) {
		array = new_node(t, JSON_ARRAY, key);
		r = array ? add_member(t, in, array) : -ENOMEM;
	}
	if (r < 0)
		return r;
	if (array->type != JSON_ARRAY || (array->first && array->first->type != JSON_OBJECT))
		return wrong(t, "an array of tables has the name of a value");
	append(array, n);
	*ret = n;
	return 0;
}

/* Reads the header of a table, "[NAME.NAME]", or of an array's table, "[[NAME.NAME]]". */
static int header(struct toml *t, struct json *root, struct json **ret)
{
	bool array = t->p + 1 < t->end && t->p[1] == '[';
	const char *key;

	t->p += array ? 2 : 1;
	*ret = root;
	for (int depth = 0;; depth++) {
		if (depth == DEPTH_MAX)
			return wrong(t, "tables nested too deep");
		skip_blanks(t);
		int r = one_key(t, &key);
		if (r < 0)
			return r;
		skip_blanks(t);
		bool last = peek(t) == ']';
		r = last && array ? add_table(t, *ret, key, ret) : enter(t, *ret, key, ret);
		if (r < 0)
			return r;
		if (last)
			break;
		if (peek(t) != '.')
			return wrong(t, "expected ] behind a table's name");
		t->p++;
	}
	t->p++;
	if (array && peek(t) != ']')
		return wrong(t, "expected ]] behind the name of an array of tables");
	t->p += array;
	return 0;
}

int toml_parse(struct arena *a, const struct strbuf *text, const char *what, struct json **ret)
{
	struct toml t = {.a = a,
		.what = what,
		.p = strbuf_str(text),
		.end = strbuf_str(text) + text->len,
		.line = 1};
	struct json *root = new_node(&t, JSON_OBJECT, NULL), *table = root;

	if (!root)
		return -ENOMEM;
	if (memchr(t.p, '\0', text->len))
		return err_set(EINVAL, "%s holds a NUL character", what);
	for (;;) {
		int r = skip_lines(&t);
		if (r < 0 || at_end(&t)) {
			*ret = root;
			return r;
		}
		r = peek(&t) == '[' ? header(&t, root, &table) : member(&t, table, 0);
		if (r >= 0)
			r = end_line(&t);
		if (r < 0)
			return r;
	}
}
