/* SPDX-License-Identifier: Apache-2.0 */
/* Strings: growing buffers, comparisons, and number parsing that rejects what strtol() lets
 * through. */
#pragma once
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#include "base/err.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static inline bool streq(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

static inline bool str_starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* A growing, always NUL-terminated string. Zero-initialise it ({0}); release with strbuf_release().
 */
struct strbuf {
	char *s; /* NULL while empty: read it through strbuf_str() */
	size_t len;
	size_t cap;
};

void strbuf_release(struct strbuf *b);
void strbuf_reset(struct strbuf *b);
int strbuf_add(struct strbuf *b, const void *data, size_t len) must_check;
int strbuf_addf(struct strbuf *b, const char *fmt, ...) must_check printf_like(2, 3);
const char *strbuf_str(const struct strbuf *b);

#define _cleanup_strbuf_ __attribute__((cleanup(strbuf_release), unused))

/*
 * What another program wrote, which may be nobody's friend, as one line of text for a message: the
 * end of it that fits into dst, line ends as '|', other control characters as '?'.
 */
void str_quote_end(char *dst, size_t size, const char *src, size_t len);

/*
 * Whole-string decimal numbers: no blanks, no sign for unsigned, no overflow. 0, -EINVAL or
 * -ERANGE; they set no message, since only the caller knows which field the text came from.
 */
int str_to_u64(const char *s, uint64_t *ret) must_check;
int str_to_i64(const char *s, int64_t *ret) must_check;

/*
 * A size as people write it, and runc reads it: a number, with a fraction or not, a blank or not,
 * and b, k, m, g, t or p, with b or ib behind it or not, upper or lower case. Units are powers of
 * 1024. Errors as above.
 */
int str_to_size(const char *s, uint64_t *ret) must_check;

/* "SIGTERM", "TERM", "RTMIN+3" or "15" to a signal number, 1..64; -EINVAL with a message. */
int str_to_signal(const char *s) must_check;

/* "cpu,list,1-4" (cpuset(7) list format) to a bit mask of nbits bits. -EINVAL/-ERANGE with a
 * message. */
int str_to_bitlist(const char *s, unsigned long *ret_mask, size_t nbits) must_check;

void freep_(void *p);
#define _cleanup_free_ __attribute__((cleanup(freep_), unused))
#define take_ptr(p) \
	({ \
		__typeof__(p) taken_ = (p); \
		(p) = NULL; \
		taken_; \
	})
