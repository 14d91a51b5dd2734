/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "log.h"
#include "version.h"

static const struct command commands[] = {
	{"create", "[options] ID", "Create a container from a bundle; its process waits for start.",
		NULL, cmd_create},
	{"start", "ID", "Start the process of a created container.", NULL, cmd_start},
	{"run", "[options] ID", "Create and start a container, stay until it ends, and delete it.",
		"The exit code is the process's, or 128+N when signal N killed it.\n"
		"Signals are handed on; with process.terminal so is the terminal.",
		cmd_run},
	{"exec", "[options] ID COMMAND [ARG...]", "Run one more process in a running container.",
		"The exit code is the process's, or 128+N when signal N killed it.", cmd_exec},
	{"state", "ID", "Print a container's state in JSON.", NULL, cmd_state},
	{"list", "[options]", "List the containers.", NULL, cmd_list},
	{"ps", "[options] ID [PS-OPTION...]", "List a container's processes.", NULL, cmd_ps},
	{"kill", "[options] ID [SIGNAL]",
		"Send a signal (default: SIGTERM) to a container's process.", NULL, cmd_kill},
	{"pause", "ID", "Freeze all processes of a container.", NULL, cmd_pause},
	{"resume", "ID", "Thaw a paused container.", NULL, cmd_resume},
	{"update", "[options] ID", "Change a running container's limits.", NULL, cmd_update},
	{"events", "[options] ID", "Print statistics and out-of-memory events in JSON lines.", NULL,
		cmd_events},
	{"delete", "[options] ID", "Remove a stopped container and all that was made for it.", NULL,
		cmd_delete},
	{"spec", "[options]", "Write a config.json to start from.", NULL, cmd_spec},
	{"plan", "[options] [ID]", "Print the steps that create would take, and who takes them.",
		NULL, cmd_plan},
	{"features", "", "Print what this runtime supports, in JSON (OCI features.md).", NULL,
		cmd_features},
	{0},
};

static int print_version(void)
{
	return printf("caisson version %s\ncommit: %s\nspec: %s\n", CAISSON_VERSION, CAISSON_COMMIT,
		       SPEC_VERSION) < 0;
}

static int print_usage(const struct option_def *defs)
{
	_cleanup_strbuf_ struct strbuf options = {0};

	printf("Usage: caisson [global options] COMMAND [options] [ID] ...\n\n"
	       "An OCI runtime: runs a bundle (a directory with config.json and a root file "
	       "system)\n"
	       "as a container. A first try, as root:\n\n"
	       "  mkdir -p b/rootfs/bin && cp /bin/busybox b/rootfs/bin/sh && cd b\n"
	       "  caisson spec && caisson run hello\n\nCommands:\n");
	for (const struct command *c = commands; c->name; c++)
		printf("  %-10s %s\n", c->name, c->summary);
	printf("\nGlobal options:\n");
	if (options_help(defs, &options) < 0)
		return 1;
	printf("%s\n`caisson COMMAND --help` says more; caisson(1) says all.\n",
		strbuf_str(&options));
	return 0;
}

static const struct command *find(const char *name)
{
	for (const struct command *c = commands; c->name; c++)
		if (streq(c->name, name))
			return c;
	return NULL;
}

static int fail(const struct command *c)
{
	log_error(*err_msg() ? err_msg() : "failed");
	return c && c->run == cmd_exec ? CMD_EXIT_EXEC_FAILED : CMD_EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	struct globals g = {.log_format = "text", .argv = argv};
	bool help, version = false;
	const struct option_def defs[] = {
		{"root", 0, OPTION_STRING, &g.root, "DIR",
			"where the state is (default: /run/caisson)"},
		{"log", 0, OPTION_STRING, &g.log, "FILE", "append log lines to FILE too"},
		{"log-format", 0, OPTION_STRING, &g.log_format, "text|json",
			"form of the log (default: text)"},
		{"debug", 0, OPTION_FLAG, &g.debug, NULL, "log more"},
		{"systemd-cgroup", 0, OPTION_FLAG, &g.systemd_cgroup, NULL,
			"make cgroups through systemd"},
		{"cgroup-manager", 0, OPTION_STRING, &g.cgroup_manager, "NAME",
			"cgroupfs (default), systemd or disabled"},
		{"rootless", 0, OPTION_STRING, &g.rootless, "BOOL",
			"true: do without cgroups if they cannot be made"},
		{"version", 'v', OPTION_FLAG, &version, NULL, "print the version"},
		{0},
	};

	/* Ignored by our caller, it would take exit statuses from us: of hooks, and of the container. */
	signal(SIGCHLD, SIG_DFL);
	/* Global options end at the command's name: behind it the same names may mean other things. */
	char **words = argv + 1;
	char **copy = calloc((size_t)argc + 1, sizeof(*copy));
	if (!copy)
		return CMD_EXIT_FAILURE;
	memcpy(copy, words, (size_t)argc * sizeof(*copy));
	int n = options_parse(defs, argc - 1, copy, true, &help);
	int r = n < 0 ? n : log_open(g.log, g.log_format, g.debug);
	if (r < 0)
		return fail(NULL);
	if (version)
		return print_version();
	if (help || n == 0 || streq(copy[0], "help"))
		return print_usage(defs);
	copy[n] = NULL;
	const struct command *c = find(copy[0]);
	if (!c) {
		err_set(EINVAL, "unknown command \"%s\": `caisson --help` lists them", copy[0]);
		return fail(NULL);
	}
	r = c->run(c, &g, n - 1, copy + 1);
	return r < 0 ? fail(c) : r;
}
