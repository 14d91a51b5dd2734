/* SPDX-License-Identifier: Apache-2.0 */
/* Finds and runs programs of other projects: dnsmasq, firewall-cmd, iptables. */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/helper.h"
#include "netsetup/host/host_internal.h"

bool program_find(const char *name, char ret[PATH_MAX])
{
	static const char *const dirs[] = {
		"/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin", "/sbin"};

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		snprintf(ret, PATH_MAX, "%s/%s", dirs[i], name);
		if (access(ret, X_OK) == 0)
			return true;
	}
	return false;
}

int program_run(const char *const *argv, char *line, size_t size)
{
	_cleanup_helper_streams_ struct helper_streams s = HELPER_STREAMS_INIT;
	_cleanup_strbuf_ struct strbuf lines = {0};
	char program[PATH_MAX];
	int status;

	if (!program_find(argv[0], program))
		return err_set(ENOENT, "%s has gone", argv[0]);
	int r = helper_streams_open(&s, "", 0);
	if (r >= 0)
		r = helper_run(&s, program, argv, &status);
	if (r < 0 || status == 0)
		return r < 0 ? r : 1;
	r = helper_read(&s, 2, &lines, 65536);
	if (r < 0)
		return r;
	const char *last = helper_last_line(&lines);
	str_clean(line, size, last, strlen(last));
	return 0;
}
