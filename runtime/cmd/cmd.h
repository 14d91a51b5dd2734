/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The subcommands of caisson. Each is a file with a run function, which parses its options and
 * calls one function of launch/ or of a library. The run function returns an exit code, or -errno
 * with the message set, which main() prints.
 */
#pragma once
#include "base/program.h"
#include "cmd/options.h"
#include "launch/container.h"

#define CMD_EXIT_FAILURE 1
/* exit code of `exec` if it could not run the program; the same as runc's */
#define CMD_EXIT_EXEC_FAILED 255

struct globals {
	const char *root, *log, *log_format, *log_level, *cgroup_manager, *rootless;
	bool debug, systemd_cgroup;
	/*
	 * caisson was called as caisson-vm, which means --isolation vm, because engines can only be
	 * given a path
	 */
	bool vm;
};

struct command {
	const char *name;
	const char *usage;   /* arguments in the usage line, after "caisson NAME " */
	const char *summary; /* what the command does, in one line */
	const char *text;    /* further text for --help, or NULL */
	int (*run)(const struct command *self, const struct globals *g, int argc, char **argv);
	bool hidden;
};

int cmd_create(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_run(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_start(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_stop(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_logs(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_rm(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_state(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_kill(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_delete(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_exec(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_ps(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_list(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_pause(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_resume(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_checkpoint(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_restore(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_update(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_events(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_features(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_image(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_volume(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_net(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_doctor(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_spec(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_disk(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_plan(const struct command *self, const struct globals *g, int argc, char **argv);

/* The arguments of a command, without its options. */
struct arguments {
	int n; /* the arguments and their number, which cmd_parse() sets */
	char **v;
	int min, max; /* least and largest number of arguments; a max of -1: no limit */
	/*
	 * for `exec`: everything after the first argument is an argument, even if it begins with
	 * "-"
	 */
	bool stop_at_first;
};

/*
 * Parses the command's options. If --help was given, prints the help and returns 1; then the
 * command has nothing more to do. A wrong number of arguments is an error that shows the usage.
 */
int cmd_parse(const struct command *self, const struct option_def *defs, int argc, char **argv,
	struct arguments *args) must_check;

/*
 * Open the container by its ID. Its state directory is beneath the root that the globals name.
 * cmd_open() fails if the directory has no state.json, unless another command is creating the
 * container now. cmd_open_any() also opens a directory that a killed `create` has left.
 */
int cmd_open_any(const struct globals *g, const char *id, bool lock, struct container *ret)
	must_check;
int cmd_open(const struct globals *g, const char *id, bool lock, struct container *ret) must_check;

/*
 * For --regex: opens each container whose ID the extended regular expression matches, as cmd_open()
 * does, and calls f with it. If f fails for a container, a warning is logged and f is called with
 * the next one, as in crun.
 */
int cmd_each(const struct globals *g, const char *regex, bool lock,
	int (*f)(void *data, struct container *c), void *data) must_check;

/*
 * Returns whether the arguments of `run` or `create` have the option `name`, such as "--image", in
 * front of any "--".
 */
bool cmd_has_option(int argc, char **argv, const char *name);
/* `run` and `create` with the option --image. */
int cmd_run_image(const struct command *self, const struct globals *g, int argc, char **argv)
	must_check;
/* `run` with the option --disk. */
int cmd_run_disk(const struct command *self, const struct globals *g, int argc, char **argv)
	must_check;

/*
 * Tells caisson-disk and caisson-inside in the environment which caisson to run with which
 * directory of states, for what needs a microVM.
 */
int cmd_set_runtime(const struct globals *g) must_check;

/* Returns whether the container is a machine with an operating system of its own. */
bool cmd_is_foreign(const struct container *c);
/* `exec` in such a machine: becomes ssh. Returns only after a failure. */
int cmd_exec_foreign(struct container *c, int argc, char **argv, bool tty) must_check;
int cmd_console(const struct command *self, const struct globals *g, int argc, char **argv);

/*
 * Executes a helper program with the list of arguments `words`, whose first entry it replaces by
 * the program's path. `needs` names the libraries without which the program is not built.
 */
int cmd_execute(const char *program, const char *needs, char **words) must_check;

struct launch_options;
/* Sets what the global options say of a launch. */
int cmd_prepare_launch(const struct globals *g, struct launch_options *o) must_check;

/* Sends a signal to the container's first process, or to all of its processes. */
int cmd_signal(struct container *c, int sig, bool all) must_check;

int cmd_manager(const struct globals *g, enum cg_manager *ret) must_check;

/*
 * Decides which descriptors of caisson's caller the program inherits: those that LISTEN_FDS counts,
 * and those of the next *preserve_fds ones that are open. If some are not open, this is a warning,
 * and *preserve_fds is reduced to end at the last open one. Marks all other descriptors
 * close-on-exec, because descriptors that the caller passed to caisson by mistake must not get into
 * the container.
 */
int cmd_preserve(int *preserve_fds) must_check;

/* Prints `ps` for a container in a microVM: a table like that of ps -ef, or [pid, ...]. */
int cmd_ps_of_vm(struct container *c, bool json) must_check;
