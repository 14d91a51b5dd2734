/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handles strings: growing buffers, comparisons, and numbers, which are parsed without the leniency
 * of strtol().
 */
#pragma once
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#include "base/err.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* The format of a MAC address for printf(3), and its arguments. */
#define STR_MAC_FORMAT "%02x:%02x:%02x:%02x:%02x:%02x"
#define STR_MAC_ARGS(m) (m)[0], (m)[1], (m)[2], (m)[3], (m)[4], (m)[5]

static inline bool streq(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

static inline bool str_starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* Returns whether s ends with `suffix` and has something before it. */
static inline bool str_ends(const char *s, const char *suffix)
{
	size_t len = strlen(s), n = strlen(suffix);

	return len > n && streq(s + len - n, suffix);
}

/*
 * A growing string that is always NUL-terminated. {0} initialises it; strbuf_release() releases it.
 */
struct strbuf {
	char *s; /* NULL if nothing was ever added, so callers read the string by strbuf_str() */
	size_t len;
	size_t cap;
};

void strbuf_release(struct strbuf *b);
void strbuf_reset(struct strbuf *b);
/* Makes room for `extra` more bytes at the end of the string. */
int strbuf_reserve(struct strbuf *b, size_t extra) must_check;
int strbuf_add(struct strbuf *b, const void *data, size_t len) must_check;
int strbuf_addf(struct strbuf *b, const char *fmt, ...) must_check printf_like(2, 3);
const char *strbuf_str(const struct strbuf *b);

#define _cleanup_strbuf_ __attribute__((cleanup(strbuf_release), unused))

/*
 * Replaces each \ooo in s by the byte with this octal number. The kernel writes blanks and
 * backslashes of the paths in /proc/PID/mountinfo as such escapes (proc(5)).
 */
void str_unescape(char *s);

/*
 * Foreign text is any text that a guest, an image, a container, a hook or another program wrote.
 * All foreign text goes through str_clean() or str_quote() before it reaches a terminal or a log,
 * because a control character in foreign text could forge a line of caisson or command the
 * terminal. base/log.c cleans whole messages and log lines, so messages may contain foreign text
 * unchanged.
 *
 * str_clean() turns the text `src` into one line. dst gets as much of src as fits. Line ends become
 * '|'; other characters that a terminal does not simply display, and bytes that are not UTF-8,
 * become '?'. dst may be src.
 */
void str_clean(char *dst, size_t size, const char *src, size_t len);

/*
 * Adds the text `src` in quotes to *ret, with the escapes of Go's strconv.Quote(), because logrus,
 * the logger of other runtimes, writes texts so.
 */
int str_quote(struct strbuf *ret, const char *src) must_check;

/*
 * str_utf8() decodes the character at the start of s, which has len > 0 bytes, and returns the
 * character's length in bytes. If s does not start with a valid character, str_utf8() returns 1 and
 * sets *ret to STR_NO_UTF8; overlong forms and surrogates are invalid.
 */
#define STR_NO_UTF8 UINT32_MAX
size_t str_utf8(const char *s, size_t len, uint32_t *ret);

/*
 * Cleans a text as str_clean() does, but stores the end of src in dst if not all of src fits, and
 * drops the line ends at the end of src.
 */
void str_quote_end(char *dst, size_t size, const char *src, size_t len);

/*
 * str_to_u64() and the functions declared below parse a string that is a decimal number and nothing
 * else: no blanks, no sign if the type is unsigned, no overflow. These functions return 0, -EINVAL
 * or -ERANGE, and set no message, because only the caller knows which field the string came from.
 */
int str_to_u64(const char *s, uint64_t *ret) must_check;
int str_to_i64(const char *s, int64_t *ret) must_check;

/*
 * Parses a size in the form in which people write it and runc reads it: a number, perhaps with a
 * fraction, then perhaps a blank, then perhaps a unit. The unit is b, or one of k, m, g, t and p,
 * which b or ib may follow, in upper or lower case. Units are powers of 1024. Returns 0, -EINVAL or
 * -ERANGE, and sets no message.
 */
int str_to_size(const char *s, uint64_t *ret) must_check;

/*
 * Returns the number (1 to 64) of the signal that a text such as "SIGTERM", "TERM", "RTMIN+3" or
 * "15" names, or -EINVAL with a message.
 */
int str_to_signal(const char *s) must_check;

/*
 * Turns a list such as "0,2,4-7" (cpuset(7), "List format") into a bit mask of nbits bits. Returns
 * 0, or -EINVAL or -ERANGE with a message.
 */
int str_to_bitlist(const char *s, unsigned long *ret_mask, size_t nbits) must_check;

void freep_(void *p);
#define _cleanup_free_ __attribute__((cleanup(freep_), unused))
#define take_ptr(p) \
	({ \
		__typeof__(p) taken_ = (p); \
		(p) = NULL; \
		taken_; \
	})
