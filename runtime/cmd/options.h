/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parses command-line options in two styles, that of Go programs and that of argp(3).
 *
 * In the style of Go, callers pass "--name value" and "--name=value", also with one dash
 * ("-no-subreaper"). A boolean option has no value or is "--flag=true|false"; an option with one
 * letter is "-b value".
 *
 * The style of argp(3) is accepted too: if a word with one dash is not the name of an option, it
 * can be several letters in one word ("-dt"), or a letter with its value directly after it
 * ("-u1000").
 */
#pragma once
#include "base/opt.h"
#include "base/str.h"

enum option_type {
	OPTION_FLAG, /* value is a bool * */
	/* value is a struct opt_bool *, whose member `set` is true if the option was given */
	OPTION_OPT_FLAG,
	/*
	 * value is a const char **; an option with an empty value leaves the variable as it is,
	 * because scripts pass "$VARIABLE" even if it is empty
	 */
	OPTION_STRING,
	OPTION_COUNT, /* value is an int *, a number >= 0 */
	OPTION_LIST,  /* value is a struct option_list *; the option may be given several times */
	/*
	 * the option is accepted with its value, so that callers of other runtimes work, but has no
	 * effect
	 */
	OPTION_IGNORED,
};

struct option_list {
	const char *v[256];
	size_t n;
};

struct option_def {
	const char *name;
	char letter; /* the one-letter form, such as 'b'; 0: the option has none */
	enum option_type type;
	void *value;
	const char *arg;  /* name of the value for --help, such as "FILE" */
	const char *help; /* description for --help; NULL: --help leaves the option out */
};

/*
 * Parses argv[0..argc-1] by the table `defs`, whose last entry has the name NULL. Moves the
 * arguments that are not options to the front of argv, in order, and returns their number. "--"
 * ends the options; with stop_at_first the first argument ends them too. *ret_help says whether
 * --help or -h was given.
 */
int options_parse(const struct option_def *defs, int argc, char **argv, bool stop_at_first,
	bool *ret_help) must_check;

/* Writes one line for each option, as --help prints it. */
int options_help(const struct option_def *defs, struct strbuf *out) must_check;

/* Holds the text that --help of a command prints. */
struct command_help {
	const char *program; /* such as "caisson" or "caisson image" */
	const char *name, *usage, *summary;
	const char *text; /* further text of the help, or NULL */
	const char *end;  /* last line of the help, or NULL */
};
int options_help_command(
	const struct command_help *h, const struct option_def *defs, struct strbuf *out) must_check;
