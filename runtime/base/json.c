/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include <inttypes.h>
#include <stdio.h>

#define REPLACEMENT 0xfffdU /* the character for what is none */

struct reader {
	struct arena *arena;
	const char *what;
	const char *text, *p, *end;
	unsigned depth;
};

static int read_value(struct reader *r, struct json *n) must_check;

/* Sets the error for what is at the reader's place, and says what was expected there. */
static int err_syntax(const struct reader *r, const char *expected)
{
	char found[32] = "the end";
	size_t line = 1;

	for (const char *p = r->text; p < r->p; p++)
		line += *p == '\n';
	if (r->p<r->end && * r->p> ' ' && *r->p < 0x7f)
		snprintf(found, sizeof(found), "\"%c\"", *r->p);
	else if (r->p < r->end)
		snprintf(found, sizeof(found), "byte 0x%02x", (unsigned char)*r->p);
	return err_set(EINVAL, "%s: not valid JSON, line %zu: expected %s, found %s", r->what, line,
		expected, found);
}

static void skip_blanks(struct reader *r)
{
	while (r->p < r->end && (*r->p == ' ' || *r->p == '\n' || *r->p == '\t' || *r->p == '\r'))
		r->p++;
}

static bool take(struct reader *r, char c)
{
	if (r->p == r->end || *r->p != c)
		return false;
	r->p++;
	return true;
}

static bool take_word(struct reader *r, const char *word)
{
	size_t len = strlen(word);

	if ((size_t)(r->end - r->p) < len || memcmp(r->p, word, len) != 0)
		return false;
	r->p += len;
	return true;
}

/*
 * Returns the length of the UTF-8 sequence at s, which ends before end, or 0 if there is none:
 * overlong forms and surrogates are none.
 */
static size_t utf8_len(const char *s, const char *end)
{
	static const struct {
		unsigned char mask, lead, len;
		uint32_t min;
	} forms[] = {{0x80, 0x00, 1, 0}, {0xe0, 0xc0, 2, 0x80}, {0xf0, 0xe0, 3, 0x800},
		{0xf8, 0xf0, 4, 0x10000}};
	unsigned char first = (unsigned char)*s;

	for (size_t f = 0; f < ARRAY_SIZE(forms); f++) {
		if ((first & forms[f].mask) != forms[f].lead || end - s < forms[f].len)
			continue;
		uint32_t c = first & (unsigned char)~forms[f].mask;
		for (size_t i = 1; i < forms[f].len; i++) {
			if (((unsigned char)s[i] & 0xc0) != 0x80)
				return 0;
			c = c << 6 | ((unsigned char)s[i] & 0x3f);
		}
		bool surrogate = c >= 0xd800 && c <= 0xdfff;
		return c >= forms[f].min && c <= 0x10ffff && !surrogate ? forms[f].len : 0;
	}
	return 0;
}

/* Writes a character in UTF-8, and returns its length. */
static size_t put_utf8(uint32_t c, char *out)
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	size_t len = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	for (size_t i = len - 1; i > 0; i--, c >>= 6)
		out[i] = (char)(0x80 | (c & 0x3f));
	out[0] = (char)((0xf00 >> len & 0xff) | c);
	return len;
}

/* Reads four hexadecimal digits. */
static int read_unit(struct reader *r, uint32_t *ret)
{
	*ret = 0;
	for (int i = 0; i < 4; i++, r->p++) {
		char c = r->p < r->end ? *r->p : '\0', letter = (char)(c | 0x20);
		if (c >= '0' && c <= '9')
			*ret = *ret << 4 | (uint32_t)(c - '0');
		else if (letter >= 'a' && letter <= 'f')
			*ret = *ret << 4 | (uint32_t)(letter - 'a' + 10);
		else
			return err_syntax(r, "a hexadecimal digit");
	}
	return 0;
}

/*
 * Reads what follows "\u". Two units can be one character; a unit that is only a half of one
 * becomes U+FFFD.
 */
