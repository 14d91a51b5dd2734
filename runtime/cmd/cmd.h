/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Subcommands. Each is a file with a run function: it parses its options, calls one function of
 * launch/ or of a library, and returns an exit code, or -errno with the message set, which main()
 * prints.
 */
#pragma once
#include "cmd/options.h"
#include "launch/container.h"

#define CMD_EXIT_FAILURE 1
#define CMD_EXIT_EXEC_FAILED 255 /* exec could not run the program: runc's code */

struct globals {
	const char *root, *log, *log_format, *log_level, *cgroup_manager, *rootless;
	bool debug, systemd_cgroup;
	bool vm; /* called by the name caisson-vm: --isolation vm, for engines that know only a path
		  */
	char **argv; /* the whole command line, for seal_self() */
};

struct command {
	const char *name;
	const char *usage;   /* behind "caisson NAME " */
	const char *summary; /* one line */
	const char *text;    /* what --help says more, or NULL */
	int (*run)(const struct command *self, const struct globals *g, int argc, char **argv);
	bool hidden;
};

int cmd_create(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_run(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_start(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_state(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_kill(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_delete(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_exec(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_ps(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_list(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_pause(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_resume(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_update(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_events(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_features(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_doctor(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_spec(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_plan(const struct command *self, const struct globals *g, int argc, char **argv);

/*
 * Parses the command's options; prints --help itself. 1: help was printed, the command is done
 * (exit 0). min and max say how many arguments must be left; a wrong number is an error that shows
 * the usage.
 */
struct arguments {
	int n;
	char **v;
	int min, max;       /* max -1: any number */
	bool stop_at_first; /* exec: options end at the first argument */
};
int cmd_parse(const struct command *self, const struct option_def *defs, int argc, char **argv,
	struct arguments *args) must_check;

/* Opens the container, with the root that the globals say. */
int cmd_open(const struct globals *g, const char *id, bool lock, struct container *ret) must_check;

/*
 * For --regex: calls f with each container whose ID the extended regular expression matches, opened
 * as cmd_open() does. As in crun, what f fails at is a warning, and the others go on.
 */
int cmd_each(const struct globals *g, const char *regex, bool lock,
	int (*f)(void *data, struct container *c), void *data) must_check;

int cmd_manager(const struct globals *g, enum cg_manager *ret) must_check;

/* Closed or missing descriptors among 3 .. 3+n-1 are an error: one of ours would take the number.
 */
int cmd_check_preserved(int n) must_check;

/* ps of a container in a microVM: a table as ps -ef's, or [pid, ...]. */
int cmd_ps_of_vm(struct container *c, bool json) must_check;

/* Writes text to standard output, whole. */
int cmd_print(const char *text, size_t len) must_check;
int cmd_print_json(struct json_out *o) must_check;
