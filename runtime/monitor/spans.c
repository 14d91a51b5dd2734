/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells the runtime, for --timeline, what the monitor, the guest and INIT have done when.
 * guest_steps.c describes how the guest's times are converted to the host's.
 */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "monitor/monitor_internal.h"
#include "ns/channel.h"

static int spans_channel(const struct monitor *m)
{
	return m->channel >= 0 ? m->channel : m->starter;
}

static void tell(struct monitor *m, const struct channel_span *s)
{
	int sock = spans_channel(m);

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
	m->spans.guest.first = clock_ns();
}

void spans_hello(struct monitor *m, const struct agent_frame *f)
{
	uint64_t clock, now = clock_ns();

	spans_mark(m, "wait for the guest's agent", true);
	if (!m->a->tell_spans || json_get_u64(f->json, "clock", &clock) < 0 || clock > now)
		return;
	m->spans.guest.most_difference = now - clock;
	tell(m, &(struct channel_span){.place = PLACE_GUEST,
			.begin = m->spans.guest.first,
			.end = now,
			.name = "the kernel boots"});
}

void spans_asked(struct monitor *m)
{
	m->spans.guest.asked = clock_ns();
}

int spans_of_guest(struct monitor *m, const struct agent_frame *f)
{
	if (!m->a->tell_spans)
		return err_set(EPROTO, "unexpected \"steps\" from the guest");
	m->spans.guest.plan = m->a->plan;
	return guest_steps_tell(&m->spans.guest, f, spans_channel(m));
}
