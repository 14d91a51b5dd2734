/* SPDX-License-Identifier: Apache-2.0 */
/* Declares what `look` tries on a process (look_at.c), for its modes (look.c). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define MAX_FDS 64
#define MAX_LINES 4096

/*
 * Collects the lines of the mode `watch` until its end, because the same line comes thousands of
 * times and is written only once.
 */
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

/* Adds a line to the report. `code` is an errno, or 0, which the report shows as "ok". */
void say(struct report *r, const char *what, int code, const char *found);

struct target target_of(int pid);

/* Opens a file of the target's directory /proc/PID. Returns -1 with errno if that fails. */
int open_name(const struct target *t, const char *name, int flags);

/*
 * Reads the target's command line as one line of text, which is "" if the process has no command
 * line.
 */
void cmdline(const struct target *t, char *ret, size_t size);

/* Stores a text in ret that describes the file to which fd refers. */
void describe(int fd, char *ret, size_t size);

/*
 * Calls one() for each entry of a directory of the target's /proc/PID, with a name that begins with
 * the directory, for example "fd/3".
 */
void each_entry(struct report *r, const struct target *t, const char *dir,
	void (*one)(struct report *r, const struct target *t, const char *name));

/*
 * One of the ways in which `look` examines a process, such as its open files: a function that tries
 * once everything that belongs to this way.
 */
typedef void (*look_fn)(struct report *r, const struct target *t);
#define LOOK_PARTS 5
extern const look_fn look_parts[LOOK_PARTS];
