/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handles the messages of the monitor that a command for a running container causes: signal,
 * freeze, ps, stats and update.
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fd.h"
#include "guest/guest.h"
#include "plan/vm.h"

/* how many bytes of a process's arguments the reply to "ps" contains at most */
#define PS_COMMAND_MAX 1024
/* longest reply to "ps" in bytes; smaller than AGENT_JSON_MAX, which limits the whole frame */
#define PS_REPLY_MAX (900u << 10)
#define TTY_MAX 32
#define PS_MS 5000
/*
 * how long a job that freezes the container's cgroup may take, in ms; cg_freeze() gives up earlier
 */
#define FREEZE_MS 15000

/*
 * Begins a message "reply" with the id of the request f. Returns false if the request has no id or
 * if memory runs out.
 */
static bool begin_reply(struct guest *g, const struct agent_frame *f, struct agent_writer *w)
{
	uint64_t id;

	if (json_get_u64(f->json, "id", &id) < 0) {
		guest_log(g, "%s: expected an id", f->type);
		return false;
	}
	if (agent_begin(w, "reply") < 0)
		return false;
	json_out_u64(&w->json, "id", id);
	return true;
}

static void end_reply(struct guest *g, struct agent_writer *w, int r)
{
	json_out_i64(&w->json, "errno", r < 0 ? -r : 0);
	json_out_str(&w->json, "message", r < 0 ? err_msg() : "");
	guest_send(g, w);
}

static int check_cgroup(const struct guest *g)
{
	return g->cgroup.path ? 0 : err_set(ESRCH, "container not running");
}

void guest_signal(struct guest *g, const struct agent_frame *f)
{
	uint32_t number;
	uint64_t sig;

	if (agent_process(f, &number) < 0 || json_get_u64(f->json, "signal", &sig) < 0 || sig > 64)
		return guest_log(g, "signal: expected process, and signal up to 64");
	struct process *p = process_find(g, number);
	if (number == 0 && json_get_true(f->json, "all") && g->cgroup.path) {
		if (cg_kill(&g->cgroup, (int)sig) < 0)
			guest_log(g, "signal all: %s", err_msg());
		return;
	}
	if (p)
		process_signal(p, (int)sig);
}

static int freeze_container(struct guest *g, const struct agent_frame *f, struct json_out *reply)
{
	int r = check_cgroup(g);

	return r < 0 ? r : cg_freeze(&g->cgroup, json_get_true(f->json, "frozen"));
}

void guest_freeze(struct guest *g, const struct agent_frame *f)
{
	guest_change(g, f, FREEZE_MS, freeze_container);
}

/* --- the message "ps" --- */

struct stat_line {
	char name[64];
	int ppid, tty;
	unsigned long long utime, stime, start;
};

/*
 * Reads /proc/PID/stat (proc(5)). The process's name in this file stands in parentheses, and may
 * contain any character, even parentheses.
 */
static int read_stat(pid_t pid, struct stat_line *ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	int r = fd_read_file(AT_FDCWD, path, &text, 8192);
	if (r < 0)
		return r;
	const char *open = strchr(strbuf_str(&text), '('), *close = strrchr(strbuf_str(&text), ')');
	if (!open || !close || close < open)
		return -EINVAL;
	snprintf(ret->name, sizeof(ret->name), "%.*s", (int)(close - open - 1), open + 1);
	int n = sscanf(close + 1,
		" %*c %d %*d %*d %d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d %llu",
		&ret->ppid, &ret->tty, &ret->utime, &ret->stime, &ret->start);
	return n == 5 ? 0 : -EINVAL;
}

static int64_t read_uid(pid_t pid)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	char path[64];
	unsigned real, effective;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	if (fd_read_file(AT_FDCWD, path, &text, 65536) < 0)
		return -1;
	const char *at = strstr(strbuf_str(&text), "\nUid:");
	return at && sscanf(at, "\nUid: %u %u", &real, &effective) == 2 ? (int64_t)effective : -1;
}

/*
 * Reads the arguments of the process and puts blanks between them. If the process has no arguments,
 * the result is the process's name in brackets.
 */
