/* SPDX-License-Identifier: Apache-2.0 */
/* The table that `ps` prints, in the form of ps -ef, of processes on the host and of a guest's. */
#pragma once
#include <sys/types.h>
#include <time.h>

#include "base/str.h"
#include "base/user.h"

struct ps_row {
	const char *user;
	pid_t pid, ppid;
	unsigned cpu;      /* percent of one processor, since the process started */
	time_t start;      /* wall clock */
	const char *tty;   /* without /dev/, or "?" */
	char tty_name[64]; /* room for tty */
	uint64_t seconds;  /* of processor time */
	const char *command;
};

int ps_table_head(struct strbuf *out) must_check;
int ps_table_add(struct strbuf *out, const struct ps_row *row) must_check;

/*
 * Adds the row of a process of this host, as /proc has it. Adds none, and returns 0, if the process
 * has ended.
 */
int ps_table_add_process(struct strbuf *out, struct user_names *names, pid_t pid) must_check;

/*
 * Parses a text of /proc/PID/stat into row, except for user and command. *ret_name is the kernel's
 * name of the process, in text, which is changed; *ret_state is its state. `now` and `up` are the
 * wall clock and the time since boot, in hundredths of a second. Declared for tests.
 */
struct ps_clock {
	int64_t now, up;
};
int ps_parse_stat(char *text, const struct ps_clock *clock, struct ps_row *row, char **ret_name,
	char *ret_state) must_check;
