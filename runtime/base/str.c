/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"

#include <ctype.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void freep_(void *p)
{
	free(*(void **)p);
}

void strbuf_release(struct strbuf *b)
{
	free(b->s);
	*b = (struct strbuf){0};
}

void strbuf_reset(struct strbuf *b)
{
	b->len = 0;
	if (b->s)
		b->s[0] = '\0';
}

int strbuf_reserve(struct strbuf *b, size_t extra)
{
	if (extra > SIZE_MAX / 2 - b->len)
		return err_set(ENOMEM, "string of %zu bytes is too long", b->len);
	size_t need = b->len + extra + 1;
	if (need <= b->cap)
		return 0;
	size_t cap = b->cap ? b->cap : 128;
	while (cap < need)
		cap *= 2;
	char *s = realloc(b->s, cap);
	if (!s)
		return err_set(ENOMEM, "out of memory");
	b->s = s;
	b->cap = cap;
	return 0;
}

int strbuf_add(struct strbuf *b, const void *data, size_t len)
{
	int r = strbuf_reserve(b, len);
	if (r < 0)
		return r;
	if (len)
		memcpy(b->s + b->len, data, len);
	b->len += len;
	b->s[b->len] = '\0';
	return 0;
}

int strbuf_addf(struct strbuf *b, const char *fmt, ...)
{
	va_list ap, again;

	va_start(ap, fmt);
	va_copy(again, ap);
	int len = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	int r = len < 0 ? err_set(EINVAL, "cannot format \"%s\"", fmt)
			: strbuf_reserve(b, (size_t)len);
	if (r >= 0) {
		vsnprintf(b->s + b->len, (size_t)len + 1, fmt, again);
		b->len += (size_t)len;
	}
	va_end(again);
	return r;
}

const char *strbuf_str(const struct strbuf *b)
{
	return b->s ? b->s : "";
}

void str_unescape(char *s)
{
	char *out = s;

	for (; *s; s++, out++) {
		*out = *s;
		if (s[0] == '\\' && s[1] && s[2] && s[3]) {
			*out = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
			s += 3;
		}
	}
	*out = '\0';
}

