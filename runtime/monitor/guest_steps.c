/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The guest's CLOCK_MONOTONIC begins with its kernel, so a difference must be
 * added to the guest's times. Two things limit the difference. "steps" has the guest's time of the
 * receipt of "create" or "exec", which was sent earlier, so the difference is at least the time of
 * sending minus that time. And the last step that "steps" tells of has ended before now, so the
 * difference is at most now minus that end. The monitor knows another such upper bound from the
 * message "hello" (spans.c). The middle of the limits is taken.
 *
 * The guest is hostile. A wrong time only makes a bar of the timeline wrong, because all times are
 * kept between g->first and now. No step is told more than twice, once for the agent and once for
 * INIT, so a guest that tells of more has lied.
 */
#include "monitor/guest_steps.h"

#include "base/clock.h"
#include "base/log.h"
#include "ns/channel.h"

/*
 * Returns the difference that is to be added to the guest's times. `clock` is the guest's time at
 * which the message "create" or "exec" came there, and `last` the end of the last step.
 */
static uint64_t find_difference(const struct guest_steps *g, uint64_t clock, uint64_t last)
{
	uint64_t now = clock_ns(), most = g->most_difference;
	uint64_t least = g->asked > clock ? g->asked - clock : 0;

	if (last <= now && (!most || now - last < most))
		most = now - last;
	return least < most ? least + (most - least) / 2 : most;
}

static uint64_t to_host(const struct guest_steps *g, uint64_t time, uint64_t difference)
{
	uint64_t now = clock_ns(), at;

	if (__builtin_add_overflow(time, difference, &at) || at > now)
		return now;
	return at < g->first ? g->first : at;
}

static int read_step(const struct guest_steps *g, const struct json *e, struct channel_span *ret)
{
	uint64_t step;

	if (json_get_u64(e, "step", &step) < 0 || json_get_u64(e, "begin", &ret->begin) < 0 ||
		json_get_u64(e, "end", &ret->end) < 0 || step >= g->plan->n)
		return err_set(EPROTO, "malformed \"steps\" from the guest");
	ret->place = json_get_true(e, "init") ? PLACE_INIT : PLACE_GUEST;
	ret->number = (size_t)step + 1;
	ret->name = "";
	return 0;
}

/* Finds the end of the last step that the message tells of. */
static int find_last(const struct guest_steps *g, const struct json *steps, uint64_t *ret)
{
	struct channel_span s;

	*ret = 0;
	for (const struct json *e = steps->first; e; e = e->next) {
		int r = read_step(g, e, &s);
		if (r < 0)
			return r;
		if (s.end > *ret)
			*ret = s.end;
	}
	return 0;
}

int guest_steps_tell(struct guest_steps *g, const struct agent_frame *f, int channel)
{
	const struct json *steps = json_get(f->json, "steps");
	uint64_t clock, last;

	if (json_get_u64(f->json, "clock", &clock) < 0 || !steps || steps->type != JSON_ARRAY)
		return err_set(EPROTO, "malformed \"steps\" from the guest");
	int r = find_last(g, steps, &last);
	if (r < 0)
		return r;
	uint64_t difference = find_difference(g, clock, last);
	for (const struct json *e = steps->first; e; e = e->next) {
		struct channel_span s = {0};
		r = read_step(g, e, &s);
		if (r < 0)
			return r;
		if (g->told++ >= 2 * g->plan->n)
			return err_set(EPROTO, "malformed \"steps\" from the guest");
		s.begin = to_host(g, s.begin, difference);
		s.end = to_host(g, s.end, difference);
		if (channel >= 0 && channel_report_span(channel, &s) < 0)
			log_debug("%s", err_msg());
	}
	return 0;
}
