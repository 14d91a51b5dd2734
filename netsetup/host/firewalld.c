/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts the bridges of networks into firewalld's zone "trusted", as other engines do. A packet that
 * caisson's own table accepts still passes the chains of firewalld's table, and those refuse what
 * containers send to the outside, and what they ask the network's dnsmasq. caisson's table keeps
 * networks apart in every zone.
 *
 * The zone is set in firewalld's runtime and in its permanent configuration, because firewalld
 * forgets the former at `firewall-cmd --reload`, which no unit of systemd notices. A firewalld that
 * was installed after the network was made gets both by `caisson net reload`, which
 * caisson-net.service runs after each start of firewalld.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/helper.h"
#include "netsetup/host/host_internal.h"

#define PROGRAM "firewall-cmd"

static const char *find_program(void)
{
	static const char *const paths[] = {"/usr/bin/" PROGRAM, "/usr/sbin/" PROGRAM};

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		if (access(paths[i], X_OK) == 0)
			return paths[i];
	return NULL;
}

/*
 * Runs firewall-cmd. Returns 0 if it has done its work, or -EIO with the last line that it has
 * written.
 */
static int tell(const char *program, const char *option, bool permanent)
{
	const char *const words[] = {
		PROGRAM, "--zone=trusted", option, permanent ? "--permanent" : NULL, NULL};
	_cleanup_helper_streams_ struct helper_streams s = HELPER_STREAMS_INIT;
	_cleanup_strbuf_ struct strbuf lines = {0};
	char line[512];
	int status;

	int r = helper_streams_open(&s, "", 0);
	if (r >= 0)
		r = helper_run(&s, program, words, &status);
	if (r < 0 || status == 0)
		return r;
	r = helper_read(&s, 2, &lines, 65536);
	if (r < 0)
		return r;
	const char *last = helper_last_line(&lines);
	str_clean(line, sizeof(line), last, strlen(last));
	return err_set(EIO, PROGRAM " --zone=trusted %s%s: %s", option,
		permanent ? " --permanent" : "", line);
}

int firewalld_add(struct host *h, const struct network *n)
{
	const char *program = find_program();
	char option[IFNAMSIZ + 32];

	if (!kind_has(n->kind, KIND_RULES) || !program || !nft_has_table("inet firewalld") ||
		host_skips(h, "firewalld: put %s into the zone trusted", n->interface))
		return 0;
	snprintf(option, sizeof(option), "--add-interface=%s", n->interface);
	int r = tell(program, option, false);
	if (r >= 0)
		r = tell(program, option, true);
	/*
	 * If an administrator has put the bridge into another zone, it stays there.
	 */
	if (r == -EIO && strstr(err_msg(), "ZONE_CONFLICT")) {
		err_clear();
		return 0;
	}
	return r;
}

int firewalld_remove(struct host *h, const struct network *n)
{
	const char *program = find_program();
	char option[IFNAMSIZ + 32];

	if (!kind_has(n->kind, KIND_RULES) || !program || !nft_has_table("inet firewalld") ||
		host_skips(h, "firewalld: take %s out of the zone trusted", n->interface))
		return 0;
	snprintf(option, sizeof(option), "--remove-interface=%s", n->interface);
	/* The bridge may be in no zone, because firewalld is newer, or in an administrator's. */
	if (tell(program, option, false) < 0)
		err_clear();
	if (tell(program, option, true) < 0)
		err_clear();
	return 0;
}