static int read_unicode(struct reader *r, char **out)
{
	uint32_t c, low;
	int result = read_unit(r, &c);

	if (result < 0)
		return result;
	if (c == 0)
		return err_set(EINVAL, "%s: a string holds a NUL character (\\u0000)", r->what);
	if (c >= 0xd800 && c < 0xdc00 && take_word(r, "\\u")) {
		result = read_unit(r, &low);
		if (result < 0)
			return result;
		if (low >= 0xdc00 && low < 0xe000) {
			c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
		} else {
			r->p -= 6; /* another character, which is read again by itself */
			c = REPLACEMENT;
		}
	}
	if (c >= 0xd800 && c < 0xe000)
		c = REPLACEMENT;
	*out += put_utf8(c, *out);
	return 0;
}

static int read_escape(struct reader *r, char **out)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *known = r->p < r->end && *r->p ? strchr(from, *r->p) : NULL;

	if (known) {
		*(*out)++ = to[known - from];
		r->p++;
		return 0;
	}
	if (!take(r, 'u'))
		return err_syntax(r, "a character that may follow a backslash");
	return read_unicode(r, out);
}

/* Reads a string behind its first quote. No character is longer than it is written. */
static int read_string(struct reader *r, const char **ret)
{
	const char *close = r->p;

	while (close < r->end && *close != '"')
		close += *close == '\\' ? 2 : 1;
	if (close >= r->end) {
		r->p = r->end;
		return err_syntax(r, "the closing quote of a string");
	}
	char *out = arena_alloc(r->arena, (size_t)(close - r->p) + 1);
	*ret = out;
	if (!out)
		return -ENOMEM;
	while (r->p < close) {
		if (take(r, '\\')) {
			int result = read_escape(r, &out);
			if (result < 0)
				return result;
			continue;
		}
		size_t n = (unsigned char)*r->p < ' ' ? 0 : utf8_len(r->p, close);
		if (!n)
			return err_syntax(r, "a character in UTF-8 that is no control character");
		memcpy(out, r->p, n);
		out += n;
		r->p += n;
	}
	r->p = close + 1;
	return 0;
}

static bool take_digits(struct reader *r)
{
	const char *from = r->p;

	while (r->p < r->end && *r->p >= '0' && *r->p <= '9')
		r->p++;
	return r->p > from;
}

static int read_number(struct reader *r, struct json *n)
{
	const char *from = r->p;

	(void)take(r, '-');
	if (!take(r, '0') && !take_digits(r))
		return err_syntax(r, r->p > from ? "a digit" : "a value");
	if (take(r, '.') && !take_digits(r))
		return err_syntax(r, "a digit");
	if (take(r, 'e') || take(r, 'E')) {
		if (!take(r, '+'))
			(void)take(r, '-');
		if (!take_digits(r))
			return err_syntax(r, "a digit");
	}
	n->type = JSON_NUMBER;
	n->text = arena_strndup(r->arena, from, (size_t)(r->p - from));
	return n->text ? 0 : -ENOMEM;
}

static int read_key(struct reader *r, const struct json *object, const char **ret)
{
	if (!take(r, '"'))
		return err_syntax(r, "the name of a property, in double quotes");
	int result = read_string(r, ret);
	if (result < 0)
		return result;
	if (object->count == JSON_MAX_MEMBERS)
		return err_set(EINVAL, "%s: an object has more than %d properties", r->what,
			JSON_MAX_MEMBERS);
	for (const struct json *n = object->first; n; n = n->next)
		if (streq(n->key, *ret))
			return err_set(EINVAL,
				"%s: the property \"%s\" is given twice in one object", r->what,
				*ret);
	skip_blanks(r);
	return take(r, ':') ? 0 : err_syntax(r, "\":\"");
}

