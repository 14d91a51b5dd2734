/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "version.h"

static const struct command commands[] = {
	{"create", "[options] ID", "Make a container from a bundle; its program waits for start.",
		"Makes the namespaces, the cgroup and the mounts, and runs the createRuntime\n"
		"and createContainer hooks. Only the program itself is left to `caisson start\n"
		"ID`. With process.terminal, --console-socket gets the terminal. `caisson\n"
		"plan` shows the steps beforehand.",
		cmd_create},
	{"start", "ID", "Start the program of a created container.",
		"The startContainer hooks run before the program, the poststart hooks after it.",
		cmd_start},
	{"run", "[options] ID", "Create and start a container, stay until it ends, delete it.",
		"The exit code is the program's, or 128+N if signal N killed it. Signals are\n"
		"passed on to the program, and with process.terminal so is the terminal.\n"
		"With --image the container is made from an image of `caisson image`, and the\n"
		"options are those of docker: see `caisson run --image x --help`. With --disk\n"
		"and --isolation vm the operating system on a disk image is booted: see\n"
		"`caisson run --disk x --help`.",
		cmd_run},
	{"exec", "[options] ID COMMAND [ARG...]", "Run one more command in a running container.",
		"Options go before the ID. The command gets the user, environment,\n"
		"capabilities and working directory of the process in config.json, as changed\n"
		"by the options. --process FILE replaces all of these and the COMMAND. The\n"
		"exit code is the command's, 128+N if signal N killed it, or 255 if it could\n"
		"not be run. In a machine of `run --disk` caisson's agent runs the command, else\n"
		"qemu-guest-agent, else ssh: see caisson-machine(7).",
		cmd_exec},
	{"state", "ID", "Print a container's state in JSON.",
		"status is creating, created, running, paused or stopped. pid is 0 once the\n"
		"container is stopped.",
		cmd_state},
	{"list", "[options]", "List the containers.",
		"Lists the containers of one state directory: see the global option --root.",
		cmd_list},
	{"ps", "[options] ID [PS-OPTION...]", "List a container's processes.",
		"The pids are the host's. With PS-OPTIONs the host's ps(1) prints the table.\n"
		"Without an ID it lists the containers, as `caisson list` does.",
		cmd_ps},
	{"kill", "[options] ID [SIGNAL]", "Send a signal (default: TERM) to a container.",
		"The signal goes to the container's first process, or to all with --all.\n"
		"SIGNAL is a name (TERM, SIGTERM, RTMIN+3) or a number.",
		cmd_kill},
	{"stop", "[options] ID...", "End a container: its stop signal first, then SIGKILL.",
		"The stop signal is the image's, that of `run --image --stop-signal`, or TERM.\n"
		"A container that has ended already is no error.",
		cmd_stop},
	{"logs", "[options] ID", "Print the output of a container that runs in the background.",
		"Containers of `run --image --detach` have a log, which goes with them.", cmd_logs},
	{"rm", "[options] ID...", "The same as delete, for several containers.", NULL, cmd_rm},
	{"pause", "ID", "Freeze all processes of a container.",
		"Its cgroup is frozen; `caisson resume ID` thaws it.", cmd_pause},
	{"resume", "ID", "Thaw a paused container.", NULL, cmd_resume},
	{"checkpoint", "[options] ID", "Save a running container, and end it.",
		"A container in namespaces is saved by criu, a microVM on KVM by caisson. The\n"
		"memory, which may hold secrets, goes to the directory of --image-path, readable\n"
		"for its owner only. `caisson restore` makes the container go on.",
		cmd_checkpoint},
	{"restore", "[options] ID", "Let a saved container go on, and stay until it ends.",
		"The bundle, its files, disks and networks must be as they were when\n"
		"`caisson checkpoint` saved the container.",
		cmd_restore},
	{"update", "[options] ID", "Change the limits of a container.",
		"Only limits that are given change. If this host does not offer the cgroup v2\n"
		"controller of a limit, the error says who holds the controller.",
		cmd_update},
	{"events", "[options] ID", "Print statistics, and each OOM kill, in JSON lines.",
		"Runs until the container ends. Each line is an object with \"type\" (\"stats\"\n"
		"or \"oom\"), \"id\" and \"data\".",
		cmd_events},
	{"delete", "[options] ID", "Remove a stopped container and all that was made for it.",
		"The bundle stays as it is. The poststop hooks run at the end.", cmd_delete},
	{"console", "[options] ID",
		"Show the serial console of a machine that `run --disk` started.",
		"What is typed goes to the machine. Ctrl-] leaves. The last 256 KiB of its output\n"
		"are shown first. Several people can have it open at the same time.",
		cmd_console},
	{"spec", "[options]", "Write a config.json to start from.",
		"It runs `sh` on a terminal, in namespaces of its own, as root without most\n"
		"capabilities. Its root is the directory rootfs beside it, read-only. An\n"
		"existing config.json is not overwritten.",
		cmd_spec},
	{"plan", "[options] [ID]", "Print the steps that create would take, and who takes them.",
		"Does nothing, and needs no privilege. host: this program. init: the\n"
		"container's first process. They meet at the lines marked ---. The field of\n"
		"config.json that asks for a step is in brackets.",
		cmd_plan},
	{"features", "", "Print what this runtime supports, in JSON (OCI features.md).", NULL,
		cmd_features},
	{"image", "[options] COMMAND ...", "Keep images, and make bundles of them.", NULL,
		cmd_image},
	{"net", "[options] COMMAND ...", "Make networks, and attach containers to them.", NULL,
		cmd_net},
	{"volume", "COMMAND [options] ...", "Keep directories that containers mount by name.",
		"A volume stays when the containers that mount it are removed. `caisson run "
		"--image\n"
		"... -v NAME:PATH` makes it if there is none, and fills it with what the image "
		"has\n"
		"at PATH.\n\n"
		"  caisson run --image postgres -d --name db -v db:/var/lib/postgresql/data\n"
		"  caisson volume ls",
		cmd_volume},
	{"machine", "COMMAND [options] DISK", "Prepare the disk of a machine for `run --disk`.",
		"A machine is an operating system of its own, which `caisson run --disk` boots.",
		cmd_machine},
	{"doctor", "[options]", "Say which isolation modes this host can run, and why not.",
		"Prints a line for each check: ok, no, or warning (it runs, with a limit),\n"
		"with what was found and what to do. Changes nothing. The exit code is 0 if\n"
		"containers in namespaces run, else 1.",
		cmd_doctor},
	{"disk", "COMMAND [options] FILE ...", "Make, look at, convert and repair disk images.",
		"See caisson-disk(1).", cmd_disk},
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
	       "as a container. A first try, as root, with a static busybox:\n\n"
	       "  mkdir -p b/rootfs/bin && cd b\n"
	       "  cp /bin/busybox rootfs/bin/ && rootfs/bin/busybox --install rootfs/bin\n"
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

static const struct command *find_command(const char *name)
{
	for (const struct command *c = commands; c->name; c++)
		if (streq(c->name, name))
			return c;
	return NULL;
}

/*
 * If one of the three standard descriptors is closed, the next file that this program opens would
 * take its number, and the container would inherit that file as a standard stream.
 */
static int open_standard_descriptors(void)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
			return err_sys("open /dev/null for the closed descriptor %d", fd);
	return 0;
}

