/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command-line options, in the forms of two worlds.
 *
 * Go programs pass "--name value" and "--name=value", also with one dash ("-no-subreaper");
 * booleans stand alone or as "--flag=true|false"; a letter is "-b value".
 *
 * argp(3) takes more, if a word with one dash is not the name of an option: several letters in one
 * word ("-dt"), and a value directly behind its letter ("-u1000").
 */
#pragma once
#include "base/opt.h"
#include "base/str.h"

enum option_type {
	OPTION_FLAG,     /* bool * */
	OPTION_OPT_FLAG, /* struct opt_bool *: set once it is given */
	/* const char **; an empty value changes nothing, because scripts pass "$VARIABLE" */
	OPTION_STRING,
	OPTION_COUNT,   /* int *, a number >= 0 */
	OPTION_LIST,    /* struct option_list *, may be given several times */
	OPTION_IGNORED, /* accepted with its value, for compatibility, but without effect */
};

struct option_list {
	const char *v[256];
	size_t n;
};

struct option_def {
	const char *name;
	char letter; /* 0: no letter */
	enum option_type type;
	void *value;
	const char *arg;  /* "FILE", for --help */
	const char *help; /* NULL: --help does not show it */
};

/*
 * Parses argv[0..argc-1]. defs ends in an entry whose name is NULL. Moves the arguments that are no
 * options to the front of argv, in order, and returns their number. "--" ends the options; with
 * stop_at_first the first argument ends them too. *ret_help says whether --help or -h was given.
 */
int options_parse(const struct option_def *defs, int argc, char **argv, bool stop_at_first,
	bool *ret_help) must_check;

/* Writes one line for each option, for --help. */
int options_help(const struct option_def *defs, struct strbuf *out) must_check;
