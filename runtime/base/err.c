/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/*
 * The header err.h defines err_set and err_sys as macros for the static analyzer, so the macros are
 * undefined here, where the functions follow.
 */
#undef err_set
#undef err_sys

static _Thread_local char trail[ERR_MAX];

static void mark_cut(size_t len)
{
	if (len >= sizeof(trail))
		memcpy(trail + sizeof(trail) - 4, "...", 4);
}

int err_set(int code, const char *fmt, ...)
{
	/*
	 * The text is formatted into a buffer of its own first, because the arguments may point
	 * into the trail (the thread's buffer for its error message), which is changed below.
	 */
	char text[ERR_MAX];
	va_list ap;

	va_start(ap, fmt);
	int len = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	memcpy(trail, text, sizeof(trail));
	mark_cut(len < 0 ? 0 : (size_t)len);
	return code > 0 ? -code : -EIO;
}

const char *err_text(int code)
{
	if (code == ENOENT)
		return "does not exist";
	if (code == EFBIG)
		return "File too large: expected less than RLIMIT_FSIZE (ulimit -f) and than the "
		       "largest file of the file system";
	return strerror(code);
}

int err_sys(const char *fmt, ...)
{
	int code = errno > 0 ? errno : EIO;
	char text[ERR_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return err_set(code, "%s: %s", text, err_text(code));
}

int err_ctx(int r, const char *fmt, ...)
{
	char text[ERR_MAX];
	va_list ap;

	va_start(ap, fmt);
	int len = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/*
	 * The name of the field that the caller wants to put in front of the message is not added
	 * if the message begins with that name already.
	 */
	if (len > 0 && strncmp(trail, text, (size_t)len) == 0 && trail[len] &&
		strchr(":.[", trail[len]))
		return r;
	if (len > 0 && (size_t)len < sizeof(text) && trail[0])
		len += snprintf(text + len, sizeof(text) - (size_t)len, ": %s", trail);
	memcpy(trail, text, sizeof(trail));
	mark_cut(len < 0 ? 0 : (size_t)len);
	return r;
}

const char *err_msg(void)
{
	return trail;
}

void err_clear(void)
{
	trail[0] = '\0';
}
