/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions of glibc that the archives of libseccomp and yajl call. Debian compiles these archives
 * with -D_FORTIFY_SOURCE=2, so they call the functions below in place of memcpy(), sprintf(),
 * snprintf() and fprintf(), and pass the size of the destination, which the functions check. musl
 * has none of these functions. Their interface is part of the Linux Standard Base, so it does not
 * change.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The prototypes are here, because no header of musl declares these functions of glibc. */
void *__memcpy_chk(void *dst, const void *src, size_t n, size_t size);
int __snprintf_chk(char *dst, size_t n, int flag, size_t size, const char *format, ...);
int __sprintf_chk(char *dst, int flag, size_t size, const char *format, ...);
int __fprintf_chk(FILE *f, int flag, const char *format, ...);

void *__memcpy_chk(void *dst, const void *src, size_t n, size_t size)
{
	if (n > size)
		abort();
	return memcpy(dst, src, n);
}

int __snprintf_chk(char *dst, size_t n, int flag, size_t size, const char *format, ...)
{
	va_list args;

	if (n > size)
		abort();
	va_start(args, format);
	int r = vsnprintf(dst, n, format, args);
	va_end(args);
	return r;
}

int __sprintf_chk(char *dst, int flag, size_t size, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	int r = vsnprintf(dst, size, format, args);
	va_end(args);
	if (r >= 0 && (size_t)r >= size)
		abort();
	return r;
}

int __fprintf_chk(FILE *f, int flag, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	int r = vfprintf(f, format, args);
	va_end(args);
	return r;
}
