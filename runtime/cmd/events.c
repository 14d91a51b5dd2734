/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <poll.h>
#include <stdlib.h>

#include "agent/agent.h"
#include "base/clock.h"
#include "base/fd.h"
#include "cmd/cmd.h"
#include "launch/vm_client.h"

#define VM_END_MS 5000

/*
 * Parses a duration as Go writes it: "5s", "500ms", "1m30s"; a number without a unit is in seconds.
 */
static int parse_interval(const char *text, int *ret_ms)
{
	static const struct {
		const char *unit;
		double ms;
	} units[] = {{"ms", 1}, {"us", 0.001}, {"ns", 0.000001}, {"s", 1000}, {"m", 60000},
		{"h", 3600000}};
	double total = 0;
	const char *p = text;

	while (*p) {
		char *end;
		size_t i;
		double n = strtod(p, &end);
		if (end == p || !isfinite(n))
			goto bad;
		p = end;
		for (i = 0; i < ARRAY_SIZE(units) && !str_starts(p, units[i].unit); i++)
			;
		if (i == ARRAY_SIZE(units) && *p)
			goto bad;
		total += n * (*p ? units[i].ms : 1000);
		p += *p ? strlen(units[i].unit) : 0;
	}
	if (*text && total <= 0)
		return err_set(EINVAL,
			"duration interval must be greater than 0: --interval %s: expected 1ms to "
			"24h",
			text);
	if (total < 1 || total > 86400000.0)
		goto bad;
	*ret_ms = (int)total;
	return 0;
bad:
	return err_set(
		EINVAL, "--interval %s: expected a duration such as 5s or 500ms, 1ms to 24h", text);
}

/*
 * Writes the statistics of the container's cgroup. In VM mode they come from the cgroup in the
 * guest, because the host's cgroup counts the whole machine.
 */
static int put_statistics(struct container *c, struct json_out *o)
{
	_cleanup_agent_frame_ struct agent_frame reply = {0};

	if (!c->vm) {
		json_out_object(o, "data");
		int r = cg_stats(&c->cgroup, o);
		json_out_end_object(o);
		return r;
	}
	int r = vm_ask(c, "stats", &reply);
	const struct json *stats = r < 0 ? NULL : json_get(reply.json, "stats");
	if (r >= 0 && !stats)
		return err_set(EPROTO, "malformed statistics from the guest");
	if (stats)
		json_out_node(o, "data", stats);
	return r;
}

static int print_event(struct container *c, const char *type, bool stats)
{
	_cleanup_json_out_ struct json_out o = {0};

	int r = json_out_init(&o, false);
	if (r < 0)
		return r;
	json_out_object(&o, NULL);
	json_out_str(&o, "type", type);
	json_out_str(&o, "id", c->id);
	if (stats)
		r = put_statistics(c, &o);
	json_out_end_object(&o);
	return r < 0 ? r : program_print_json(&o);
}

/*
 * Says whether the container is a microVM whose process on the host ends within VM_END_MS. If it
 * does, a statistics request that got no answer is not an error, because the microVM was about to
 * end.
 */
static bool is_ending(const struct container *c, int pidfd)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	return c->vm && poll(&p, 1, VM_END_MS) == 1;
}

/*
 * Where the events come from: the files of the container's cgroup, or in VM mode messages of the
 * guest, because there the guest's kernel kills processes when memory runs out.
 */
struct source {
	struct container *c;
	int fd;
	struct cg_events ev;
	struct agent_reader reader;
};

static int source_open(struct source *s, struct container *c)
{
	*s = (struct source){.c = c, .ev.fd = -EBADF};
	int r = c->vm ? vm_watch(c) : cg_events_open(&c->cgroup, &s->ev);
	s->fd = c->vm ? r : s->ev.fd;
	return r;
}

/* Reads which events have happened since the last call and returns them as CG_EVENT_* bits. */
static int source_read(struct source *s, int pidfd)
{
	if (!s->c->vm)
		return cg_events_read(&s->c->cgroup, &s->ev);
	int r = vm_watch_read(s->fd, &s->reader);
	if (r != -ESRCH)
		return r > 0 ? CG_EVENT_OOM : r;
	if (!is_ending(s->c, pidfd))
		return err_set(EBUSY, "the container's monitor serves too many commands at once");
	err_clear();
	return CG_EVENT_EMPTY;
}

static void source_close(struct source *s)
{
	if (s->c->vm)
		fd_close(&s->fd);
	agent_reader_release(&s->reader);
	cg_events_close(&s->ev);
}

/*
 * Prints a line of statistics at each interval, and a line whenever the kernel kills a process
 * because memory ran out. Returns when the container has no process left or its first process has
 * ended.
 */
static int follow_events(struct container *c, int interval_ms)
{
	struct source s;
	int r = source_open(&s, c);

	if (r < 0)
		return r;
	_cleanup_fd_ int pidfd = container_pidfd(c);
	int64_t next = clock_ms() + interval_ms;
	while (r >= 0) {
		struct pollfd p[] = {
			{.fd = s.fd, .events = POLLIN}, {.fd = pidfd, .events = POLLIN}};
		int64_t left = next - clock_ms();
		int n = poll(p, ARRAY_SIZE(p), left > 0 ? (int)left : 0);
		if (n < 0 && errno != EINTR)
			r = err_sys("poll");
		int events = n > 0 && p[0].revents ? source_read(&s, pidfd) : 0;
		if (events < 0)
			r = events;
		else if (events & CG_EVENT_OOM)
			r = print_event(c, "oom", false);
		if (r < 0 || (events > 0 && events & CG_EVENT_EMPTY) || (n > 0 && p[1].revents))
			break;
		if (clock_ms() >= next) {
			r = print_event(c, "stats", true);
			next += interval_ms;
			if (r < 0 && is_ending(c, pidfd)) {
				err_clear();
				r = 0;
				break;
			}
		}
	}
	source_close(&s);
	return r;
}

int cmd_events(const struct command *self, const struct globals *g, int argc, char **argv)
{
	const char *interval = "5s";
	bool once = false;
	const struct option_def defs[] = {
		{"stats", 0, OPTION_FLAG, &once, NULL, "print the statistics once and end"},
		{"interval", 0, OPTION_STRING, &interval, "TIME",
			"between statistics, such as 500ms (default: 5s)"},
		{0},
	};
	struct arguments args = {.min = 1, .max = 1};
	_cleanup_container_ struct container c = CONTAINER_INIT;
	enum container_status status;
	int ms = 0;

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = parse_interval(interval, &ms);
	if (r >= 0)
		r = cmd_open(g, args.v[0], false, &c);
	if (r >= 0)
		r = container_status(&c, &status);
	if (r < 0)
		return r;
	if (status == CONTAINER_STOPPED)
		return err_set(ESRCH, "container with id %s is not running", c.id);
	if (!c.cgroup.path && !c.vm)
		return err_set(
			ENOTSUP, "container \"%s\" has no cgroup to take statistics from", c.id);
	return once ? print_event(&c, "stats", true) : follow_events(&c, ms);
}
