/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors: one convention for the whole tree.
 *
 * A function that can fail returns int: >= 0 on success, -errno on failure. The function that
 * detects the failure writes the message, once, into a thread-local trail of fixed size; callers
 *may put context in front of it. main() prints the trail, once. Nothing else prints errors.
 *
 *	if (mkdirat(dir, name, 0700) < 0)
 *		return err_sys("create %s", name);
 *	...
 *	return err_ctx(r, "mounts[%zu]", i);
 *
 * A child process sends err_msg() to its parent, which takes it over with err_set(code, "%s", msg).
 */
#pragma once
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#define must_check __attribute__((warn_unused_result))
#define printf_like(fmt, args) __attribute__((format(printf, fmt, args)))

/* Longest trail kept, in bytes with its NUL; longer text is cut and ends in "...". */
#define ERR_MAX 4096

/* Sets the trail to the formatted text. Returns -code; code is a positive errno. */
int err_set(int code, const char *fmt, ...) printf_like(2, 3);

/*
 * strerror(), but "does not exist" for ENOENT: engines take the kernel's words, wherever they stand
 * in a message, as said of the container's program. Only step/exec.c, which means just that, writes
 * them.
 */
const char *err_text(int code);

/* As err_set() with errno's code, and ": err_text(errno)" appended. Returns -errno (-EIO if 0). */
int err_sys(const char *fmt, ...) printf_like(1, 2);

/* Puts "text: " in front of the trail. Returns r unchanged, so that it can end a return statement.
 */
int err_ctx(int r, const char *fmt, ...) printf_like(2, 3);

/* The trail: never NULL, "" where nothing failed. Valid until the next err_*() of this thread. */
const char *err_msg(void);

void err_clear(void);

#ifdef __clang_analyzer__
/* It looks at one file at a time, and would otherwise follow failures as if they were successes. */
static inline int err_is_negative(int r)
{
	if (r >= 0)
		__builtin_unreachable();
	return r;
}
#define err_set(...) err_is_negative((err_set)(__VA_ARGS__))
#define err_sys(...) err_is_negative((err_sys)(__VA_ARGS__))
#endif