/* Reads an array or an object behind its first bracket. */
static int read_elements(struct reader *r, struct json *n, char close)
{
	struct json **tail = &n->first;
	const char *key = NULL;

	if (r->depth == JSON_MAX_DEPTH)
		return err_set(EINVAL, "%s: nested deeper than %d levels", r->what, JSON_MAX_DEPTH);
	r->depth++;
	skip_blanks(r);
	bool more = !take(r, close);
	while (more) {
		int result = 0;
		if (n->type == JSON_OBJECT) {
			skip_blanks(r);
			result = read_key(r, n, &key);
		}
		struct json *element = result < 0 ? NULL : arena_alloc(r->arena, sizeof(*element));
		if (!element)
			return result < 0 ? result : -ENOMEM;
		element->key = key;
		result = read_value(r, element);
		if (result < 0)
			return result;
		*tail = element;
		tail = &element->next;
		n->count++;
		skip_blanks(r);
		more = take(r, ',');
		if (!more && !take(r, close))
			return err_syntax(r, close == ']' ? "\",\" or \"]\"" : "\",\" or \"}\"");
	}
	r->depth--;
	return 0;
}

static int read_value(struct reader *r, struct json *n)
{
	skip_blanks(r);
	if (take(r, '"')) {
		n->type = JSON_STRING;
		return read_string(r, &n->text);
	}
	if (take(r, '{')) {
		n->type = JSON_OBJECT;
		return read_elements(r, n, '}');
	}
	if (take(r, '[')) {
		n->type = JSON_ARRAY;
		return read_elements(r, n, ']');
	}
	if (take_word(r, "null")) {
		n->type = JSON_NULL;
		return 0;
	}
	n->boolean = take_word(r, "true");
	if (n->boolean || take_word(r, "false")) {
		n->type = JSON_BOOL;
		return 0;
	}
	return read_number(r, n);
}

int json_parse(struct arena *a, const char *text, size_t len, const char *what, struct json **ret)
{
	struct reader r = {.arena = a, .what = what, .text = text, .p = text, .end = text + len};

	*ret = NULL;
	if (len == 0)
		return err_set(EINVAL, "%s is empty", what);
	struct json *root = arena_alloc(a, sizeof(*root));
	if (!root)
		return -ENOMEM;
	int result = read_value(&r, root);
	if (result < 0)
		return result;
	skip_blanks(&r);
	if (r.p < r.end)
		return err_syntax(&r, "the end");
	*ret = root;
	return 0;
}

const struct json *json_get(const struct json *obj, const char *key)
{
	if (!obj || obj->type != JSON_OBJECT)
		return NULL;
	for (const struct json *n = obj->first; n; n = n->next)
		if (streq(n->key, key))
			return n;
	return NULL;
}

const char *json_get_str(const struct json *obj, const char *key)
{
	const struct json *n = json_get(obj, key);

	return n && n->type == JSON_STRING ? n->text : NULL;
}

int json_get_i64(const struct json *obj, const char *key, int64_t *ret)
{
	const struct json *n = json_get(obj, key);

	if (!n)
		return -ENOENT;
	return n->type == JSON_NUMBER ? str_to_i64(n->text, ret) : -EINVAL;
}

int json_get_u64(const struct json *obj, const char *key, uint64_t *ret)
{
	const struct json *n = json_get(obj, key);

	if (!n)
		return -ENOENT;
	return n->type == JSON_NUMBER ? str_to_u64(n->text, ret) : -EINVAL;
}

const char *json_type_name(enum json_type t)
{
	static const char *const names[] = {
		"null", "a boolean", "a number", "a string", "an array", "an object"};

	return names[t];
}

int json_out_init(struct json_out *o, bool pretty)
{
	*o = (struct json_out){.pretty = pretty};
	return 0;
}

void json_out_release(struct json_out *o)
{
	strbuf_release(&o->text);
}

static void put(struct json_out *o, const char *s, size_t len)
{
	int r = strbuf_add(&o->text, s, len);

	if (r < 0)
		o->failed = r;
}

static void put_line(struct json_out *o)
{
	put(o, "\n", o->pretty);
	for (unsigned i = 0; o->pretty && i < o->depth; i++)
		put(o, "  ", 2);
}

