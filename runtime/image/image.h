/* SPDX-License-Identifier: Apache-2.0 */
/*
 * caisson-image: the program that `caisson image ...` executes. Each subcommand is a function that
 * parses its options, calls images/oci, and returns an exit code, or -errno with the message set.
 */
#pragma once
#include "cmd/options.h"
#include "images/oci/import.h"

struct image_globals {
	const char *store; /* NULL: the default */
	bool quiet;
	bool no_sync;
};

struct image_command {
	const char *name;
	const char *usage;   /* behind "caisson image NAME " */
	const char *summary; /* one line */
	const char *text;    /* what --help says more, or NULL */
	int (*run)(const struct image_command *self, const struct image_globals *g, int argc,
		char **argv);
};

int image_cmd_bundle(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
int image_cmd_unpack(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
int image_cmd_import(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
int image_cmd_ls(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
int image_cmd_inspect(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
int image_cmd_history(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
int image_cmd_export(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
int image_cmd_tag(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
int image_cmd_rm(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
int image_cmd_prune(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);

/* How many arguments a command takes; max -1: any number. */
struct image_arguments {
	int min, max;
	bool stop_at_first; /* options end at the first argument */
	int n;
	char **v;
};

/* Parses a command's options. 1: --help was printed, the command is done. */
int image_parse(const struct image_command *self, const struct option_def *defs, int argc,
	char **argv, struct image_arguments *args) must_check;

int image_open_store(const struct image_globals *g, struct store *ret) must_check;
/* The text of --platform; NULL gives NULL, which means this machine's. */
int image_platform(struct arena *a, const char *text, struct platform *buf,
	const struct platform **ret) must_check;

int image_print(const char *text, size_t len) must_check;
/* Prints the JSON, and a newline. */
int image_print_json(struct json_out *o) must_check;

/* "12.3 MB", as people read sizes: powers of 1000. */
void image_size_text(uint64_t bytes, char *buf, size_t size);

/* Makes a process without privileges the root of a user namespace of its own; root: nothing. */
int image_become_root(bool *ret_rootless) must_check;
