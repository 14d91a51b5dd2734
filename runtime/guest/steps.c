/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Notes when the agent and INIT have done which steps of the plan, and tells the monitor, if the
 * orders from the monitor ask for that (--timeline).
 */
#include "base/clock.h"
#include "guest/guest.h"
#include "ns/channel.h"
#include "plan/image.h"

/*
 * how many steps one message has at most, because the message's length is limited (AGENT_JSON_MAX)
 */
#define TOLD_MAX 8000

void steps_note(struct process *p, size_t step, bool init, uint64_t begin, uint64_t end)
{
	/*
	 * A step that is a barrier may be noted twice, once when the agent has done it and once
	 * when INIT has passed it, so there are up to two notes for each step of the plan.
	 */
	const size_t max = 2 * p->plan.n < TOLD_MAX ? 2 * p->plan.n : TOLD_MAX;

	if (!p->orders->tell_steps)
		return;
	if (!p->done)
		p->done = arena_array(&p->arena, max, sizeof(*p->done));
	/*
	 * If there is no memory for the note, it is left out, because the start of the process must
	 * not fail for that reason.
	 */
	if (p->done && p->ndone < max)
		p->done[p->ndone++] =
			(struct done_step){.step = step, .init = init, .begin = begin, .end = end};
}

void steps_of_init(void *data, const struct channel_msg *m)
{
	struct process *p = data;
	uint64_t took, now = clock_ns();
	size_t i = 0;

	while (i < p->plan.n && p->plan.steps[i].kind != STEP_CLONE)
		i++;
	i = plan_selected(&p->plan, 1u << PLACE_INIT, i + 1, (size_t)m->code);
	if (i == p->plan.n || str_to_u64(m->text, &took) < 0)
		return;
	const struct step *s = &p->plan.steps[i];
	if (s->place != PLACE_INIT && !plan_awaits(&p->plan, PLACE_INIT, s))
		return;
	/*
	 * The time that INIT reports for the end of a step is used only if it lies between the step
	 * CLONE and now. INIT may be in a time namespace, whose clock may be ahead of the agent's,
	 * or years behind it.
	 */
	uint64_t end = m->time <= now && m->time >= p->cloned_at ? m->time : now;
	steps_note(p, i, true, took < end ? end - took : 0, end);
}

void steps_tell(struct process *p)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	if (!p->ndone)
		return;
	int r = agent_begin(&w, "steps");
	if (r < 0)
		return guest_fail(p->guest, r);
	json_out_u64(&w.json, "process", p->number);
	json_out_u64(&w.json, "clock", p->asked_at);
	json_out_array(&w.json, "steps");
	for (size_t i = 0; i < p->ndone; i++) {
		const struct done_step *d = &p->done[i];
		json_out_object(&w.json, NULL);
		json_out_u64(&w.json, "step", d->step);
		if (d->init)
			json_out_bool(&w.json, "init", true);
		json_out_u64(&w.json, "begin", d->begin);
		json_out_u64(&w.json, "end", d->end);
		json_out_end_object(&w.json);
	}
	json_out_end_array(&w.json);
	p->ndone = 0;
	guest_send(p->guest, &w);
}
