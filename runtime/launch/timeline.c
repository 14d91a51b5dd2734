/* SPDX-License-Identifier: Apache-2.0 */
#include "launch/timeline.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "plan/image.h"

#define SPANS_MAX 65536
#define FD_MIN 512

static int choose_form(const char *path, enum timeline_form *ret)
{
	static const struct {
		const char *ending;
		enum timeline_form form;
	} forms[] = {{".json", TIMELINE_JSON}, {".svg", TIMELINE_SVG}, {".html", TIMELINE_HTML}};
	const char *dot = strrchr(path, '.');

	for (size_t i = 0; dot && i < ARRAY_SIZE(forms); i++) {
		*ret = forms[i].form;
		if (streq(dot, forms[i].ending))
			return 0;
	}
	return err_set(EINVAL,
		"--timeline %s: expected a name that ends in .svg, .json or .html, because the "
		"ending decides the form of the file",
		path);
}

int timeline_open(struct timeline *t, const char *path, const char *command, struct launch *l)
{
	if (!path)
		return 0;
	int r = choose_form(path, &t->form);
	if (r < 0)
		return r;
	_cleanup_fd_ int fd =
		open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0644);
	/*
	 * The descriptor of the timeline's file is moved above the numbers that --preserve-fds
	 * passes on, because the container must not get the file.
	 */
	t->fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, FD_MIN);
	if (t->fd < 0)
		return err_sys("--timeline %s", path);
	t->path = path;
	t->command = command;
	t->begin = t->from = clock_ns();
	l->timeline = t;
	return 0;
}

void timeline_close(struct timeline *t)
{
	fd_close(&t->fd);
	free(t->spans);
	t->spans = NULL;
	t->n = t->capacity = 0;
}

/*
 * Adds a span to the timeline. If memory runs out, the span is left out, because the container's
 * start must not fail for that reason.
 */
static void add_span(struct timeline *t, const struct timeline_span *s)
{
	if (t->n == t->capacity) {
		size_t capacity = t->capacity ? t->capacity * 2 : 128;
		struct timeline_span *more =
			capacity > SPANS_MAX ? NULL : realloc(t->spans, capacity * sizeof(*more));
		if (!more)
			return;
		t->spans = more;
		t->capacity = capacity;
	}
	t->spans[t->n++] = *s;
}

static void add_host_span(struct timeline *t, struct timeline_span s)
{
	s.who = PLACE_HOST;
	s.start = t->from;
	s.end = t->from = clock_ns();
	add_span(t, &s);
}

void timeline_mark(struct timeline *t, const char *name)
{
	if (t)
		add_host_span(t, (struct timeline_span){.name = name});
}

void timeline_host_step(struct launch *l)
{
	struct timeline *t = l->timeline;
	const struct step *s = &l->plan.steps[l->next_step];

	if (!t)
		return;
	uint64_t begin = t->from;
	/*
	 * A barrier that another party of the plan reports gets a span only if the host waits for
	 * that report. The span is then marked as a wait.
	 */
	if (s->place != PLACE_HOST && !plan_awaits(&l->plan, PLACE_HOST, s))
		return;
	add_host_span(t, (struct timeline_span){.step = s,
				 .number = l->next_step + 1,
				 .name = plan_step_name(s->kind),
				 .waits = s->place != PLACE_HOST});
	if (s->kind != STEP_CLONE)
		return;
	t->clone_begin = begin;
	t->clone_end = t->from;
}

/*
 * Returns the index in the whole plan of a step, given the step's index among the steps that INIT
 * (the container's first process) got.
 */
static size_t index_in_plan(const struct launch *l, size_t selected)
{
	const struct plan *p = &l->plan;
	size_t i = 0;

	while (i < p->n && (p->steps[i].kind != STEP_CLONE || p->steps[i].place != PLACE_HOST))
		i++;
	return plan_selected(p, 1u << PLACE_INIT, i + 1, selected);
}

/*
 * Converts a time of the clock of INIT (the container's first process) to the host's clock. The two
 * differ only in a time namespace: timeline.h describes how.
 */
static uint64_t place(struct timeline *t, uint64_t time)
{
	uint64_t now = clock_ns(), end = time + (uint64_t)t->skew;
	uint64_t born = t->clone_begin ? t->clone_begin : t->from;

	if (end >= born && end <= now)
		return end;
	t->skew = (int64_t)(now - time);
	return now;
}

/*
 * Adds a span of a party of the plan other than the host. If the span begins before the end of the
 * party's last span, its begin is moved to that end.
 */
static void add_placed_span(struct timeline *t, struct timeline_span s)
{
	uint64_t *last = &t->last_end[s.who];

	if (s.who == PLACE_INIT && !*last && t->clone_end && s.start > t->clone_end)
		add_span(t, &(struct timeline_span){.who = PLACE_INIT,
				    .name = "caisson-init begins",
				    .start = t->clone_end,
				    .end = s.start});
	if (s.start < *last)
		s.start = *last;
	if (s.end < s.start)
		s.end = s.start;
	*last = s.end;
	add_span(t, &s);
}

void timeline_init_step(void *data, const struct channel_msg *m)
{
	struct launch *l = data;
	uint64_t took;
	size_t i = index_in_plan(l, (size_t)m->code);

	if (i >= l->plan.n || str_to_u64(m->text, &took) < 0)
		return;
	const struct step *s = &l->plan.steps[i];
	if (s->place == PLACE_INIT)
		log_debug("init: %s %s (%" PRIu64 " us)", plan_step_name(s->kind),
			s->field ? s->field : "", took / 1000);
	if (!l->timeline || (s->place != PLACE_INIT && !plan_awaits(&l->plan, PLACE_INIT, s)))
		return;
	uint64_t end = place(l->timeline, m->time);
	add_placed_span(l->timeline,
		(struct timeline_span){.who = PLACE_INIT,
			.step = s,
			.number = i + 1,
			.name = plan_step_name(s->kind),
			.start = took < end ? end - took : 0,
			.end = end,
			.waits = s->place != PLACE_INIT || s->kind == STEP_WAIT_START});
}

