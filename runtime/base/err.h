/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reports errors by one convention in the whole tree.
 *
 * A function that can fail returns an int: >= 0 on success, -errno on failure. The function that
 * detects the failure writes the message, once, into a buffer of fixed size that each thread has,
 * the trail. Its callers may put context in front of the message. main() prints the trail, once.
 * Nothing else prints errors.
 *
 *	if (mkdirat(dir, name, 0700) < 0)
 *		return err_sys("create %s", name);
 *	...
 *	return err_ctx(r, "mounts[%zu]", i);
 *
 * A child process sends err_msg() to its parent, which puts it into the parent's trail with
 * err_set(code, "%s", msg).
 */
#pragma once
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#define must_check __attribute__((warn_unused_result))
#define printf_like(fmt, args) __attribute__((format(printf, fmt, args)))

/*
 * Size in bytes of the buffer for an error message, with the NUL. A longer message is cut and ends
 * in "...".
 */
#define ERR_MAX 4096

/*
 * Sets this thread's error message (the trail) to the formatted text. Returns -code, where code is
 * a positive errno.
 */
int err_set(int code, const char *fmt, ...) printf_like(2, 3);

/*
 * Returns strerror(code), except "does not exist" for ENOENT. An engine that finds the kernel's
 * words for ENOENT anywhere in a message concludes that the container's program is missing. So only
 * step/exec.c uses the kernel's words, to report exactly that. For EFBIG the text also names the
 * limits that a file can exceed.
 */
const char *err_text(int code);

/*
 * Sets this thread's error message (the trail) to the formatted text, followed by ": " and
 * err_text(errno). Returns -errno, or -EIO if errno is 0.
 */
int err_sys(const char *fmt, ...) printf_like(1, 2);

/*
 * Puts the formatted text and ": " in front of this thread's error message. Does nothing if the
 * message begins with the same field name already: "linux.resources" adds nothing to
 * "linux.resources.memory.limit: ...". Returns r unchanged, so that a call can end a return
 * statement.
 */
int err_ctx(int r, const char *fmt, ...) printf_like(2, 3);

/*
 * Returns this thread's error message, which is never NULL, and is "" if nothing failed. The
 * pointer is valid until the next err_*() call of this thread.
 */
const char *err_msg(void);

void err_clear(void);

#ifdef __clang_analyzer__
/*
 * Tells the static analyzer, which sees one file at a time, that the err_*() functions return a
 * negative number. Otherwise the analyzer would take failures for successes, and warn of errors
 * that cannot happen.
 */
static inline int err_is_negative(int r)
{
	if (r >= 0)
		__builtin_unreachable();
	return r;
}
#define err_set(...) err_is_negative((err_set)(__VA_ARGS__))
#define err_sys(...) err_is_negative((err_sys)(__VA_ARGS__))
#endif