size_t str_utf8(const char *s, size_t len, uint32_t *ret)
{
	static const struct {
		unsigned char mask, lead, len;
		uint32_t min;
	} forms[] = {{0x80, 0x00, 1, 0}, {0xe0, 0xc0, 2, 0x80}, {0xf0, 0xe0, 3, 0x800},
		{0xf8, 0xf0, 4, 0x10000}};

	*ret = STR_NO_UTF8;
	for (size_t f = 0; f < ARRAY_SIZE(forms); f++) {
		if (((unsigned char)s[0] & forms[f].mask) != forms[f].lead)
			continue;
		uint32_t c = (unsigned char)s[0] & (unsigned char)~forms[f].mask;
		if (forms[f].len > len)
			return 1;
		for (size_t i = 1; i < forms[f].len; i++) {
			if ((s[i] & 0xc0) != 0x80)
				return 1;
			c = c << 6 | (s[i] & 0x3f);
		}
		if (c < forms[f].min || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
			return 1;
		*ret = c;
		return forms[f].len;
	}
	return 1;
}

/*
 * Returns whether a terminal only displays the character c. The C0 and C1 controls (U+009B starts a
 * command, as ESC [ does) and characters that reorder or break a line have more effects on a
 * terminal.
 */
static bool is_harmless(uint32_t c)
{
	static const struct {
		uint32_t from, to;
	} bad[] = {{0, 0x1f}, {0x7f, 0x9f}, {0x61c, 0x61c}, {0x200e, 0x200f}, {0x2028, 0x202e},
		{0x2066, 0x2069}, {0xfff9, 0xfffb}, {STR_NO_UTF8, STR_NO_UTF8}};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (c >= bad[i].from && c <= bad[i].to)
			return false;
	return true;
}

void str_clean(char *dst, size_t size, const char *src, size_t len)
{
	size_t n = 0;

	while (len) {
		uint32_t c;
		size_t step = str_utf8(src, len, &c), out = is_harmless(c) ? step : 1;
		if (n + out >= size)
			break;
		if (is_harmless(c))
			memmove(dst + n, src, step);
		else
			dst[n] = c == '\n' ? '|' : '?';
		n += c == '\r' ? 0 : out;
		src += step;
		len -= step;
	}
	dst[n] = '\0';
}

int str_quote(struct strbuf *ret, const char *src)
{
	static const char plain[] = "\a\b\f\n\r\t\v\\\"", letters[] = "abfnrtv\\\"";
	size_t len = strlen(src);
	int r = strbuf_add(ret, "\"", 1);

	while (len && r >= 0) {
		uint32_t c;
		size_t step = str_utf8(src, len, &c);
		const char *escape = c && c < 0x80 ? strchr(plain, (int)c) : NULL;
		if (escape)
			r = strbuf_addf(ret, "\\%c", letters[escape - plain]);
		else if (is_harmless(c))
			r = strbuf_add(ret, src, step);
		else if (c < 0x80 || c == STR_NO_UTF8)
			r = strbuf_addf(ret, "\\x%02x", (unsigned char)*src);
		else
			r = strbuf_addf(ret, "\\u%04x", c);
		src += step;
		len -= step;
	}
	return r < 0 ? r : strbuf_add(ret, "\"", 1);
}

void str_quote_end(char *dst, size_t size, const char *src, size_t len)
{
	while (len && (src[len - 1] == '\n' || src[len - 1] == '\r'))
		len--;
	if (len >= size) {
		src += len - size + 1;
		len = size - 1;
		/*
		 * Bytes are skipped up to the start of a character, because the end of a text that
		 * is too long must not begin in the middle of a UTF-8 sequence.
		 */
		for (; len && (*src & 0xc0) == 0x80; len--)
			src++;
	}
	str_clean(dst, size, src, len);
}

int str_to_u64(const char *s, uint64_t *ret)
{
	uint64_t v = 0;

	if (!*s)
		return -EINVAL;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(v, 10u, &v) ||
			__builtin_add_overflow(v, (unsigned)(*s - '0'), &v))
			return -ERANGE;
	}
	*ret = v;
	return 0;
}

int str_to_i64(const char *s, int64_t *ret)
{
	bool negative = *s == '-';
	uint64_t v;
	int r = str_to_u64(s + negative, &v);

	if (r < 0)
		return r;
	if (v > (uint64_t)INT64_MAX + negative)
		return -ERANGE;
	*ret = negative ? (int64_t)(-v) : (int64_t)v;
	return 0;
}

#define DIGITS "0123456789"

/*
 * Returns the factor that a unit of a size such as "", "b", "m", "mb" or "mib" stands for, or 0 if
 * the text is no unit.
 */
static uint64_t unit_factor(const char *unit)
{
	static const char letters[] = "bkmgtp";
	char lower[4] = "";
	size_t len = strlen(unit);

	if (len == 0)
		return 1;
	if (len >= sizeof(lower))
		return 0;
	for (size_t i = 0; i < len; i++)
		lower[i] = (char)tolower((unsigned char)unit[i]);
	const char *at = strchr(letters, lower[0]);
	const char *rest = lower + 1;
	if (!at || (*rest && (lower[0] == 'b' || (!streq(rest, "b") && !streq(rest, "ib")))))
		return 0;
	return 1ULL << (10 * (at - letters));
}

/* Multiplies the decimal number in `text`, which may have a fraction, by `scale`. */
static int scale_number(const char *text, size_t len, uint64_t scale, uint64_t *ret)
{
	const char *dot = memchr(text, '.', len);
	size_t whole = dot ? (size_t)(dot - text) : len;
	char digits[32];
	double fraction = 0, place = 0.1;

	if (whole >= sizeof(digits) || (!whole && len < 2))
		return -EINVAL;
	memcpy(digits, whole ? text : "0", whole ? whole : 1);
	digits[whole ? whole : 1] = '\0';
	int r = str_to_u64(digits, ret);
	for (size_t i = whole + 1; i < len && r >= 0; i++, place /= 10) {
		if (!strchr(DIGITS, text[i]))
			return -EINVAL;
		fraction += (text[i] - '0') * place;
	}
	if (r >= 0 &&
		(__builtin_mul_overflow(*ret, scale, ret) ||
			__builtin_add_overflow(*ret, (uint64_t)(fraction * (double)scale), ret)))
		r = -ERANGE;
	return r;
}