/*
 * Opens the log that the global options name. --debug sets the highest level, even if --log-level
 * names a lower one.
 */
static int open_log(const struct globals *g)
{
	static const struct {
		const char *name;
		enum log_level level;
	} levels[] = {{"error", LOG_ERROR}, {"warning", LOG_WARN}, {"debug", LOG_DEBUG}};

	for (size_t i = 0; i < ARRAY_SIZE(levels); i++)
		if (streq(g->log_level, levels[i].name))
			return log_open(
				g->log, g->log_format, g->debug ? LOG_DEBUG : levels[i].level);
	return err_set(
		EINVAL, "--log-level \"%s\": expected error, warning or debug", g->log_level);
}

/*
 * Implements `caisson help`, which prints what --help prints, and `caisson help COMMAND`, which
 * prints the help of that command.
 */
static int print_help(const struct option_def *defs, const struct globals *g, const char *name)
{
	char *help[] = {"--help", NULL};
	const struct command *c = name ? find_command(name) : NULL;

	if (name && !c)
		return err_set(
			EINVAL, "help: unknown command \"%s\": `caisson --help` lists them", name);
	return c ? c->run(c, g, 1, help) : print_usage(defs);
}

static int report_failure(const struct command *c, int r)
{
	int code = program_fail(r);

	return c && c->run == cmd_exec ? CMD_EXIT_EXEC_FAILED : code;
}