/*
 * Finds the step of the whole plan that the span is about. The number in the span counts the steps
 * of the guest's plan, which is a part of the whole plan.
 */
static const struct step *find_step(const struct launch *l, struct channel_span *s)
{
	const unsigned guest = 1u << PLACE_GUEST | 1u << PLACE_INIT;
	size_t i = s->number - 1;

	if (s->place != PLACE_MONITOR)
		i = plan_selected(&l->plan, guest, 0, i);
	if (i >= l->plan.n)
		return NULL;
	s->number = i + 1;
	return &l->plan.steps[i];
}

static uint64_t within(const struct timeline *t, uint64_t time)
{
	uint64_t now = clock_ns();

	return time < t->begin ? t->begin : time > now ? now : time;
}

int timeline_span(struct launch *l, const struct channel_msg *m)
{
	struct timeline *t = l->timeline;
	struct channel_span got;
	int r = t ? channel_read_span(m, &got) : 0;

	if (!t || r < 0)
		return r;
	if (got.place != PLACE_MONITOR && got.place != PLACE_GUEST && got.place != PLACE_INIT)
		return err_set(EPROTO, "the monitor told of the party %d", got.place);
	struct timeline_span s = {.who = (enum step_place)got.place,
		.start = within(t, got.begin),
		.end = within(t, got.end),
		.waits = got.waits};
	s.step = got.number ? find_step(l, &got) : NULL;
	s.name = s.step ? plan_step_name(s.step->kind) : arena_strdup(&l->c->arena, got.name);
	s.number = got.number;
	if (!s.name || (got.number && !s.step))
		return s.name ? err_set(EPROTO, "the monitor told of an unknown step") : -ENOMEM;
	s.waits |= s.step && (s.step->place != s.who || s.step->kind == STEP_WAIT_START);
	add_placed_span(t, s);
	if (s.who != PLACE_GUEST || !s.step || s.step->kind != STEP_CLONE)
		return 0;
	t->clone_begin = s.start;
	t->clone_end = t->last_end[PLACE_GUEST];
	return 0;
}

void timeline_executed(struct launch *l)
{
	struct timeline *t = l->timeline;

	if (!t)
		return;
	add_host_span(t, (struct timeline_span){.name = "until the program runs", .waits = true});
	for (size_t i = 0; i < l->plan.n && t->last_end[PLACE_INIT]; i++)
		if (l->plan.steps[i].kind == STEP_EXEC)
			add_placed_span(t, (struct timeline_span){.who = PLACE_INIT,
						   .step = &l->plan.steps[i],
						   .number = i + 1,
						   .name = plan_step_name(STEP_EXEC),
						   .start = t->last_end[PLACE_INIT],
						   .end = t->from});
}

static int compare(const void *a, const void *b)
{
	const struct timeline_span *x = a, *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	if (x->number != y->number)
		return x->number < y->number ? -1 : 1;
	return 0;
}

static int write_span(const struct timeline *t, const struct timeline_span *s, struct json_out *o)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	int r = s->step ? plan_step_text(s->step, &text) : 0;

	if (r < 0)
		return r;
	json_out_object(o, NULL);
	json_out_str(o, "place", plan_place_name(s->who));
	json_out_str(o, "step", s->name);
	if (s->step)
		json_out_u64(o, "number", s->number);
	if (s->step && s->step->field)
		json_out_str(o, "field", s->step->field);
	if (text.len)
		json_out_str(o, "what", text.s);
	json_out_u64(o, "start", s->start - t->begin);
	json_out_u64(o, "end", s->end - t->begin);
	if (s->waits)
		json_out_bool(o, "waits", true);
	json_out_end_object(o);
	return 0;
}

static int timeline_json(const struct timeline *t, struct strbuf *out)
{
	_cleanup_json_out_ struct json_out o = {0};
	const char *text;
	size_t len;

	int r = json_out_init(&o, true);
	if (r < 0)
		return r;
	json_out_object(&o, NULL);
	json_out_str(&o, "command", t->command);
	json_out_str(&o, "id", t->id);
	json_out_str(&o, "result", t->result);
	json_out_str(&o, "unit", "ns");
	json_out_u64(&o, "begin", t->begin);
	json_out_u64(&o, "total", t->end - t->begin);
	json_out_array(&o, "spans");
	for (size_t i = 0; i < t->n && r >= 0; i++)
		r = write_span(t, &t->spans[i], &o);
	json_out_end_array(&o);
	json_out_end_object(&o);
	if (r >= 0)
		r = json_out_text(&o, &text, &len);
	return r < 0 ? r : strbuf_add(out, text, len);
}

void timeline_write(struct launch *l, const char *result)
{
	struct timeline *t = l->timeline;
	_cleanup_strbuf_ struct strbuf out = {0};

	if (!t)
		return;
	l->timeline = NULL;
	t->end = clock_ns();
	t->id = l->c->id ? l->c->id : "";
	t->result = result;
	qsort(t->spans, t->n, sizeof(*t->spans), compare);
	int r = t->form == TIMELINE_JSON  ? timeline_json(t, &out)
		: t->form == TIMELINE_SVG ? timeline_svg(t, &out)
					  : timeline_html(t, &out);
	if (r >= 0)
		r = fd_write_all(t->fd, strbuf_str(&out), out.len);
	if (r < 0)
		log_warn("--timeline %s: not written: %s", t->path, err_text(-r));
}
