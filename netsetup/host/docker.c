/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lets packets of caisson's bridges pass docker's rules. If docker itself has switched on IP
 * forwarding, it sets the policy of the chain FORWARD (iptables) to "drop", and this policy drops
 * packets that caisson's own table accepts. docker leaves the chain DOCKER-USER to the rules of
 * other programs and keeps these rules. If docker was first started after the network was made, or
 * if somebody has flushed the chain, `caisson net reload` adds the rules again.
 */
#include <limits.h>

#include "netsetup/host/host_internal.h"

#define CHAIN "DOCKER-USER"

/* Runs iptables with a command for the rule that accepts the bridge's packets of one direction. */
static int change(
	const char *program, const char *command, const char *direction, const char *bridge)
{
	const char *const words[] = {
		program, "-w", command, CHAIN, direction, bridge, "-j", "ACCEPT", NULL};
	char line[512];
	int r = program_run(words, line, sizeof(line));

	return r != 0 ? r : err_set(EIO, "%s %s " CHAIN ": %s", program, command, line);
}

static bool has_chain(const char *program)
{
	const char *const words[] = {program, "-w", "-n", "-L", CHAIN, NULL};
	char path[PATH_MAX], line[512];

	if (!program_find(program, path))
		return false;
	int r = program_run(words, line, sizeof(line));
	if (r < 0)
		err_clear();
	return r > 0;
}

/* Calls change() for IPv4 and IPv6 and for both directions. */
static int change_all(struct host *h, const struct network *n, bool add)
{
	static const char *const programs[] = {"iptables", "ip6tables"}, *const directions[] = {
										 "-i", "-o"};
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(programs) * ARRAY_SIZE(directions); i++) {
		const char *program = programs[i / 2], *direction = directions[i % 2];

		if (!has_chain(program))
			continue;
		r = change(program, "-C", direction, n->interface);
		if (r < 0)
			err_clear();
		const bool there = r > 0;
		r = 0;
		if (there != add && !host_skips(h, "docker: %s %s %s in %s",
					    add ? "accept" : "no longer accept", direction,
					    n->interface, CHAIN))
			r = change(program, add ? "-I" : "-D", direction, n->interface);
	}
	return r < 0 ? r : 0;
}

int docker_add(struct host *h, const struct network *n)
{
	return kind_has(n->kind, KIND_RULES) ? change_all(h, n, true) : 0;
}

int docker_remove(struct host *h, const struct network *n)
{
	return kind_has(n->kind, KIND_RULES) ? change_all(h, n, false) : 0;
}
