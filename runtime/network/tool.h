/* SPDX-License-Identifier: Apache-2.0 */
/*
 * caisson-net: the program that `caisson net ...` executes. It is a program of its own, so that
 * caisson does not load libnftables. Each subcommand is a function that parses its options, calls
 * netsetup/host, and returns an exit code, or -errno with the message set.
 *
 * `caisson run` and `caisson delete` use two subcommands that --help does not show (launch/join.c):
 *
 * 	caisson-net --root ROOT join [--network NETWORK]... [-p PORTS]... [--watch PID]
 * 		--record RECORD ID PATH
 * 	caisson-net --root ROOT leave [--record RECORD] ID
 *
 * The container is ID. `join` opens the container's network namespace by PATH, before INIT, the
 * container's first process, executes the program. RECORD is the path of the namespace that the
 * records get: /proc/PID/ns/net of INIT, by which later commands find the namespace. join has
 * undone everything if its exit code is not 0. leave succeeds if there is nothing to undo, and does
 * not need the namespace. With --record, leave only undoes what the namespace RECORD has. It never
 * undoes what the record of another ROOT has. leave is
 * only necessary if the directory HOST_STATE/containers/ID exists, so that `delete` of a container
 * without networks costs one access(2). That directory is there as long as the container has
 * anything to undo, also after `caisson run` was killed at any point.
 */
#pragma once
#include "base/program.h"
#include "cmd/options.h"
#include "netsetup/host/host.h"

struct tool_globals {
	struct host_options host;
	/* value of --root: the directory that contains the state directories of the containers */
	const char *root;
};

struct tool_command {
	const char *name;
	const char *usage; /* arguments in the usage line, after "caisson net NAME " */
	/* what the command does, in one line; NULL: `caisson net --help` does not list it */
	const char *summary;
	const char *text; /* further text for --help, or NULL */
	int (*run)(const struct tool_command *self, const struct tool_globals *g, int argc,
		char **argv);
};

int tool_create(
	const struct tool_command *self, const struct tool_globals *g, int argc, char **argv);
int tool_ls(const struct tool_command *self, const struct tool_globals *g, int argc, char **argv);
int tool_inspect(
	const struct tool_command *self, const struct tool_globals *g, int argc, char **argv);
int tool_rm(const struct tool_command *self, const struct tool_globals *g, int argc, char **argv);
int tool_reload(
	const struct tool_command *self, const struct tool_globals *g, int argc, char **argv);
int tool_attach(
	const struct tool_command *self, const struct tool_globals *g, int argc, char **argv);
int tool_detach(
	const struct tool_command *self, const struct tool_globals *g, int argc, char **argv);

/*
 * Finds the path of --root that records get: the directory without symbolic links, or, if it does
 * not exist, the path as it was given.
 */
int tool_root(struct arena *a, const struct tool_globals *g, const char **ret) must_check;
/*
 * Says whether the attachment belongs to a container with the same ID below another directory than
 * `root`. False if the record does not tell.
 */
bool tool_of_another_root(const struct attachment *a, const char *root);

int tool_join(const struct tool_command *self, const struct tool_globals *g, int argc, char **argv);
int tool_leave(
	const struct tool_command *self, const struct tool_globals *g, int argc, char **argv);

/* Parses the values of the option -p, which `texts` holds, and sets the ports of *q. */
int tool_parse_ports(struct host *h, const struct option_list *texts, struct attach_request *q)
	must_check;

struct tool_arguments {
	/* least and largest number of arguments of the subcommand; max -1: no limit */
	int min, max;
	int n;
	char **v;
};

/*
 * Parses the options of a subcommand. Returns 1 if --help was given and has been printed, so that
 * the subcommand has nothing more to do, else 0.
 */
int tool_parse(const struct tool_command *self, const struct option_def *defs, int argc,
	char **argv, struct tool_arguments *args) must_check;

/*
 * Ends a subcommand that changes something. In a dry run, prints what would have been changed: as
 * lines, or as the array "changes" of a JSON object. Otherwise prints nothing.
 */
int tool_finish(struct host *h, bool json) must_check;

/* Options that mean the same in every subcommand, as rows for the tables of options. */
#define TOOL_OPTION_JSON(to) \
	{ \
		"json", 0, OPTION_FLAG, &(to), NULL, "print JSON" \
	}
#define TOOL_OPTION_DRY_RUN(to) \
	{ \
		"dry-run", 'n', OPTION_FLAG, &(to), NULL, \
			"print what would change, change nothing" \
	}
