/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: lines for people (text) or programs (JSON, the {"level","msg","time"} that containerd
 * and podman parse). Where it goes is decided once, by main(). Library code may warn; it never
 * prints.
 */
#pragma once
#include "base/err.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/*
 * path NULL: standard error. format: "text" or "json". level: what comes behind it in the enum is
 * left out. Call once, before any log_line(); without it errors and warnings go to standard error
 * as text.
 */
int log_open(const char *path, const char *format, enum log_level level) must_check;

void log_line(enum log_level level, const char *fmt, ...) printf_like(2, 3);

#define log_warn(...) log_line(LOG_WARN, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

/* What the user must be told without being an error: to the log, and to standard error. */
void log_notice(const char *fmt, ...) printf_like(1, 2);

/*
 * The command's one error line. With a log file it goes there and, as people and conmon read
 * standard error, there too.
 */
void log_error(const char *msg);

/* The log file's descriptor, or -EBADF: a child must not inherit it by accident, but may need to
 * keep it. */
int log_fd(void);
