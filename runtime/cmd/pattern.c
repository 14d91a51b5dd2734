/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The expression becomes a program of instructions, whose jumps are relative,
 * so that a piece of it can be moved, and copied for "{2,3}". The program is run by following all
 * of its paths at once: a list holds the places where it may be before a character, and each place
 * is in the list at most once.
 */
#include "cmd/pattern.h"

#include <ctype.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/str.h"

#define CODE_MAX 8192  /* instructions */
#define DEPTH_MAX 64   /* of parentheses */
#define REPEAT_MAX 255 /* RE_DUP_MAX of POSIX */

enum op { OP_SET, OP_SPLIT, OP_JUMP, OP_BEGIN, OP_END, OP_MATCH };

struct insn {
	enum op op;
	int x, y;        /* SPLIT: both ways; JUMP: x; relative to this instruction */
	uint64_t set[4]; /* SET: the characters */
};

struct pattern {
	struct insn *code;
	int n, cap;
};

struct parser {
	struct pattern *out;
	const char *p;
	int depth;
};

static int parse_branches(struct parser *s) must_check;

static void set_add(uint64_t set[static 4], unsigned char c)
{
	set[c / 64] |= UINT64_C(1) << c % 64;
}

/* Makes room for n instructions at `at` and moves the rest up. */
static int insert(struct pattern *p, int at, int n)
{
	if (n == 0)
		return 0;
	if (p->n + n > CODE_MAX)
		return err_set(EINVAL, "the expression is too large");
	if (p->n + n > p->cap) {
		int cap = p->n + n > 2 * p->cap ? p->n + n + 16 : 2 * p->cap;
		struct insn *more = realloc(p->code, (size_t)cap * sizeof(*more));
		if (!more)
			return err_set(ENOMEM, "out of memory");
		p->code = more;
		p->cap = cap;
	}
	memmove(p->code + at + n, p->code + at, (size_t)(p->n - at) * sizeof(*p->code));
	memset(p->code + at, 0, (size_t)n * sizeof(*p->code));
	p->n += n;
	return 0;
}

static int emit(struct pattern *p, struct insn insn)
{
	int r = insert(p, p->n, 1);

	if (r == 0)
		p->code[p->n - 1] = insn;
	return r;
}

static int emit_char(struct pattern *p, char c)
{
	struct insn insn = {.op = OP_SET};

	set_add(insn.set, (unsigned char)c);
	return emit(p, insn);
}

/* Adds the characters of "[:NAME:]", from behind its first colon. */
static int parse_class(struct parser *s, uint64_t set[static 4])
{
	static const struct {
		const char *name;
		int (*has)(int c);
	} classes[] = {{"alpha:]", isalpha}, {"digit:]", isdigit}, {"alnum:]", isalnum},
		{"upper:]", isupper}, {"lower:]", islower}, {"punct:]", ispunct},
		{"space:]", isspace}, {"blank:]", isblank}, {"cntrl:]", iscntrl},
		{"graph:]", isgraph}, {"print:]", isprint}, {"xdigit:]", isxdigit}};

	for (size_t i = 0; i < ARRAY_SIZE(classes); i++) {
		if (!str_starts(s->p, classes[i].name))
			continue;
		for (int c = 1; c < 128; c++)
			if (classes[i].has(c))
				set_add(set, (unsigned char)c);
		s->p += strlen(classes[i].name);
		return 0;
	}
	return err_set(EINVAL, "unknown character class \"[:%.20s\"", s->p);
}

/* Parses a bracket expression behind its "[". A "]" that comes first stands for itself. */
static int parse_bracket(struct parser *s)
{
	struct insn insn = {.op = OP_SET};
	bool negate = *s->p == '^';
	const char *first = s->p += negate;

	while (*s->p && (*s->p != ']' || s->p == first)) {
		if (s->p[0] == '[' && s->p[1] == ':') {
			s->p += 2;
			int r = parse_class(s, insn.set);
			if (r < 0)
				return r;
			continue;
		}
		if (s->p[0] == '[' && (s->p[1] == '.' || s->p[1] == '='))
			return err_set(EINVAL, "\"[%c\" is not supported", s->p[1]);
		unsigned from = (unsigned char)*s->p++, to = from;
		if (s->p[0] == '-' && s->p[1] && s->p[1] != ']') {
			to = (unsigned char)s->p[1];
			s->p += 2;
		}
		if (to < from)
			return err_set(
				EINVAL, "the range \"%c-%c\" is empty", (char)from, (char)to);
		for (unsigned c = from; c <= to; c++)
			set_add(insn.set, (unsigned char)c);
	}
	if (*s->p++ != ']')
		return err_set(EINVAL, "\"[\" without \"]\"");
	for (size_t i = 0; negate && i < ARRAY_SIZE(insn.set); i++)
		insn.set[i] = ~insn.set[i];
	return emit(s->out, insn);
}

