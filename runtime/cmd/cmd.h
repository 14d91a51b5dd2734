/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Subcommands. Each is a file with a run function, which parses its options and calls one function
 * of launch/ or of a library. It returns an exit code, or -errno with the message set, which main()
 * prints.
 */
#pragma once
#include "cmd/options.h"
#include "launch/container.h"

#define CMD_EXIT_FAILURE 1
#define CMD_EXIT_EXEC_FAILED 255 /* exec could not run the program; the code is runc's */

struct globals {
	const char *root, *log, *log_format, *log_level, *cgroup_manager, *rootless;
	bool debug, systemd_cgroup;
	/* run by the name caisson-vm: engines that know only a path get --isolation vm by it */
	bool vm;
};

struct command {
	const char *name;
	const char *usage;   /* what follows "caisson NAME " in the usage line */
	const char *summary; /* one line */
	const char *text;    /* what --help adds, or NULL */
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
int cmd_image(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_doctor(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_spec(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_disk(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_plan(const struct command *self, const struct globals *g, int argc, char **argv);

/* The arguments of a command, without its options. */
struct arguments {
	int n; /* cmd_parse() sets n and v */
	char **v;
	int min, max;       /* how many the command expects; a max of -1: any number */
	bool stop_at_first; /* exec: options end at the first argument */
};

/*
 * Parses the command's options. For --help it prints the help and returns 1, and then the command
 * is done. A wrong number of arguments is an error that shows the usage.
 */
int cmd_parse(const struct command *self, const struct option_def *defs, int argc, char **argv,
	struct arguments *args) must_check;

/*
 * Opens the container. Its state directory is beneath the root that the globals name. A directory
 * without state.json is no container, unless a command is creating it now; cmd_open_any() opens
 * what a killed `create` left, too.
 */
int cmd_open_any(const struct globals *g, const char *id, bool lock, struct container *ret)
	must_check;
int cmd_open(const struct globals *g, const char *id, bool lock, struct container *ret) must_check;

/*
 * For --regex: opens each container whose ID the extended regular expression matches, as cmd_open()
 * does, and calls f with it. If f fails, this is a warning, and the next container follows, as in
 * crun.
 */
int cmd_each(const struct globals *g, const char *regex, bool lock,
	int (*f)(void *data, struct container *c), void *data) must_check;

int cmd_manager(const struct globals *g, enum cg_manager *ret) must_check;

/*
 * Decides which descriptors of the caller's the program gets: those of LISTEN_FDS, and of the
 * *preserve_fds ones behind them what is open. Less is a warning, and *preserve_fds becomes as many
 * as it takes to reach the last open one. Marks all others close-on-exec, because what leaked into
 * caisson from its caller must not get into the container.
 */
int cmd_preserve(int *preserve_fds) must_check;

/* The `ps` of a container in a microVM: prints a table such as that of ps -ef, or [pid, ...]. */
int cmd_ps_of_vm(struct container *c, bool json) must_check;

/* Writes all of text to standard output. */
int cmd_print(const char *text, size_t len) must_check;
int cmd_print_json(struct json_out *o) must_check;