static void read_command(pid_t pid, const struct stat_line *st, char ret[static PS_COMMAND_MAX])
{
	char path[64];
	ssize_t n = 0;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		n = read(fd, ret, PS_COMMAND_MAX - 1);
	while (n > 0 && ret[n - 1] == '\0')
		n--;
	if (n <= 0) {
		snprintf(ret, PS_COMMAND_MAX, "[%s]", st->name);
		return;
	}
	/*
	 * Control characters in the arguments are replaced by blanks, also the NUL that ends each
	 * argument. The host removes other unsafe characters.
	 */
	for (ssize_t i = 0; i < n; i++)
		if ((unsigned char)ret[i] < ' ')
			ret[i] = ' ';
	ret[n] = '\0';
}

/* Returns the time at which the guest's kernel started, in seconds since 1970. */
static uint64_t boot_time(void)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	unsigned long long t;

	if (fd_read_file(AT_FDCWD, "/proc/stat", &text, 1 << 20) < 0)
		return 0;
	const char *at = strstr(strbuf_str(&text), "\nbtime ");
	return at && sscanf(at, "\nbtime %llu", &t) == 1 ? t : 0;
}

static void write_process(struct json_out *o, pid_t pid, uint64_t boot)
{
	struct stat_line st;
	char command[PS_COMMAND_MAX], tty[TTY_MAX] = "?";
	uint64_t hz = (uint64_t)sysconf(_SC_CLK_TCK);
	int64_t uid = read_uid(pid);

	/* A process that has ended since the list of pids was read is left out of the reply. */
	if (uid < 0 || read_stat(pid, &st) < 0)
		return;
	read_command(pid, &st, command);
	/*
	 * Major device numbers from 136 to 143 are those of Unix98 terminals
	 * (Documentation/admin-guide/devices.txt).
	 */
	if (major((unsigned)st.tty) >= 136 && major((unsigned)st.tty) < 144)
		snprintf(tty, sizeof(tty), "pts/%u", minor((unsigned)st.tty));
	json_out_object(o, NULL);
	json_out_i64(o, "pid", pid);
	json_out_i64(o, "ppid", st.ppid);
	json_out_i64(o, "uid", uid);
	json_out_u64(o, "stime", boot + st.start / hz);
	json_out_u64(o, "time", (st.utime + st.stime) / hz);
	json_out_str(o, "tty", tty);
	json_out_str(o, "command", command);
	json_out_end_object(o);
}

static int write_processes(struct guest *g, const struct agent_frame *f, struct json_out *o)
{
	_cleanup_arena_ struct arena a = {0};
	uint64_t boot = boot_time();
	const char *text;
	pid_t *pids;
	size_t n, len = 0;

	int r = g->config->service ? service_pids(&a, &pids, &n) : check_cgroup(g);
	if (r >= 0 && !g->config->service)
		r = cg_pids(&a, &g->cgroup, &pids, &n);
	if (r < 0)
		return r;
	json_out_array(o, "processes");
	for (size_t i = 0; i < n && len < PS_REPLY_MAX; i++) {
		write_process(o, pids[i], boot);
		if (json_out_text(o, &text, &len) < 0)
			break;
	}
	json_out_end_array(o);
	err_clear();
	return 0;
}

void guest_ps(struct guest *g, const struct agent_frame *f)
{
	guest_job(g, f, PS_MS, write_processes);
}

void guest_stats(struct guest *g, const struct agent_frame *f)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	if (!begin_reply(g, f, &w))
		return;
	int r = check_cgroup(g);
	if (r >= 0) {
		json_out_object(&w.json, "stats");
		r = cg_stats(&g->cgroup, &w.json);
		/*
		 * The reply is begun anew, because the job has failed in the middle of an object,
		 * which would not be valid JSON.
		 */
		if (r < 0) {
			agent_release(&w);
			w = (struct agent_writer){0};
			if (!begin_reply(g, f, &w))
				return;
		} else {
			json_out_end_object(&w.json);
		}
	}
	end_reply(g, &w, r);
}

void guest_check_oom(struct guest *g)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	int r = g->events.fd < 0 ? 0 : cg_events_read(&g->cgroup, &g->events);
	if (r < 0)
		return guest_log(g, "%s", err_msg());
	if (r & CG_EVENT_OOM && agent_begin(&w, "oom") >= 0)
		guest_send(g, &w);
}

