/* SPDX-License-Identifier: Apache-2.0 */
/*
 * caisson-net: the program that `caisson net ...` executes. It is a program of its own, so that
 * caisson does not load libnftables. Each subcommand is a function that parses its options, calls
 * netsetup/host, and returns an exit code, or -errno with the message set.
 *
 * `caisson run` and `caisson delete` use two subcommands that --help does not show (launch/join.c):
 *
 *	caisson-net join [--network NETWORK]... [-p PORTS]... [--watch PID] --record RECORD ID PATH
 *	caisson-net leave [--record RECORD] ID
 *
 * PATH is by what the network namespace of the container ID is opened, before INIT executes the
 * program. RECORD is what the records say: /proc/PID/ns/net of INIT, by which others find it later.
 * join has undone everything if its exit code is not 0. leave succeeds if there is nothing to undo,
 * and does not need the namespace. With --record it only undoes what that namespace has. It is
 * only necessary if the directory HOST_STATE/containers/ID exists, so that `delete` of a container
 * without networks costs one access(2). That directory is there as long as something of the
 * container is, also after `caisson run` was killed at any point.
 */
#pragma once
#include "base/program.h"
#include "cmd/options.h"
#include "netsetup/host/host.h"

struct tool_globals {
	struct host_options host;
	/* value of --root: directory in which the containers' state directories are */
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

int tool_join(const struct tool_command *self, const struct tool_globals *g, int argc, char **argv);
int tool_leave(
	const struct tool_command *self, const struct tool_globals *g, int argc, char **argv);

/* Parses the values of -p. Sets the ports of *q. */
int tool_parse_ports(struct host *h, const struct option_list *texts, struct attach_request *q)
	must_check;

struct tool_arguments {
	int min, max; /* least and most arguments of the command; max -1: no limit */
	int n;
	char **v;
};

/*
 * Parses the options of a command. Returns 1 if it has printed --help, so that the command is
 * finished, else 0.
 */
int tool_parse(const struct tool_command *self, const struct option_def *defs, int argc,
	char **argv, struct tool_arguments *args) must_check;

/*
 * Ends a command that changes something. In a dry run, prints what would have been changed: as
 * lines, or as the array "changes" of a JSON object. Otherwise prints nothing.
 */
int tool_finish(struct host *h, bool json) must_check;

/* Rows for the tables of options. They mean the same in every subcommand. */
#define TOOL_OPTION_JSON(to) \
	{ \
		"json", 0, OPTION_FLAG, &(to), NULL, "print JSON" \
	}
#define TOOL_OPTION_DRY_RUN(to) \
	{ \
		"dry-run", 'n', OPTION_FLAG, &(to), NULL, \
			"print what would change, change nothing" \
	}
