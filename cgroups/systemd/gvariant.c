/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parses GVariant text, the notation of org.systemd.property.* annotations: 'text', true, 5, uint64
 * 5, 1.5, ['a', 'b'], ('a', 1), <5>, @as []. A number without a type is an int32, or a double if it
 * has a point or an exponent. All elements of an array have the type of the first element; an
 * element may name its type, which must be the same type. The format is described in
 * https://docs.gtk.org/glib/gvariant-text-format.html
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "cgroups/cg_internal.h"

#define DEPTH_MAX 16
#define SIGNATURE_MAX 255 /* longest signature in bytes: the limit of the D-Bus specification */

struct parser {
	struct arena *a;
	const char *text, *p;
	unsigned depth;
};

static int parse_value(struct parser *s, const char *want, struct gv **ret) must_check;

static int err_syntax(struct parser *s, const char *expected)
{
	return err_set(EINVAL, "not GVariant text: at byte %zu of \"%s\": expected %s",
		(size_t)(s->p - s->text), s->text, expected);
}

static void skip_blanks(struct parser *s)
{
	s->p += strspn(s->p, " \t\n\r");
}

static bool take_char(struct parser *s, char c)
{
	skip_blanks(s);
	if (*s->p != c)
		return false;
	s->p++;
	return true;
}

static struct gv *new_value(struct parser *s, const char *sig)
{
	struct gv *v = arena_alloc(s->a, sizeof(*v));

	if (v)
		v->sig = sig;
	return v;
}

/*
 * Returns the length of the first complete type of a signature, or 0 if the signature begins with
 * no complete type.
 */
static size_t type_length(const char *sig, unsigned depth)
{
	size_t n = 1;

	if (!*sig || depth > DEPTH_MAX)
		return 0;
	if (strchr("bynqiuxtdsogv", *sig))
		return 1;
	if (*sig == 'a') {
		size_t inner = type_length(sig + 1, depth + 1);
		return inner ? inner + 1 : 0;
	}
	if (*sig != '(')
		return 0;
	while (sig[n] != ')') {
		size_t inner = type_length(sig + n, depth + 1);
		if (!inner)
			return 0;
		n += inner;
	}
	return n == 1 ? 0 : n + 1;
}

static int put_utf8(struct strbuf *out, uint32_t c)
{
	char b[4];
	size_t n = 0;

	if (c < 0x80) {
		b[n++] = (char)c;
	} else if (c < 0x800) {
		b[n++] = (char)(0xc0 | c >> 6);
	} else if (c < 0x10000) {
		b[n++] = (char)(0xe0 | c >> 12);
		b[n++] = (char)(0x80 | (c >> 6 & 0x3f));
	} else {
		b[n++] = (char)(0xf0 | c >> 18);
		b[n++] = (char)(0x80 | (c >> 12 & 0x3f));
		b[n++] = (char)(0x80 | (c >> 6 & 0x3f));
	}
	if (c >= 0x80)
		b[n++] = (char)(0x80 | (c & 0x3f));
	return strbuf_add(out, b, n);
}

static int parse_unicode(struct parser *s, int digits, struct strbuf *out)
{
	uint32_t c = 0;

	for (int i = 0; i < digits; i++, s->p++) {
		if (!isxdigit((unsigned char)*s->p))
			return err_syntax(s, "a hexadecimal digit");
		c = c << 4 | (uint32_t)(isdigit((unsigned char)*s->p) ? *s->p - '0'
								      : (*s->p | 0x20) - 'a' + 10);
	}
	if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return err_syntax(s, "a Unicode character other than NUL");
	return put_utf8(out, c);
}

static int parse_escape(struct parser *s, struct strbuf *out)
{
	static const char from[] = "abfnrtv", to[] = "\a\b\f\n\r\t\v";
	char c = *s->p;

	if (!c)
		return err_syntax(s, "a character after the backslash");
	s->p++;
	if (c == 'u' || c == 'U')
		return parse_unicode(s, c == 'u' ? 4 : 8, out);
	if (c == '\n')
		return 0;
	const char *known = strchr(from, c);
	return strbuf_add(out, known ? &to[known - from] : &c, 1);
}

static int parse_quoted(struct parser *s, const char **ret)
{
	_cleanup_strbuf_ struct strbuf out = {0};
	char quote = *s->p++;
	int r = 0;

	while (*s->p && *s->p != quote) {
		if (*s->p == '\\') {
			s->p++;
			r = parse_escape(s, &out);
		} else {
			r = strbuf_add(&out, s->p++, 1);
		}
		if (r < 0)
			return r;
	}
	if (*s->p != quote)
		return err_syntax(s, "the closing quote");
	s->p++;
	*ret = arena_strdup(s->a, strbuf_str(&out));
	return *ret ? 0 : -ENOMEM;
}

