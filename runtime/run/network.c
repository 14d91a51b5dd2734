/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks --network and -p, and decides which values of --network config.json expresses and for
 * which caisson-net is needed.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/libexec.h"
#include "run/run.h"

#define NETWORK_PROGRAM "caisson-net"

/* Returns whether config.json can express this value of --network. */
static bool is_plain(const char *network)
{
	return streq(network, "none") || streq(network, "host") || str_starts(network, "ns:");
}

static int check_plain(const struct run_options *o, const char *network)
{
	if (o->network.n > 1)
		return err_set(EINVAL, "--network %.200s: expected no other --network", network);
	if (o->publish.n)
		return err_set(EINVAL, "-p %.100s: with --network %.200s no port can be published",
			o->publish.v[0], network);
	if (o->dns.n || o->add_host.n)
		return err_set(EINVAL,
			"%s %.200s: only a container that joins a network gets these files: give "
			"another --network, or mount %s",
			o->dns.n ? "--dns" : "--add-host",
			o->dns.n ? o->dns.v[0] : o->add_host.v[0],
			o->dns.n ? "/etc/resolv.conf" : "/etc/hosts");
	if (str_starts(network, "ns:") && network[3] != '/')
		return err_set(EINVAL, "--network %.200s: expected an absolute path", network);
	return 0;
}

static bool has_program(const char *name)
{
	const char *dirs = getenv("PATH");
	char path[PATH_MAX];

	for (const char *p = dirs; p && *p; p += strspn(p, ":")) {
		size_t len = strcspn(p, ":");

		snprintf(path, sizeof(path), "%.*s/%s", (int)len, p, name);
		if (access(path, X_OK) == 0)
			return true;
		p += len;
	}
	return false;
}

/*
 * Returns whether this host has what the default network of a container needs: caisson-net, and for
 * an ordinary user also /dev/net/tun and pasta or slirp4netns.
 */
static bool has_usual_network(struct arena *a, bool root)
{
	const char *path;

	if (libexec_program(a, NETWORK_PROGRAM, &path) < 0 || access(path, X_OK) < 0) {
		err_clear();
		return false;
	}
	return root || (access("/dev/net/tun", R_OK | W_OK) == 0 &&
			       (has_program("pasta") || has_program("slirp4netns")));
}

int run_choose_network(struct arena *a, struct run_options *o)
{
	bool root = geteuid() == 0;

	for (size_t i = 0; i < o->network.n; i++)
		if (is_plain(o->network.v[i]))
			return check_plain(o, o->network.v[i]);
	if (!o->network.n)
		o->network.v[o->network.n++] = !o->publish.n && !has_usual_network(a, root) ? "none"
					       : root ? RUN_NETWORK
						      : RUN_NETWORK_USER;
	return 0;
}

bool run_joins(const struct run_options *o)
{
	return !is_plain(o->network.v[0]);
}

bool run_network_is(const struct run_options *o, const char *name)
{
	return streq(o->network.v[0], name);
}

const char *run_network_path(const struct run_options *o)
{
	return str_starts(o->network.v[0], "ns:") ? o->network.v[0] + 3 : NULL;
}
