/* SPDX-License-Identifier: Apache-2.0 */
/* Declares what `look` tries on a process (look_at.c), for its modes (look.c). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define MAX_FDS 64
#define MAX_LINES 4096

/* The lines of `watch` are collected, because the same line comes thousands of times. */
struct report {
	FILE *out;
	bool collect;
	char *lines[MAX_LINES];
	size_t n;
};

struct target {
	int pid;
	char dir[32];
};

/* Adds a line to the report. code: an errno, or 0, which is written as "ok". */
void say(struct report *r, const char *what, int code, const char *found);

struct target target_of(int pid);

/* Opens a file of /proc/PID. Returns -1 with errno if that fails. */
int open_name(const struct target *t, const char *name, int flags);

/* Reads the command line as one line of text; "" if there is none. */
void cmdline(const struct target *t, char *ret, size_t size);

/* Describes the file that fd refers to. */
void describe(int fd, char *ret, size_t size);

/*
 * Calls one() for each entry of a directory of /proc/PID. The name that one() gets begins with the
 * directory, for example "fd/3".
 */
void each_entry(struct report *r, const struct target *t, const char *dir,
	void (*one)(struct report *r, const struct target *t, const char *name));

/* A way to look at a process. The function tries once everything that belongs to this way. */
typedef void (*look_fn)(struct report *r, const struct target *t);
#define LOOK_PARTS 5
extern const look_fn look_parts[LOOK_PARTS];