static void on_events(struct watch *w, uint32_t events)
{
	guest_check_oom((struct guest *)((char *)w - offsetof(struct guest, events_watch)));
}

int guest_watch_oom(struct guest *g)
{
	int r = cg_events_open(&g->cgroup, &g->events);

	g->events_watch.ready = on_events;
	return r < 0 ? r : loop_watch(&g->loop, &g->events_watch, g->events.fd, EPOLLIN);
}

/* --- limits of the container's resources --- */

/*
 * Keeps the device rules, because the rules of disks that are attached later come behind them, and
 * applies the limits. After an error the container has the limits that it had.
 */
static int set_limits(struct guest *g, struct cg_resources *limits)
{
	_cleanup_arena_ struct arena a = {0};
	const __typeof__(g->device_rules) before = g->device_rules;

	cg_undo_release(&g->limits_undo);
	if (!limits->ndevices)
		return cg_change(&g->cgroup, limits, &g->limits_undo);
	struct cg_device_rule *rules = arena_array(&g->arena, limits->ndevices, sizeof(*rules));
	if (!rules)
		return -ENOMEM;
	for (size_t i = 0; i < limits->ndevices; i++) {
		rules[i] = limits->devices[i];
		rules[i].access = arena_strdup(&g->arena, limits->devices[i].access);
		if (!rules[i].access)
			return -ENOMEM;
	}
	g->device_rules.v = rules;
	g->device_rules.n = limits->ndevices;
	int r = guest_add_disk_rules(&a, limits);
	if (r >= 0)
		r = cg_change(&g->cgroup, limits, &g->limits_undo);
	if (r < 0)
		g->device_rules = before;
	return r;
}

int guest_limit(struct guest *g, const struct cg_resources *res, bool first)
{
	static const struct cg_device_rule deny_all = {
		.allow = false, .type = 'a', .major = -1, .minor = -1, .access = "rwm"};
	struct cg_resources limits = *res;

	/*
	 * If config.json has no device rules, the container may use only the devices that every
	 * container gets, as a container without a machine does.
	 */
	if (first && !limits.ndevices) {
		limits.devices = &deny_all;
		limits.ndevices = 1;
	}
	int r = set_limits(g, &limits);
	if (first)
		cg_undo_release(&g->limits_undo);
	return r;
}

/*
 * Refuses a memory limit above the machine's memory, because the kernel would accept the limit, but
 * the container could never get so much. The limit in config.json is always accepted, because
 * engines send it again with every update, and the machine may have got less memory than that limit
 * because the host had less.
 */
static int check_memory(const struct guest *g, const struct cg_resources *res)
{
	const char *field, *of_config;
	uint64_t limit = plan_vm_memory_limit(res, &field);
	uint64_t have = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);

	if (limit <= have || limit == plan_vm_memory_limit(&g->orders->resources, &of_config))
		return 0;
	return err_set(EINVAL,
		"%s: %llu bytes: expected at most the memory of the microVM, %llu bytes, which "
		"vm.hwConfig.memory or linux.resources.memory.limit of config.json sets",
		field, (unsigned long long)limit, (unsigned long long)have);
}

static int update(struct guest *g, const struct agent_frame *f)
{
	_cleanup_arena_ struct arena a = {0};
	struct cg_resources *limits;

	void *bytes = guest_copy_blob(&a, f);
	int r = bytes ? agent_limits_unpack(bytes, f->blob_len, &limits) : -ENOMEM;
	/* The kernel may not have put memory on line yet that the guest has just got. */
	if (r >= 0 && !json_get_true(f->json, "grown"))
		r = check_memory(g, limits);
	return r < 0 ? r : guest_limit(g, limits, false);
}

void guest_update(struct guest *g, const struct agent_frame *f)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	if (!begin_reply(g, f, &w))
		return;
	int r = check_cgroup(g);
	if (r >= 0)
		r = json_get_true(f->json, "undo") ? cg_restore(&g->cgroup, &g->limits_undo)
						   : update(g, f);
	end_reply(g, &w, r);
}
