/* SPDX-License-Identifier: Apache-2.0 */
/* `ps` of a microVM. Its processes are the guest's, which the host's ps(1) cannot see. */
#include <inttypes.h>
#include <time.h>

#include "agent/agent.h"
#include "cmd/cmd.h"
#include "launch/vm_client.h"

static int print_json(const struct json *processes)
{
	_cleanup_json_out_ struct json_out o = {0};
	int64_t pid;

	int r = json_out_init(&o, false);
	if (r < 0)
		return r;
	json_out_array(&o, NULL);
	for (const struct json *p = processes->first; p; p = p->next)
		if (json_get_i64(p, "pid", &pid) >= 0)
			json_out_i64(&o, NULL, pid);
	json_out_end_array(&o);
	return cmd_print_json(&o);
}

/*
 * Formats the start time as ps -ef does: the time of day if the process started today, else the
 * date.
 */
static void start_text(uint64_t seconds, char *ret, size_t size)
{
	time_t now = time(NULL), t = (time_t)seconds;
	struct tm tm, today;

	localtime_r(&now, &today);
	localtime_r(&t, &tm);
	bool same = tm.tm_year == today.tm_year && tm.tm_yday == today.tm_yday;
	strftime(ret, size, same ? "%H:%M" : "%b%d", &tm);
}

static int add_line(const struct json *p, struct strbuf *out)
{
	int64_t pid = 0, ppid = 0, uid = 0;
	uint64_t start = 0, used = 0;
	const char *words = json_get_str(p, "command") ?: "", *name = json_get_str(p, "tty") ?: "?";
	char when[16], command[4096], tty[64];

	if (json_get_i64(p, "pid", &pid) < 0 || json_get_i64(p, "ppid", &ppid) < 0 ||
		json_get_i64(p, "uid", &uid) < 0 || json_get_u64(p, "stime", &start) < 0 ||
		json_get_u64(p, "time", &used) < 0)
		return err_set(EPROTO, "malformed list of processes from the guest");
	start_text(start, when, sizeof(when));
	str_clean(command, sizeof(command), words, strlen(words));
	str_clean(tty, sizeof(tty), name, strlen(name));
	return strbuf_addf(out,
		"%-8" PRId64 " %7" PRId64 " %7" PRId64 "  0 %5s %-8s %02" PRIu64 ":%02" PRIu64
		":%02" PRIu64 " %s\n",
		uid, pid, ppid, when, tty, used / 3600, used / 60 % 60, used % 60, command);
}

int cmd_ps_of_vm(struct container *c, bool json)
{
	_cleanup_agent_frame_ struct agent_frame reply = {0};
	_cleanup_strbuf_ struct strbuf out = {0};

	int r = vm_ask(c, "ps", &reply);
	if (r < 0)
		return r;
	const struct json *processes = json_get(reply.json, "processes");
	if (!processes || processes->type != JSON_ARRAY)
		return err_set(EPROTO, "malformed list of processes from the guest");
	if (json)
		return print_json(processes);
	r = strbuf_addf(&out, "%-8s %7s %7s  C %5s %-8s %8s CMD\n", "UID", "PID", "PPID", "STIME",
		"TTY", "TIME");
	for (const struct json *p = processes->first; p && r >= 0; p = p->next)
		r = add_line(p, &out);
	return r < 0 ? r : cmd_print(strbuf_str(&out), out.len);
}