static int parse_string(struct parser *s, const char *want, struct gv **ret)
{
	if (want && !strchr("sog", *want))
		return err_syntax(s, "a value that is not a string");
	*ret = new_value(s, want ? want : "s");
	return *ret ? parse_quoted(s, &(*ret)->s) : -ENOMEM;
}

/* Parses b'text', a notation for an array of bytes that ends in a NUL. */
static int parse_bytes(struct parser *s, struct gv **ret)
{
	const char *text;

	s->p++;
	int r = parse_quoted(s, &text);
	if (r < 0)
		return r;
	*ret = new_value(s, "ay");
	if (!*ret)
		return -ENOMEM;
	struct gv **tail = &(*ret)->first;
	for (size_t i = 0; i <= strlen(text); i++) {
		*tail = new_value(s, "y");
		if (!*tail)
			return -ENOMEM;
		(*tail)->u = (unsigned char)text[i];
		tail = &(*tail)->next;
	}
	return 0;
}

static const struct {
	char type;
	const char *name;
	int64_t min;
	uint64_t max;
} numbers[] = {
	{'y', "byte", 0, UINT8_MAX},
	{'n', "int16", INT16_MIN, INT16_MAX},
	{'q', "uint16", 0, UINT16_MAX},
	{'i', "int32", INT32_MIN, INT32_MAX},
	{'u', "uint32", 0, UINT32_MAX},
	{'x', "int64", INT64_MIN, INT64_MAX},
	{'t', "uint64", 0, UINT64_MAX},
};

static int parse_integer(struct parser *s, char type, const char *token, struct gv *v)
{
	bool negative = *token == '-';
	char *end;

	token += negative || *token == '+';
	int base = token[0] == '0' && (token[1] | 0x20) == 'x' ? 16
		   : token[0] == '0' && token[1]               ? 8
							       : 10;
	errno = 0;
	uint64_t u =
		isxdigit((unsigned char)*token) ? strtoull(token, &end, base) : (errno = EINVAL);
	if (errno == EINVAL || *end)
		return err_syntax(s, "a number");
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		if (numbers[i].type != type)
			continue;
		/* `lowest` is the absolute value of the smallest number of the type. */
		uint64_t lowest = (uint64_t) - (numbers[i].min + 1) + 1;
		if (errno == ERANGE || (!negative && u > numbers[i].max) ||
			(negative && u > (numbers[i].min ? lowest : 0)))
			return err_syntax(s, numbers[i].name);
		if (numbers[i].min)
			v->i = negative ? (int64_t)(0 - u) : (int64_t)u;
		else
			v->u = u;
		return 0;
	}
	return err_syntax(s, "a value that is not a number");
}

static int parse_number(struct parser *s, const char *want, struct gv **ret)
{
	char token[64];
	size_t n = strspn(s->p, "+-.0123456789abcdefABCDEFxXinf");
	bool real;
	char *end;

	if (n == 0 || n >= sizeof(token))
		return err_syntax(s, "a value");
	memcpy(token, s->p, n);
	token[n] = '\0';
	bool hex = str_starts(token + (*token == '-' || *token == '+'), "0x");
	real = want ? *want == 'd' : !hex && strpbrk(token, ".eE");
	*ret = new_value(s, want ? want : real ? "d" : "i");
	if (!*ret)
		return -ENOMEM;
	if (real) {
		(*ret)->d = strtod(token, &end);
		if (end == token || *end)
			return err_syntax(s, "a number");
	} else {
		int r = parse_integer(s, *(*ret)->sig, token, *ret);
		if (r < 0)
			return r;
	}
	s->p += n;
	return 0;
}

static int parse_array(struct parser *s, const char *want, struct gv **ret)
{
	const char *element = want ? want + 1 : NULL;
	struct gv *first = NULL, **tail = &first;

	s->p++;
	if (want && *want != 'a')
		return err_syntax(s, "a value that is not an array");
	if (!take_char(s, ']')) {
		do {
			int r = parse_value(s, element, tail);
			if (r < 0)
				return r;
			element = (*tail)->sig;
			tail = &(*tail)->next;
		} while (take_char(s, ','));
		if (!take_char(s, ']'))
			return err_syntax(s, "',' or ']'");
	}
	if (!element)
		return err_syntax(s, "a type before an empty array, such as @as []");
	*ret = new_value(s, want ? want : arena_printf(s->a, "a%s", element));
	if (!*ret || !(*ret)->sig)
		return -ENOMEM;
	(*ret)->first = first;
	return 0;
}