static int run_command(const struct option_def *defs, const struct globals *g, int n, char **words)
{
	const struct command *c = find_command(words[0]);
	int r;

	if (c)
		r = c->run(c, g, n - 1, words + 1);
	else if (streq(words[0], "help") || streq(words[0], "h"))
		r = print_help(defs, g, words[1]);
	else
		r = err_set(
			EINVAL, "unknown command \"%s\": `caisson --help` lists them", words[0]);
	return r < 0 ? report_failure(c, r) : r;
}

int main(int argc, char **argv)
{
	const char *slash = argc ? strrchr(argv[0], '/') : NULL;
	struct globals g = {.log_format = "text",
		.log_level = "warning",
		.vm = argc && streq(slash ? slash + 1 : argv[0], "caisson-vm")};
	bool help, version = false;
	const struct option_def defs[] = {
		{"root", 0, OPTION_STRING, &g.root, "DIR",
			"directory of the containers' state (default: /run/caisson)"},
		{"log", 0, OPTION_STRING, &g.log, "FILE",
			"append the log to FILE; errors go to standard error too"},
		{"log-format", 0, OPTION_STRING, &g.log_format, "text|json",
			"form of the log; json is one object a line (default: text)"},
		{"log-level", 0, OPTION_STRING, &g.log_level, "error|warning|debug",
			"how much to log (default: warning)"},
		{"debug", 0, OPTION_FLAG, &g.debug, NULL,
			"log each step that the runtime takes: --log-level debug"},
		{"systemd-cgroup", 0, OPTION_FLAG, &g.systemd_cgroup, NULL,
			"the same as --cgroup-manager systemd"},
		{"cgroup-manager", 0, OPTION_STRING, &g.cgroup_manager, "MANAGER",
			"who makes cgroups: cgroupfs (default), systemd, disabled"},
		{"rootless", 0, OPTION_STRING, &g.rootless, "true|false|auto",
			"true: do without a cgroup if none can be made"},
		{"version", 'v', OPTION_FLAG, &version, NULL,
			"print version, commit and OCI specification version"},
		{"V", 0, OPTION_FLAG, &version, NULL, NULL},
		{"criu", 0, OPTION_IGNORED, NULL, "PATH", NULL},
		{0},
	};

	/*
	 * If caisson's caller ignores SIGCHLD, caisson inherits that, and the kernel would discard
	 * the exit statuses of its children: of hooks, and of the container.
	 */
	signal(SIGCHLD, SIG_DFL);
	fd_survive_size_limit();
	/*
	 * The options in front of the command's name are global. Options behind the command's name
	 * belong to the command, where the same names may have other meanings.
	 */
	char **words = argv + 1;
	char **copy = calloc((size_t)argc + 1, sizeof(*copy));
	if (!copy)
		return CMD_EXIT_FAILURE;
	memcpy(copy, words, (size_t)argc * sizeof(*copy));
	int r = open_standard_descriptors();
	int n = r < 0 ? r : options_parse(defs, argc - 1, copy, true, &help);
	r = n < 0 ? n : open_log(&g);
	if (r < 0)
		return report_failure(NULL, r);
	if (version)
		return print_version();
	if (help || n == 0)
		return print_usage(defs);
	copy[n] = NULL;
	return run_command(defs, &g, n, copy);
}