static void put_string(struct json_out *o, const char *s)
{
	static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
	const char *end = s + strlen(s);
	char code[8];

	put(o, "\"", 1);
	while (s < end) {
		size_t n = 0, len;
		while (s + n < end && (unsigned char)s[n] >= ' ' && s[n] != '"' && s[n] != '\\' &&
			(len = utf8_len(s + n, end)) > 0)
			n += len;
		put(o, s, n);
		s += n;
		if (s == end)
			break;
		const char *known = strchr(from, *s);
		if (known)
			snprintf(code, sizeof(code), "\\%c", to[known - from]);
		else if ((unsigned char)*s < ' ')
			snprintf(code, sizeof(code), "\\u%04x", (unsigned char)*s);
		else
			code[put_utf8(REPLACEMENT, code)] = '\0';
		put(o, code, strlen(code));
		s++;
	}
	put(o, "\"", 1);
}

/* Writes what is before a value: the comma behind the one before, and the key. */
static void begin_value(struct json_out *o, const char *key)
{
	put(o, ",", o->more);
	if (o->depth)
		put_line(o);
	o->more = true;
	if (!key)
		return;
	put_string(o, key);
	put(o, ": ", o->pretty ? 2 : 1);
}

static void put_value(struct json_out *o, const char *key, const char *text)
{
	begin_value(o, key);
	put(o, text, strlen(text));
}

static void open_value(struct json_out *o, const char *key, const char *bracket)
{
	put_value(o, key, bracket);
	o->depth++;
	o->more = false;
}

static void close_value(struct json_out *o, const char *bracket)
{
	o->depth--;
	if (o->more)
		put_line(o);
	put(o, bracket, 1);
	o->more = true;
	if (!o->depth)
		put_line(o);
}

void json_out_object(struct json_out *o, const char *key)
{
	open_value(o, key, "{");
}

void json_out_end_object(struct json_out *o)
{
	close_value(o, "}");
}

void json_out_array(struct json_out *o, const char *key)
{
	open_value(o, key, "[");
}

void json_out_end_array(struct json_out *o)
{
	close_value(o, "]");
}

void json_out_str(struct json_out *o, const char *key, const char *value)
{
	begin_value(o, key);
	put_string(o, value);
}

void json_out_i64(struct json_out *o, const char *key, int64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRId64, value);
	put_value(o, key, text);
}

void json_out_u64(struct json_out *o, const char *key, uint64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	put_value(o, key, text);
}

void json_out_double(struct json_out *o, const char *key, double value)
{
	char text[40];

	/* JSON has no infinity, and a number with 15 digits is the same when it is read again. */
	if (!__builtin_isfinite(value))
		o->failed = -EINVAL;
	snprintf(text, sizeof(text), "%.15g", value);
	if (!strpbrk(text, ".e"))
		strcat(text, ".0");
	put_value(o, key, text);
}

void json_out_bool(struct json_out *o, const char *key, bool value)
{
	put_value(o, key, value ? "true" : "false");
}

void json_out_null(struct json_out *o, const char *key)
{
	put_value(o, key, "null");
}

void json_out_node(struct json_out *o, const char *key, const struct json *node)
{
	switch (node->type) {
	case JSON_NULL:
		json_out_null(o, key);
		return;
	case JSON_BOOL:
		json_out_bool(o, key, node->boolean);
		return;
	case JSON_NUMBER:
		put_value(o, key, node->text);
		return;
	case JSON_STRING:
		json_out_str(o, key, node->text);
		return;
	case JSON_ARRAY:
		json_out_array(o, key);
		break;
	case JSON_OBJECT:
		json_out_object(o, key);
		break;
	}
	for (const struct json *n = node->first; n; n = n->next)
		json_out_node(o, n->key, n);
	if (node->type == JSON_ARRAY)
		json_out_end_array(o);
	else
		json_out_end_object(o);
}

int json_out_text(struct json_out *o, const char **ret, size_t *ret_len)
{
	if (o->failed)
		return err_set(-o->failed, "cannot write JSON");
	*ret = strbuf_str(&o->text);
	*ret_len = o->text.len;
	return 0;
}
