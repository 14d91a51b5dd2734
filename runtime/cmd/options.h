/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command-line options, as Go programs pass them: "--name value", "--name=value", and one dash as
 * good as two
 * ("-no-subreaper"); booleans alone or "--flag=true|false"; one-letter forms "-b value". And as
 * argp(3) takes them, where a word with one dash is no option's name: letters in one word ("-dt"),
 * a value behind its letter ("-u1000").
 */
#pragma once
#include "base/opt.h"
#include "base/str.h"

enum option_type {
	OPTION_FLAG,     /* bool * */
	OPTION_OPT_FLAG, /* struct opt_bool *: set once it is given */
	OPTION_STRING,   /* const char **; left alone by an empty value: scripts pass "$VARIABLE" */
	OPTION_COUNT,    /* int *, a number >= 0 */
	OPTION_LIST,     /* struct option_list *, may be given several times */
	OPTION_IGNORED,  /* accepted with its value, for compatibility; without effect */
};

struct option_list {
	const char *v[256];
	size_t n;
};

struct option_def {
	const char *name;
	char letter; /* 0: none */
	enum option_type type;
	void *value;
	const char *arg;  /* "FILE", for --help */
	const char *help; /* NULL: not shown */
};

/*
 * Parses argv[0..argc-1] up to defs' end (name NULL). Arguments that are no options are moved to
 * the front of argv, in order, and their number returned; "--" ends the options. stop_at_first: so
 * does the first argument. *ret_help: --help or -h was among them.
 */
int options_parse(const struct option_def *defs, int argc, char **argv, bool stop_at_first,
	bool *ret_help) must_check;

/* The options, a line each, for --help. */
int options_help(const struct option_def *defs, struct strbuf *out) must_check;