static int parse_tuple(struct parser *s, const char *want, struct gv **ret)
{
	_cleanup_strbuf_ struct strbuf sig = {0};
	const char *next = want ? want + 1 : NULL;
	struct gv *first = NULL, **tail = &first;

	s->p++;
	if (want && *want != '(')
		return err_syntax(s, "a value that is not a tuple");
	int r = strbuf_add(&sig, "(", 1);
	while (r == 0 && !take_char(s, ')')) {
		size_t n = next ? type_length(next, 0) : 0;
		if (next && !n)
			return err_syntax(s, "')'");
		const char *type = n ? arena_strndup(s->a, next, n) : NULL;
		if (n && !type)
			return -ENOMEM;
		r = parse_value(s, type, tail);
		if (r < 0)
			return r;
		r = strbuf_add(&sig, (*tail)->sig, strlen((*tail)->sig));
		tail = &(*tail)->next;
		next = next ? next + n : NULL;
		skip_blanks(s);
		if (*s->p != ')' && !take_char(s, ','))
			return err_syntax(s, "',' or ')'");
	}
	if (r == 0)
		r = strbuf_add(&sig, ")", 1);
	if (r < 0)
		return r;
	/* Refuses "()", because D-Bus has no empty tuples. */
	if (!first || (next && *next != ')'))
		return err_syntax(s, "another value of the tuple");
	*ret = new_value(s, arena_strdup(s->a, strbuf_str(&sig)));
	if (!*ret || !(*ret)->sig)
		return -ENOMEM;
	(*ret)->first = first;
	return 0;
}

static int parse_variant(struct parser *s, const char *want, struct gv **ret)
{
	s->p++;
	if (want && *want != 'v')
		return err_syntax(s, "a value that is not a variant");
	*ret = new_value(s, "v");
	if (!*ret)
		return -ENOMEM;
	int r = parse_value(s, NULL, &(*ret)->first);
	if (r < 0)
		return r;
	return take_char(s, '>') ? 0 : err_syntax(s, "'>'");
}

/* Parses the type that may precede a value, as in "uint64 5", "objectpath '/a'" or "@as []". */
static int parse_typed(struct parser *s, const char **ret)
{
	static const struct {
		const char *word, *sig;
	} words[] = {{"boolean", "b"}, {"byte", "y"}, {"int16", "n"}, {"uint16", "q"},
		{"int32", "i"}, {"uint32", "u"}, {"int64", "x"}, {"uint64", "t"}, {"double", "d"},
		{"string", "s"}, {"objectpath", "o"}, {"signature", "g"}};

	*ret = NULL;
	if (*s->p == '@') {
		size_t n = type_length(s->p + 1, 0);
		if (!n || n > SIGNATURE_MAX)
			return err_syntax(s, "a type after '@'");
		*ret = arena_strndup(s->a, s->p + 1, n);
		s->p += 1 + n;
		return *ret ? 0 : -ENOMEM;
	}
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		size_t n = strlen(words[i].word);
		if (strncmp(s->p, words[i].word, n) == 0 && strchr(" \t\n", s->p[n]) && s->p[n]) {
			*ret = words[i].sig;
			s->p += n;
			return 0;
		}
	}
	return 0;
}

static int parse_boolean(struct parser *s, const char *want, struct gv **ret)
{
	bool yes = *s->p == 't';

	if (want && *want != 'b')
		return err_syntax(s, "a value that is not a boolean");
	*ret = new_value(s, "b");
	if (!*ret)
		return -ENOMEM;
	(*ret)->u = yes;
	s->p += yes ? 4 : 5;
	return 0;
}

static int parse_bare(struct parser *s, const char *want, struct gv **ret)
{
	size_t word = strcspn(s->p, " \t\n,])>");

	switch (*s->p) {
	case '\'':
	case '"':
		return parse_string(s, want, ret);
	case '[':
		return parse_array(s, want, ret);
	case '(':
		return parse_tuple(s, want, ret);
	case '<':
		return parse_variant(s, want, ret);
	default:
		break;
	}
	if (*s->p == 'b' && (s->p[1] == '\'' || s->p[1] == '"')) {
		if (want && !streq(want, "ay"))
			return err_syntax(s, "a value that is not bytes");
		return parse_bytes(s, ret);
	}
	if ((word == 4 && str_starts(s->p, "true")) || (word == 5 && str_starts(s->p, "false")))
		return parse_boolean(s, want, ret);
	return parse_number(s, want, ret);
}

static int parse_value(struct parser *s, const char *want, struct gv **ret)
{
	const char *said;

	if (++s->depth > DEPTH_MAX)
		return err_syntax(s, "less deep nesting");
	skip_blanks(s);
	int r = parse_typed(s, &said);
	if (r < 0)
		return r;
	if (said && want && !streq(said, want))
		return err_syntax(s, "the same type as before");
	skip_blanks(s);
	r = parse_bare(s, said ? said : want, ret);
	s->depth--;
	return r;
}

int gv_parse(struct arena *a, const char *text, struct gv **ret)
{
	struct parser s = {.a = a, .text = text, .p = text};
	int r = parse_value(&s, NULL, ret);

	if (r < 0)
		return r;
	skip_blanks(&s);
	if (*s.p)
		return err_syntax(&s, "the end");
	if (strlen((*ret)->sig) > SIGNATURE_MAX)
		return err_syntax(&s, "a simpler type");
	return 0;
}
