/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells the runtime, for --timeline, what the monitor, the guest and INIT have done when.
 *
 * Theory of operation. The guest's CLOCK_MONOTONIC begins with its kernel, so the monitor has to
 * add a difference to the guest's times. Two messages limit the difference. "hello" has the guest's
 * time of sending, and the monitor receives it later, so the difference is at most the time of the
 * receipt minus that time. "steps" has the guest's time of the receipt of "create", which the
 * monitor has sent earlier, so the difference is at least the time of sending minus that time. The
 * monitor takes the middle of these two limits.
 *
 * The guest is hostile. A wrong time only makes a bar of the timeline wrong, because the monitor
 * keeps all times between the begin of the machine and now. No step is told more than twice, once
 * for the agent and once for INIT, so a guest that tells of more has lied.
 */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "monitor/monitor_internal.h"
#include "ns/channel.h"

static void tell(struct monitor *m, const struct channel_span *s)
{
	int sock = m->channel >= 0 ? m->channel : m->starter;

	/*
	 * An error of sending is only logged. If the runtime has ended, the monitor notices by the
	 * end of the channel.
	 */
	if (sock >= 0 && channel_report_span(sock, s) < 0)
		log_debug("%s", err_msg());
}

void spans_begin(struct monitor *m)
{
	m->spans.from = clock_ns();
}

static void end_span(struct monitor *m, struct channel_span s)
{
	if (!m->a->tell_spans)
		return;
	s.place = PLACE_MONITOR;
	s.begin = m->spans.from;
	s.end = m->spans.from = clock_ns();
	tell(m, &s);
}

void spans_mark(struct monitor *m, const char *name, bool waits)
{
	end_span(m, (struct channel_span){.name = name, .waits = waits});
}

void spans_step(struct monitor *m, const struct step *s)
{
	if (s->place == PLACE_MONITOR || plan_awaits(m->a->plan, PLACE_MONITOR, s))
		end_span(m, (struct channel_span){
				    .number = (size_t)(s - m->a->plan->steps) + 1, .name = ""});
}

void spans_ran(struct monitor *m)
{
	m->spans.ran = clock_ns();
}

void spans_hello(struct monitor *m, const struct agent_frame *f)
{
	uint64_t clock, now = clock_ns();

	spans_mark(m, "wait for the guest's agent", true);
	if (!m->a->tell_spans || json_get_u64(f->json, "clock", &clock) < 0 || clock > now)
		return;
	m->spans.most_difference = now - clock;
	tell(m, &(struct channel_span){.place = PLACE_GUEST,
			.begin = m->spans.ran,
			.end = now,
			.name = "the kernel boots"});
}

void spans_asked(struct monitor *m)
{
	m->spans.asked = clock_ns();
}

/*
 * Returns the difference that is to be added to the guest's times. `clock` is the guest's time at
 * which the message "create" came there.
 */
static uint64_t find_difference(const struct monitor *m, uint64_t clock)
{
	uint64_t most = m->spans.most_difference;
	uint64_t least = m->spans.asked > clock ? m->spans.asked - clock : 0;

	return least < most ? least + (most - least) / 2 : most;
}

static uint64_t to_host(const struct monitor *m, uint64_t time, uint64_t difference)
{
	uint64_t now = clock_ns(), at;

	if (__builtin_add_overflow(time, difference, &at) || at > now)
		return now;
	return at < m->spans.ran ? m->spans.ran : at;
}

int spans_of_guest(struct monitor *m, const struct agent_frame *f)
{
	const struct json *steps = json_get(f->json, "steps");
	uint64_t clock;

	if (!m->a->tell_spans || json_get_u64(f->json, "clock", &clock) < 0 || !steps ||
		steps->type != JSON_ARRAY)
		return err_set(EPROTO, "unexpected or malformed \"steps\" from the guest");
	uint64_t difference = find_difference(m, clock);
	for (const struct json *e = steps->first; e; e = e->next) {
		uint64_t step, begin, end;
		if (json_get_u64(e, "step", &step) < 0 || json_get_u64(e, "begin", &begin) < 0 ||
			json_get_u64(e, "end", &end) < 0 || step >= m->a->plan->n ||
			m->spans.told++ == 2 * m->a->plan->n)
			return err_set(EPROTO, "malformed \"steps\" from the guest");
		tell(m, &(struct channel_span){
				.place = json_get_true(e, "init") ? PLACE_INIT : PLACE_GUEST,
				.begin = to_host(m, begin, difference),
				.end = to_host(m, end, difference),
				.number = (size_t)step + 1,
				.name = ""});
	}
	return 0;
}
