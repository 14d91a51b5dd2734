/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts the bridges of networks into firewalld's zone "trusted", as other engines do. A packet that
 * caisson's own table accepts still passes the chains of firewalld's table, and those refuse what
 * containers send to the outside, and what they ask the network's dnsmasq. caisson's table keeps
 * networks apart in every zone.
 *
 * The zone is set in firewalld's runtime and in its permanent configuration, because firewalld
 * drops its runtime configuration at `firewall-cmd --reload`, of which systemd does not tell
 * caisson-net.service. If firewalld was installed after the network was made, `caisson net reload`
 * sets the zone in both, and caisson-net.service runs this command after each start of firewalld.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "base/str.h"
#include "netsetup/host/host_internal.h"

#define PROGRAM "firewall-cmd"
#define OFFLINE "firewall-offline-cmd" /* changes the permanent configuration by itself */
#define ZONE_FILE_MAX (1 << 20)

/* Runs firewall-cmd. If firewall-cmd fails, returns -EIO with a message that has its last line. */
static int tell(const char *option, bool permanent)
{
	const char *const words[] = {
		PROGRAM, "--zone=trusted", option, permanent ? "--permanent" : NULL, NULL};
	char line[512];
	int r = program_run(words, line, sizeof(line));

	return r != 0 ? r
		      : err_set(EIO, PROGRAM " --zone=trusted %s%s: %s", option,
				permanent ? " --permanent" : "", line);
}

static bool is_running(void)
{
	return nft_has_table("inet firewalld");
}

/* Returns whether firewalld is installed, and this kind of network has a bridge with rules. */
static bool is_asked(const struct network *n)
{
	char path[PATH_MAX];

	return kind_has(n->kind, KIND_RULES) && program_find(PROGRAM, path);
}

/*
 * Returns whether the zone's file in the permanent configuration may name the bridge. Each `caisson
 * net rm` asks this first, because firewall-offline-cmd is in Python and takes a fifth of a second.
 */
static bool file_may_name(const char *file, const struct network *n)
{
	_cleanup_strbuf_ struct strbuf text = {0};

	int r = fd_read_file(AT_FDCWD, file, &text, ZONE_FILE_MAX);
	if (r < 0)
		err_clear();
	return r < 0 ? r != -ENOENT : strstr(strbuf_str(&text), n->interface) != NULL;
}

static bool is_permanent(const struct network *n)
{
	return file_may_name("/etc/firewalld/zones/trusted.xml", n) ||
	       file_may_name("/usr/lib/firewalld/zones/trusted.xml", n);
}

/*
 * Calls firewall-offline-cmd for the bridge's membership in the zone. Returns whether it succeeded.
 */
static bool tell_offline(const char *command, const struct network *n)
{
	char option[IFNAMSIZ + 32], line[512];
	const char *const words[] = {OFFLINE, "--zone=trusted", option, NULL};

	snprintf(option, sizeof(option), "--%s-interface=%s", command, n->interface);
	int r = program_run(words, line, sizeof(line));
	if (r < 0)
		err_clear();
	return r > 0;
}

int firewalld_add(struct host *h, const struct network *n)
{
	char option[IFNAMSIZ + 32];

	if (!is_asked(n) || !is_running() ||
		host_skips(h, "firewalld: put %s into the zone trusted", n->interface))
		return 0;
	snprintf(option, sizeof(option), "--add-interface=%s", n->interface);
	int r = tell(option, false);
	if (r >= 0)
		r = tell(option, true);
	/*
	 * If an administrator has put the bridge into another zone, the bridge stays in that zone.
	 */
	if (r == -EIO && strstr(err_msg(), "ZONE_CONFLICT")) {
		err_clear();
		return 0;
	}
	return r;
}

int firewalld_remove(struct host *h, const struct network *n)
{
	char option[IFNAMSIZ + 32];

	if (!is_asked(n))
		return 0;
	/* A firewalld that does not run would have the bridge in the zone again when it starts. */
	const bool runs = is_running();
	if ((!runs && (!is_permanent(n) || !tell_offline("query", n))) ||
		host_skips(h, "firewalld: take %s out of the zone trusted", n->interface))
		return 0;
	if (!runs) {
		tell_offline("remove", n);
		return 0;
	}
	snprintf(option, sizeof(option), "--remove-interface=%s", n->interface);
	/*
	 * Errors are ignored, because the bridge may be in no zone, if firewalld was installed
	 * after the network was made, or in the zone of an administrator.
	 */
	if (tell(option, false) < 0)
		err_clear();
	if (tell(option, true) < 0)
		err_clear();
	return 0;
}
