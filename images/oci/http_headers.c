/* SPDX-License-Identifier: Apache-2.0 */
/* Parses the headers of an answer that have a syntax of their own: ranges and links. */
#include "images/oci/http.h"

#define DIGITS_MAX 20 /* how many digits UINT64_MAX has */

static int take_number(const char **p, uint64_t *ret)
{
	size_t n = strspn(*p, "0123456789");
	char digits[DIGITS_MAX + 1];

	if (n == 0 || n > DIGITS_MAX)
		return -EINVAL;
	memcpy(digits, *p, n);
	digits[n] = '\0';
	*p += n;
	return str_to_u64(digits, ret);
}

int http_parse_range(const char *text, uint64_t *ret_from, uint64_t *ret_to, uint64_t *ret_size)
{
	const char *p = text;

	if (str_starts(p, "bytes ") || str_starts(p, "bytes="))
		p += strlen("bytes ");
	*ret_size = UINT64_MAX;
	if (take_number(&p, ret_from) < 0 || *p++ != '-' || take_number(&p, ret_to) < 0 ||
		*ret_to < *ret_from || *ret_to == UINT64_MAX)
		return -EINVAL;
	if (streq(p, "") || streq(p, "/*"))
		return 0;
	if (*p++ != '/' || take_number(&p, ret_size) < 0 || *p || *ret_to >= *ret_size)
		return -EINVAL;
	return 0;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t';
}

/*
 * Moves *p behind a word or a quoted string. Returns where the text of the word or string begins,
 * and sets *ret_len to its length.
 */
static const char *take_value(const char **p, size_t *ret_len)
{
	const char *start = *p;

	if (*start != '"') {
		*ret_len = strcspn(start, ";, \t");
		*p = start + *ret_len;
		return start;
	}
	start++;
	*ret_len = strcspn(start, "\"");
	*p = start + *ret_len + (start[*ret_len] == '"');
	return start;
}

/* Returns whether "next" is one of the link relations in `words`, a list with blanks in between. */
static bool names_next(const char *words, size_t len)
{
	const char *end = words + len;

	for (const char *p = words; p < end;) {
		size_t n = 0;
		while (p + n < end && !is_space(p[n]))
			n++;
		if (n == strlen("next") && strncasecmp(p, "next", n) == 0)
			return true;
		p += n;
		while (p < end && is_space(*p))
			p++;
	}
	return false;
}

/*
 * Reads the parameters of one link of the header Link, and moves *p to the comma behind them or to
 * the end. Returns whether the relation of the link is "next".
 */
static bool read_parameters(const char **p)
{
	bool next = false;

	while (**p && **p != ',') {
		size_t len;
		if (**p == ';' || is_space(**p)) {
			++*p;
			continue;
		}
		const char *key = *p;
		size_t key_len = strcspn(key, "=;, \t");
		*p += key_len;
		if (**p != '=') {
			/*
			 * If no name of a parameter begins here, one character is skipped, so that
			 * the loop always moves forward.
			 */
			*p += key_len == 0;
			continue;
		}
		++*p;
		const char *value = take_value(p, &len);
		if (key_len == strlen("rel") && strncasecmp(key, "rel", key_len) == 0)
			next = next || names_next(value, len);
	}
	return next;
}

int http_find_next(struct arena *a, const char *link, const char **ret)
{
	const char *p = link;

	*ret = NULL;
	for (;;) {
		while (is_space(*p) || *p == ',')
			p++;
		const char *end = *p == '<' ? strchr(p, '>') : NULL;
		if (!end)
			return 0;
		const char *url = p + 1;
		p = end + 1;
		if (!read_parameters(&p))
			continue;
		*ret = arena_strndup(a, url, (size_t)(end - url));
		return *ret ? 0 : -ENOMEM;
	}
}