int str_to_size(const char *s, uint64_t *ret)
{
	size_t len = strspn(s, DIGITS "."), blank = s[len] == ' ';
	uint64_t scale = unit_factor(s + len + blank);

	return scale ? scale_number(s, len, scale, ret) : -EINVAL;
}

/*
 * The first and the last real-time signal for programs, as glibc and most programs number them.
 * musl keeps one more real-time signal for itself, so its SIGRTMIN is 35.
 */
#define FIRST_RT 34
#define LAST_RT 64

static int realtime_signal(const char *s)
{
	uint64_t n = 0;
	int base = str_starts(s, "RTMIN") ? FIRST_RT : str_starts(s, "RTMAX") ? LAST_RT : 0;

	if (!base)
		return -EINVAL;
	s += 5;
	if (!*s)
		return base;
	char op = *s;
	if ((op != '+' && op != '-') || str_to_u64(s + 1, &n) < 0 || n > 64)
		return -EINVAL;
	int sig = op == '+' ? base + (int)n : base - (int)n;
	return sig >= FIRST_RT && sig <= LAST_RT ? sig : -EINVAL;
}

int str_to_signal(const char *s)
{
	uint64_t n;
	char name[32];
	size_t len = 0;

	if (str_to_u64(s, &n) == 0 && n >= 1 && n < NSIG)
		return (int)n;
	for (const char *p = s; *p && len + 1 < sizeof(name); p++)
		name[len++] = (char)toupper((unsigned char)*p);
	name[len] = '\0';
	const char *bare = str_starts(name, "SIG") ? name + 3 : name;
	int sig = realtime_signal(bare);
	if (sig > 0)
		return sig;
	for (int i = 1; i < FIRST_RT; i++) {
		const char *known = sigabbrev_np(i);
		if (known && streq(known, bare))
			return i;
	}
	/*
	 * SIGCHLD, SIGABRT and SIGPOLL have second names (CLD, IOT and IO), which sigabbrev_np(3)
	 * does not know.
	 */
	if (streq(bare, "CLD"))
		return SIGCHLD;
	if (streq(bare, "IOT"))
		return SIGABRT;
	if (streq(bare, "IO"))
		return SIGPOLL;
	return err_set(EINVAL,
		"unknown signal \"%s\": expected a name such as TERM or SIGTERM, or a number from "
		"1 to %d",
		s, NSIG - 1);
}

int str_to_bitlist(const char *s, unsigned long *ret_mask, size_t nbits)
{
	const size_t word = sizeof(unsigned long) * CHAR_BIT;
	const char *p = s;

	memset(ret_mask, 0, (nbits + word - 1) / word * sizeof(unsigned long));
	while (*p) {
		uint64_t first, last;
		char *end;

		if (!isdigit((unsigned char)*p))
			goto bad;
		first = last = strtoull(p, &end, 10);
		if (*end == '-') {
			p = end + 1;
			if (!isdigit((unsigned char)*p))
				goto bad;
			last = strtoull(p, &end, 10);
		}
		if (last < first)
			goto bad;
		if (last >= nbits)
			return err_set(ERANGE,
				"\"%s\": %llu is beyond the highest number allowed, %zu", s,
				(unsigned long long)last, nbits - 1);
		for (uint64_t i = first; i <= last; i++)
			ret_mask[i / word] |= 1UL << (i % word);
		p = end;
		if (*p == ',' && p[1])
			p++;
		else if (*p)
			goto bad;
	}
	return 0;
bad:
	return err_set(EINVAL, "\"%s\" is not a list of numbers and ranges such as 0-3,7", s);
}
