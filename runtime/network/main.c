/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holds the table of the subcommands of `caisson net`, and the functions that the subcommands
 * share.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/log.h"
#include "network/tool.h"

static const struct tool_command commands[] = {
	{"create", "[options] NAME",
		"Make a network: a bridge with a pool of addresses, or another kind.",
		"Without --subnet the network gets a free IPv4 subnet of 256 addresses, and a\n"
		"random private IPv6 subnet. Containers of different networks do not reach each\n"
		"other. What is there after a reboot is the network's file; the first attach\n"
		"makes the bridge again.\n\n"
		"  caisson net create web\n"
		"  caisson net create --subnet 10.1.0.0/16 --subnet fd00:1::/64 --mtu 1400 lab\n\n"
		"Other kinds use interfaces of the host, and can be built on each other:\n\n"
		"  NAME  KIND                  OPTIONS\n"
		"  bond0 bond of two ports     --kind bond --member eth1 --member eth2\n"
		"  v5    VLAN on that bond     --kind vlan --parent bond0 --vlan 5\n"
		"  lan   bridge on that VLAN   --member bond0.5 --subnet 192.168.5.0/24",
		tool_create},
	{"ls", "[options]", "List the networks.", NULL, tool_ls},
	{"inspect", "[options] NETWORK", "Print a network and who is attached to it, in JSON.",
		NULL, tool_inspect},
	{"rm", "[options] NETWORK...", "Remove networks, and all that was made for them.",
		"A network with containers is only removed with --force, which detaches them.",
		tool_rm},
	{"attach", "[options] NETWORK CONTAINER|PATH",
		"Give a running container, or any network namespace, an interface.",
		"CONTAINER is the ID of a container of caisson, PATH that of a namespace. PORTS\n"
		"is [HOST:]PORT:PORT[/tcp|udp|sctp], with a port of the host, or a range of\n"
		"them, in front. The ports answer on all addresses of the host, 127.0.0.1\n"
		"included but ::1 not, or on HOST only.\n\n"
		"  caisson net attach web first -p 8080:80\n"
		"  caisson net attach web /run/netns/box -p 127.0.0.1:5000-5009:5000-5009/udp",
		tool_attach},
	{"detach", "[options] [NETWORK] CONTAINER|PATH",
		"Undo attach, also if the container has gone already.",
		"Succeeds if there is nothing to undo.\n\n"
		"  caisson net detach web first\n"
		"  caisson net detach --all first",
		tool_detach},
	{"reload", "[options]", "Make what is missing of all networks, and write all rules again.",
		"For the time after a reboot, or after another program has removed nftables\n"
		"rules that it does not know. Detaches containers that have gone.",
		tool_reload},
	{"join", "[options] ID PATH", NULL, NULL, tool_join},
	{"leave", "[options] ID", NULL, NULL, tool_leave},
	{0},
};

static int print_usage(const struct option_def *defs)
{
	_cleanup_strbuf_ struct strbuf options = {0};

	if (options_help(defs, &options) < 0)
		return 1;
	printf("Usage: caisson net [options] COMMAND ...\n\n"
	       "Networks on this host, for containers. A first try:\n\n"
	       "  caisson net create web\n"
	       "  caisson net attach web first -p 8080:80\n"
	       "  caisson net rm --force web\n\nCommands:\n");
	for (const struct tool_command *c = commands; c->name; c++)
		if (c->summary)
			printf("  %-10s %s\n", c->name, c->summary);
	printf("\nOptions:\n%s\n`caisson net COMMAND --help` says more; caisson-net(8) says "
	       "all.\n",
		strbuf_str(&options));
	return 0;
}

static int print_help(const struct tool_command *self, const struct option_def *defs)
{
	const struct command_help h = {"caisson net", self->name, self->usage,
		self->summary ? self->summary : "caisson executes this command.", self->text,
		"Options of all commands go before the command: see caisson net --help."};
	_cleanup_strbuf_ struct strbuf out = {0};

	int r = options_help_command(&h, defs, &out);
	return r < 0 ? r : program_print(strbuf_str(&out), out.len);
}

int tool_parse(const struct tool_command *self, const struct option_def *defs, int argc,
	char **argv, struct tool_arguments *args)
{
	bool help;
	int n = options_parse(defs, argc, argv, false, &help);

	if (n < 0)
		return n;
	if (help) {
		int r = print_help(self, defs);
		return r < 0 ? r : 1;
	}
	if (n < args->min || (args->max >= 0 && n > args->max))
		return err_set(EINVAL, "usage: caisson net %s %s", self->name, self->usage);
	args->n = n;
	args->v = argv;
	return 0;
}

int tool_finish(struct host *h, bool json)
{
	_cleanup_json_out_ struct json_out o = {0};
	char *line = h->changes.s;
	int r;

	if (!h->dry_run)
		return 0;
	if (!json)
		return program_print(strbuf_str(&h->changes), h->changes.len);
	r = json_out_init(&o, true);
	if (r < 0)
		return r;
	json_out_object(&o, NULL);
	json_out_array(&o, "changes");
	while (line && *line) {
		char *end = line + strcspn(line, "\n");
		bool last = !*end;

		*end = '\0';
		json_out_str(&o, NULL, line);
		line = last ? end : end + 1;
	}
	json_out_end_array(&o);
	json_out_end_object(&o);
	return program_print_json(&o);
}

static int run(const struct option_def *defs, const struct tool_globals *g, int n, char **words)
{
	for (const struct tool_command *c = commands; c->name; c++)
		if (streq(c->name, words[0])) {
			int r = c->run(c, g, n - 1, words + 1);
			return r < 0 ? program_fail(r) : r;
		}
	if (streq(words[0], "help"))
		return print_usage(defs);
	return program_fail(err_set(EINVAL,
		"unknown command \"net %.100s\": `caisson net --help` lists them", words[0]));
}

int main(int argc, char **argv)
{
	struct tool_globals g = {.root = "/run/caisson"};
	bool help;
	const struct option_def defs[] = {
		{"config", 0, OPTION_STRING, &g.host.config, "DIR",
			"directory of the networks' files (default: " HOST_CONFIG ")"},
		{"state", 0, OPTION_STRING, &g.host.state, "DIR",
			"directory of what is attached (default: " HOST_STATE ")"},
		{"root", 0, OPTION_STRING, &g.root, "DIR",
			"directory of the containers' state (default: /run/caisson)"},
		{0},
	};

	umask(022);
	fd_survive_size_limit();
	int n = options_parse(defs, argc - 1, argv + 1, true, &help);
	if (n < 0)
		return program_fail(n);
	if (help || n == 0)
		return print_usage(defs);
	argv[1 + n] = NULL;
	return run(defs, &g, n, argv + 1);
}