static int parse_atom(struct parser *s)
{
	char c = *s->p++;

	switch (c) {
	case '(': {
		if (++s->depth > DEPTH_MAX)
			return err_set(EINVAL, "parentheses are nested too deeply");
		int r = parse_branches(s);
		s->depth--;
		if (r < 0)
			return r;
		return *s->p++ == ')' ? 0 : err_set(EINVAL, "\"(\" without \")\"");
	}
	case '[':
		return parse_bracket(s);
	case '.':
		return emit(
			s->out, (struct insn){.op = OP_SET, .set = {~0ULL, ~0ULL, ~0ULL, ~0ULL}});
	case '^':
		return emit(s->out, (struct insn){.op = OP_BEGIN});
	case '$':
		return emit(s->out, (struct insn){.op = OP_END});
	case '*':
	case '+':
	case '?':
	case '{':
		return err_set(EINVAL, "\"%c\" with nothing before it", c);
	case '\\':
		c = *s->p++;
		if (!c || isalnum((unsigned char)c))
			return err_set(EINVAL, "a backslash before %s",
				c ? "a letter or digit" : "the end");
		return emit_char(s->out, c);
	default:
		return emit_char(s->out, c);
	}
}

static int parse_number(struct parser *s)
{
	int n = -1;

	for (; isdigit((unsigned char)*s->p) && n <= REPEAT_MAX; s->p++)
		n = (n < 0 ? 0 : n) * 10 + *s->p - '0';
	return n;
}

/* Appends a copy of the first len instructions from `from` on. */
static int append_copy(struct pattern *p, int from, int len)
{
	int r = insert(p, p->n, len);

	if (r == 0 && len > 0)
		memcpy(p->code + p->n - len, p->code + from, (size_t)len * sizeof(*p->code));
	return r;
}

static int make_optional(struct pattern *p, int at)
{
	int r = insert(p, at, 1);

	if (r == 0)
		p->code[at] = (struct insn){.op = OP_SPLIT, .x = 1, .y = p->n - at};
	return r;
}

/* Repeats the instructions from `at` to the end, once or more often. */
static int make_loop(struct pattern *p, int at)
{
	return emit(p, (struct insn){.op = OP_SPLIT, .x = at - p->n, .y = 1});
}

/* Repeats the instructions from `at` to the end min to max times; max -1: any number of times. */
static int repeat(struct pattern *p, int at, int min, int max)
{
	int len = p->n - at, last = at, r = 0;

	if (max == 0) {
		p->n = at;
		return 0;
	}
	for (int i = 1; i < min && r == 0; i++) {
		last = p->n;
		r = append_copy(p, at, len);
	}
	if (max < 0) {
		if (r == 0)
			r = make_loop(p, last);
		return r < 0 || min > 0 ? r : make_optional(p, at);
	}
	if (min == 0 && r == 0) {
		r = make_optional(p, at);
		min = 1;
		at++;
	}
	for (int i = min; i < max && r == 0; i++) {
		last = p->n;
		r = append_copy(p, at, len);
		if (r == 0)
			r = make_optional(p, last);
	}
	return r;
}

static int parse_interval(struct parser *s, int at)
{
	int min = parse_number(s), max = min;

	if (*s->p == ',') {
		s->p++;
		max = parse_number(s);
	}
	if (min < 0 || min > REPEAT_MAX || max > REPEAT_MAX || (max >= 0 && max < min) ||
		*s->p++ != '}')
		return err_set(
			EINVAL, "\"{\" without one or two numbers up to %d and \"}\"", REPEAT_MAX);
	return repeat(s->out, at, min, max);
}

