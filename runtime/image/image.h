/* SPDX-License-Identifier: Apache-2.0 */
/*
 * caisson-image: the program that `caisson image ...` executes. Each subcommand is a function that
 * parses its options, calls images/oci, and returns an exit code, or -errno with the message set.
 */
#pragma once
#include "base/program.h"
#include "cmd/options.h"
#include "images/oci/container_dir.h"
#include "images/oci/image.h"
#include "images/oci/import.h"

struct image_globals {
	const char *store; /* value of --store; NULL: the default store */
	bool quiet;
	bool no_sync;
	bool debug;
};

struct image_command {
	const char *name;
	/* arguments of the subcommand in its usage line, after "caisson image NAME " */
	const char *usage;
	/* what the subcommand does, in one line; NULL: the subcommand is not for users */
	const char *summary;
	const char *text; /* further text for the subcommand's --help, or NULL */
	int (*run)(const struct image_command *self, const struct image_globals *g, int argc,
		char **argv);
};

int image_cmd_bundle(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
int image_cmd_unpack(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
int image_cmd_commit(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
int image_cmd_diff(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
int image_cmd_ahead(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
int image_cmd_resolve(
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
int image_cmd_save(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
int image_cmd_load(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
int image_cmd_tag(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
int image_cmd_rm(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
int image_cmd_df(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
int image_cmd_prune(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);

/*
 * Parses the global options, which stand before the name of the subcommand. The result is that of
 * options_parse().
 */
int image_parse_globals(struct image_globals *g, int argc, char **argv, bool *ret_help) must_check;
int image_globals_help(struct strbuf *out) must_check;

/*
 * How many arguments a subcommand takes, and the arguments themselves. If max is -1, there is no
 * upper limit.
 */
struct image_arguments {
	int min, max;
	/* every word after the first argument is an argument, even if it begins with "-" */
	bool stop_at_first;
	int n;
	char **v;
};

/*
 * Parses a subcommand's options. Returns 1 if --help was printed and the subcommand has nothing
 * else to do, else 0.
 */
int image_parse(const struct image_command *self, const struct option_def *defs, int argc,
	char **argv, struct image_arguments *args) must_check;

int image_open_store(const struct image_globals *g, struct store *ret) must_check;
/*
 * Becomes root in a user namespace, because unpacked layers may have files of several ids of this
 * user. Where that is impossible the user has no such files, so a failure is no error.
 */
void image_become_root(void);

/*
 * Opens the store as *s, becomes root in a user namespace, and reads into *ret which image and
 * which layers the container `name` uses.
 */
int image_open_container(const struct image_globals *g, struct arena *a, const char *name,
	struct store *s, struct container_uses *ret) must_check;
/*
 * Finds an image in the store, and pulls it first if the store does not have it. After success the
 * store has all blobs of the image.
 */
int image_get(const struct image_globals *g, const struct store *s, struct arena *a,
	const char *name, const struct platform *platform, struct image *ret) must_check;

/*
 * Parses the text of --platform. If text is NULL, *ret is NULL, which means this machine's
 * platform.
 */
int image_platform(struct arena *a, const char *text, struct platform *buf,
	const struct platform **ret) must_check;

/* Writes a size as text in powers of 1000, such as "12.3 MB". */
void image_size_text(uint64_t bytes, char *buf, size_t size);
