/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The subcommands of caisson. Each subcommand is a file with a run function, which parses the
 * subcommand's options and calls one function of launch/ or of a library. The run function returns
 * an exit code, or -errno with the message set, which main() prints.
 */
#pragma once
#include "base/program.h"
#include "cmd/options.h"
#include "launch/container.h"

#define CMD_EXIT_FAILURE 1
/* exit code of `caisson exec` if it could not run the program; runc has the same */
#define CMD_EXIT_EXEC_FAILED 255

struct globals {
	const char *root, *log, *log_format, *log_level, *cgroup_manager, *rootless;
	bool debug, systemd_cgroup;
	/*
	 * whether caisson was called by the name caisson-vm, which stands for --isolation vm,
	 * because engines can be given a path but no option
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

/*
 * Rows of an option table for the options of CRIU that `checkpoint` and `restore` share. `o` is a
 * struct criu_options, and `empty_ns` a struct option_list, which cmd_take_empty_ns() reads.
 * criu_check_options() says which of them a microVM can have.
 */
#define CMD_OPTIONS_OF_CRIU(o, empty_ns) \
	{"work-path", 0, OPTION_STRING, &(o).work_path, "DIR", \
		"where CRIU writes its log (default: --image-path)"}, \
		{"tcp-established", 0, OPTION_FLAG, &(o).tcp_established, NULL, \
			"CRIU: allow open TCP connections"}, \
		{"ext-unix-sk", 0, OPTION_FLAG, &(o).ext_unix_sk, NULL, \
			"CRIU: allow Unix sockets that lead outside"}, \
		{"shell-job", 0, OPTION_FLAG, &(o).shell_job, NULL, "CRIU: allow a shell's jobs"}, \
		{"file-locks", 0, OPTION_FLAG, &(o).file_locks, NULL, "CRIU: allow file locks"}, \
		{"link-remap", 0, OPTION_FLAG, &(o).link_remap, NULL, \
			"CRIU: allow open files that were deleted"}, \
		{"auto-dedup", 0, OPTION_FLAG, &(o).auto_dedup, NULL, \
			"CRIU: drop pages from the images that are there twice"}, \
		{"empty-ns", 0, OPTION_LIST, &(empty_ns), "network", \
			"CRIU: leave out what is in the network namespace"}, \
		{"lazy-pages", 0, OPTION_FLAG, &(o).lazy_pages, NULL, \
			"CRIU: move the memory only when it is used (`criu lazy-pages`)"}, \
		{"network-lock", 0, OPTION_STRING, &(o).network_lock, "METHOD", \
			"CRIU: how it blocks the network: iptables (default), nftables or skip"}, \
	{ \
		"manage-cgroups-mode", 0, OPTION_STRING, &(o).cgroups_mode, "MODE", \
			"CRIU: soft (default), full, strict, props, none or ignore" \
	}

struct criu_options;
/* Reads the values of --empty-ns, of which CRIU knows one: network. */
int cmd_take_empty_ns(const struct option_list *values, struct criu_options *o) must_check;

/* The arguments of a subcommand, without its options. */
struct arguments {
	int n; /* the arguments and how many they are, both set by cmd_parse() */
	char **v;
	int min, max; /* least and largest number of arguments; max -1: no limit */
	/*
	 * whether everything after the first argument is an argument, even if it begins with "-",
	 * as the command of `exec` needs it
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
 * cmd_open() and cmd_open_any() open a container by its ID. The container's state directory is in
 * the directory that the global option --root names. cmd_open() fails if the state directory has no
 * state.json, unless another command is creating the container now. cmd_open_any() also opens a
 * directory that a killed `create` has left.
 */
int cmd_open_any(const struct globals *g, const char *id, bool lock, struct container *ret)
	must_check;
int cmd_open(const struct globals *g, const char *id, bool lock, struct container *ret) must_check;

/*
 * Implements --regex: opens each container whose ID the extended regular expression matches, as
 * cmd_open() does, and calls f with it. If f fails for a container, the function logs a warning and
 * goes on with the next container, as crun does.
 */
int cmd_each(const struct globals *g, const char *regex, bool lock,
	int (*f)(void *data, struct container *c), void *data) must_check;

/*
 * Returns whether the arguments of `run` or `create` have the option `name`, such as "--image", in
 * front of any "--".
 */
bool cmd_has_option(int argc, char **argv, const char *name);
/* Implements `caisson run` and `caisson create` if they have the option --image. */
int cmd_run_image(const struct command *self, const struct globals *g, int argc, char **argv)
	must_check;
/* Implements `caisson run` if it has the option --disk. */
int cmd_run_disk(const struct command *self, const struct globals *g, int argc, char **argv)
	must_check;

/* Implements `caisson console --vnc` (vnc.c). `where` is a port, or a path with a slash in it. */
int cmd_serve_viewers(struct container *c, const char *where) must_check;

/*
 * Sets environment variables that tell caisson-disk and caisson-inside the path of this caisson and
 * the value of its --root, because these two programs execute caisson when they need a microVM.
 */
int cmd_set_runtime(const struct globals *g) must_check;

/*
 * Returns whether the container is a microVM with a foreign guest: an operating system that has no
 * agent of caisson.
 */
bool cmd_is_foreign(const struct container *c);
/* Returns whether `run` was told how ssh logs in to the foreign guest. */
bool cmd_has_ssh(const struct container *c);
/*
 * Implements `caisson exec` for a foreign guest: becomes ssh(1), which logs in to the guest.
 * Returns only after a failure.
 */
int cmd_exec_foreign(struct container *c, int argc, char **argv, bool tty) must_check;
int cmd_machine(const struct command *self, const struct globals *g, int argc, char **argv);
int cmd_console(const struct command *self, const struct globals *g, int argc, char **argv);

/*
 * Executes a helper program with the list of arguments `words`, whose first entry it replaces by
 * the program's path. `needs` names the libraries without which the program is not built, for the
 * error message if the program is missing.
 */
int cmd_execute(const char *program, const char *needs, char **words) must_check;

struct launch_options;
/* Sets those launch options that the global options of caisson decide. */
int cmd_prepare_launch(const struct globals *g, struct launch_options *o) must_check;

/* Sends a signal to the container's first process, or to all of its processes. */
int cmd_signal(struct container *c, int sig, bool all) must_check;

int cmd_manager(const struct globals *g, enum cg_manager *ret) must_check;

/*
 * Decides which descriptors of caisson's caller the program inherits: the descriptors that
 * LISTEN_FDS counts, and those of the next *preserve_fds descriptors that are open. If some of
 * these are not open, the function logs a warning, and *preserve_fds is reduced to end at the last
 * open one. Marks all other descriptors close-on-exec, because descriptors that the caller passed
 * to caisson by mistake must not get into the container.
 */
int cmd_preserve(int *preserve_fds) must_check;

/*
 * Prints the processes of a container in a microVM: a table like that of ps -ef, or in JSON an
 * array of pids.
 */
int cmd_ps_of_vm(struct container *c, bool json) must_check;
/* Implements `ps` for a foreign guest in which only qemu-guest-agent answers (qga_ps.c). */
int cmd_ps_by_qga(struct container *c, bool json) must_check;