static int parse_piece(struct parser *s)
{
	int at = s->out->n, r = parse_atom(s);

	while (r == 0) {
		switch (*s->p) {
		case '*':
			s->p++;
			r = repeat(s->out, at, 0, -1);
			break;
		case '+':
			s->p++;
			r = repeat(s->out, at, 1, -1);
			break;
		case '?':
			s->p++;
			r = repeat(s->out, at, 0, 1);
			break;
		case '{':
			s->p++;
			r = parse_interval(s, at);
			break;
		default:
			return 0;
		}
	}
	return r;
}

static int parse_branches(struct parser *s)
{
	struct pattern *p = s->out;
	int at = p->n, r = 0;

	for (;;) {
		while (r == 0 && *s->p && *s->p != '|' && (*s->p != ')' || !s->depth))
			r = parse_piece(s);
		if (r < 0 || *s->p != '|')
			return r;
		s->p++;
		/*
		 * Both this branch and all that follow: "SPLIT this, rest", with a jump over the
		 * rest.
		 */
		int len = p->n - at;
		r = insert(p, at, 1);
		if (r == 0)
			r = emit(p, (struct insn){.op = OP_JUMP});
		if (r < 0)
			return r;
		p->code[at] = (struct insn){.op = OP_SPLIT, .x = 1, .y = len + 2};
		int jump = p->n - 1;
		r = parse_branches(s);
		if (r == 0)
			p->code[jump].x = p->n - jump;
		return r;
	}
}

int pattern_compile(const char *text, struct pattern **ret)
{
	struct pattern *p = calloc(1, sizeof(*p));
	struct parser s = {.out = p, .p = text};

	*ret = NULL;
	if (!p)
		return err_set(ENOMEM, "out of memory");
	int r = parse_branches(&s);
	if (r == 0)
		r = emit(p, (struct insn){.op = OP_MATCH});
	if (r < 0) {
		pattern_free(p);
		return r;
	}
	*ret = p;
	return 0;
}

void pattern_free(struct pattern *p)
{
	if (p)
		free(p->code);
	free(p);
}

/* The places that the program may be at, before one character of the text. */
struct places {
	int *at;
	int n;
	bool *seen;
};

/* Adds a place and all places that it leads to without a character. `todo` has room for 2n + 1. */
static bool add_place(
	const struct pattern *p, struct places *l, int pc, const char *s, bool begin, int *todo)
{
	int n = 0;

	todo[n++] = pc;
	while (n > 0) {
		pc = todo[--n];
		if (l->seen[pc])
			continue;
		l->seen[pc] = true;
		const struct insn *i = &p->code[pc];
		if (i->op == OP_MATCH)
			return true;
		if (i->op == OP_SET)
			l->at[l->n++] = pc;
		else if (i->op == OP_SPLIT || i->op == OP_JUMP)
			todo[n++] = pc + i->x;
		else if (i->op == OP_BEGIN ? begin : !*s)
			todo[n++] = pc + 1;
		if (i->op == OP_SPLIT)
			todo[n++] = pc + i->y;
	}
	return false;
}

static bool run(
	const struct pattern *p, const char *s, struct places *now, struct places *next, int *todo)
{
	for (const char *from = s;; s++) {
		if (add_place(p, now, 0, s, s == from, todo))
			return true;
		if (!*s)
			return false;
		unsigned char c = (unsigned char)*s;
		next->n = 0;
		memset(next->seen, 0, (size_t)p->n);
		for (int i = 0; i < now->n; i++) {
			int pc = now->at[i];
			if ((p->code[pc].set[c / 64] >> c % 64 & 1) &&
				add_place(p, next, pc + 1, s + 1, false, todo))
				return true;
		}
		struct places *other = now;
		now = next;
		next = other;
	}
}

bool pattern_matches(const struct pattern *p, const char *s)
{
	size_t n = (size_t)p->n;
	_cleanup_free_ int *numbers = calloc(4 * n + 1, sizeof(*numbers));
	_cleanup_free_ bool *seen = calloc(2 * n, sizeof(*seen));

	if (!numbers || !seen)
		return false;
	struct places now = {.at = numbers, .seen = seen};
	struct places next = {.at = numbers + n, .seen = seen + n};
	return run(p, s, &now, &next, numbers + 2 * n);
}
