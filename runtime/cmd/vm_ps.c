/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements `ps` for a microVM: asks the guest for its processes, because the host's ps(1) cannot
 * see them.
 */
#include <inttypes.h>
#include <stdio.h>

#include "agent/agent.h"
#include "cmd/cmd.h"
#include "cmd/ps_table.h"
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
	return program_print_json(&o);
}

static int add_line(const struct json *p, struct strbuf *out)
{
	int64_t pid = 0, ppid = 0, uid = 0;
	uint64_t start = 0, used = 0;
	const char *words = json_get_str(p, "command") ?: "", *name = json_get_str(p, "tty") ?: "?";
	char command[4096], tty[64];

	if (json_get_i64(p, "pid", &pid) < 0 || json_get_i64(p, "ppid", &ppid) < 0 ||
		json_get_i64(p, "uid", &uid) < 0 || json_get_u64(p, "stime", &start) < 0 ||
		json_get_u64(p, "time", &used) < 0)
		return err_set(EPROTO, "malformed list of processes from the guest");
	char user[16];
	str_clean(command, sizeof(command), words, strlen(words));
	str_clean(tty, sizeof(tty), name, strlen(name));
	snprintf(user, sizeof(user), "%" PRId64, uid);
	const struct ps_row row = {.user = user,
		.pid = (pid_t)pid,
		.ppid = (pid_t)ppid,
		.start = (time_t)start,
		.tty = tty,
		.seconds = used,
		.command = command};
	return ps_table_add(out, &row);
}

int cmd_ps_of_vm(struct container *c, bool json)
{
	_cleanup_agent_frame_ struct agent_frame reply = {0};
	_cleanup_strbuf_ struct strbuf out = {0};
	enum vm_agent agent = VM_AGENT_CAISSON;

	int r = cmd_is_foreign(c) ? vm_find_agent(c, VM_ASK_TIMEOUT_MS, &agent) : 0;
	if (r >= 0 && agent == VM_AGENT_QEMU)
		return cmd_ps_by_qga(c, json);
	if (r >= 0)
		r = vm_ask(c, "ps", &reply);
	if (r < 0)
		return r;
	const struct json *processes = json_get(reply.json, "processes");
	if (!processes || processes->type != JSON_ARRAY)
		return err_set(EPROTO, "malformed list of processes from the guest");
	if (json)
		return print_json(processes);
	r = ps_table_head(&out);
	for (const struct json *p = processes->first; p && r >= 0; p = p->next)
		r = add_line(p, &out);
	return r < 0 ? r : program_print(strbuf_str(&out), out.len);
}
