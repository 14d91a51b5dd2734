/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the table that `ps` prints, in the form of ps -ef, for processes of the host and for those
 * of a guest.
 */
#pragma once
#include <sys/types.h>
#include <time.h>

#include "base/str.h"
#include "base/user.h"

struct ps_row {
	const char *user;
	pid_t pid, ppid;
	unsigned cpu;    /* processor time in percent of one processor, since the process started */
	time_t start;    /* when the process started (wall clock) */
	const char *tty; /* name of the terminal without /dev/, or "?" */
	char tty_name[64]; /* memory for the text to which tty may point */
	uint64_t seconds;  /* processor time in seconds */
	const char *command;
};

int ps_table_head(struct strbuf *out) must_check;
int ps_table_add(struct strbuf *out, const struct ps_row *row) must_check;

/*
 * Adds a row for a process of this host, from /proc. If the process has ended, adds no row and
 * returns 0.
 */
int ps_table_add_process(struct strbuf *out, struct user_names *names, pid_t pid) must_check;

/*
 * ps_parse_stat() parses the text of /proc/PID/stat into row, except for the user and the command.
 * It changes the text. *ret_name is the process's name, which is in the text; *ret_state is its
 * state. `now` and `up` are the wall clock and the time since boot, in hundredths of a second.
 * ps_parse_stat() is declared here for the unit tests.
 */
struct ps_clock {
	int64_t now, up;
};
int ps_parse_stat(char *text, const struct ps_clock *clock, struct ps_row *row, char **ret_name,
	char *ret_state) must_check;
