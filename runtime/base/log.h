/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes the log: lines for people (text) or for programs (JSON objects of level, msg and time,
 * which containerd and podman parse). main() decides once where the lines go. Library code may log
 * warnings, but never prints anything itself.
 */
#pragma once
#include "base/err.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/*
 * Opens the log file at path; if path is NULL, the log goes to standard error. format is "text" or
 * "json". Lines whose level comes after `level` in enum log_level are left out. The caller calls
 * log_open() once, before any log_line(). Until then errors and warnings go to standard error as
 * text.
 */
int log_open(const char *path, const char *format, enum log_level level) must_check;

/* Returns the level that the caller gave to log_open(): less important lines are left out. */
enum log_level log_level(void);

void log_line(enum log_level level, const char *fmt, ...) printf_like(2, 3);

#define log_warn(...) log_line(LOG_WARN, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

/*
 * Tells a person something that is no error. The line goes to the log file, and to standard error
 * if that is a terminal. A standard error that is no terminal may be shared with the container, and
 * a program that reads the container's output did not ask for the line.
 */
void log_notice(const char *fmt, ...) printf_like(1, 2);

/*
 * Reports why a command failed, in one line. The line goes to the log file, if the command has one,
 * and always to standard error, because people and conmon read standard error.
 */
void log_error(const char *msg);

/*
 * Returns the log file's descriptor, or -EBADF if the log goes elsewhere. A process that closes all
 * its descriptors and then goes on logging leaves this descriptor open.
 */
int log_fd(void);
