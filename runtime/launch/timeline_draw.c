/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Draws a timeline as an SVG: a row for each span, with the span's name on the left, its bar on the
 * common time axis and its duration on the right. The HTML page is that drawing with a heading and
 * a legend. The page needs no script and nothing from the network.
 */
#include <inttypes.h>

#include "launch/timeline.h"

#define ROW 18      /* height of a row; all sizes are in pixels */
#define TOP 46      /* height of the part above the rows of the drawing, in pixels */
#define BARS 520    /* x position at which the time axis begins, in pixels */
#define AXIS 600    /* length of the time axis, in pixels */
#define WIDTH 1220  /* width of the drawing */
#define LABEL 58    /* how many bytes of a span's label are drawn; the tool tip has all */
#define TICKS_MAX 8 /* most ticks of the time axis */

static const char *const colours[] = {
	[PLACE_HOST] = "#2563a8",
	[PLACE_INIT] = "#c2571a",
	[PLACE_MONITOR] = "#7a4aa0",
	[PLACE_GUEST] = "#2f7d4f",
};

static const char style[] = "text{font:12px sans-serif;fill:#222}"
			    ".axis{stroke:#ddd}.time{fill:#555}.title{font-weight:bold}"
			    ".waits{fill-opacity:.25}";

static int add_escaped(struct strbuf *out, const char *text)
{
	int r = 0;

	for (; *text && r >= 0; text++) {
		switch (*text) {
		case '<':
			r = strbuf_addf(out, "&lt;");
			break;
		case '>':
			r = strbuf_addf(out, "&gt;");
			break;
		case '&':
			r = strbuf_addf(out, "&amp;");
			break;
		case '"':
			r = strbuf_addf(out, "&quot;");
			break;
		default:
			r = strbuf_add(out, text, 1);
		}
	}
	return r;
}

/* Adds at most max bytes of a text that another program wrote, without its control characters. */
static int add_text(struct strbuf *out, const char *text, size_t max)
{
	char clean[ERR_MAX];
	size_t len = strlen(text);

	str_clean(clean, max < sizeof(clean) ? max + 1 : sizeof(clean), text, len);
	int r = add_escaped(out, clean);
	return r < 0 || strlen(clean) >= len ? r : strbuf_addf(out, "…");
}

static double microseconds(uint64_t ns)
{
	return (double)ns / 1000;
}

/* Makes the label of a span, such as "12 mount /proc (proc) [mounts[0]]". */
static int make_label(const struct timeline_span *s, struct strbuf *out)
{
	_cleanup_strbuf_ struct strbuf what = {0};
	int r = s->step ? strbuf_addf(out, "%zu %s", s->number, s->name)
			: strbuf_addf(out, "%s", s->name);

	if (r < 0 || !s->step)
		return r;
	r = plan_step_text(s->step, &what);
	if (r >= 0 && what.len)
		r = strbuf_addf(out, " %s", what.s);
	if (r >= 0 && s->step->field)
		r = strbuf_addf(out, " [%s]", s->step->field);
	return r;
}

static double x_of(const struct timeline *t, uint64_t time)
{
	uint64_t total = t->end > t->begin ? t->end - t->begin : 1;

	return BARS + (double)(time - t->begin) * AXIS / (double)total;
}

static int add_row(const struct timeline *t, size_t i, struct strbuf *out)
{
	const struct timeline_span *s = &t->spans[i];
	_cleanup_strbuf_ struct strbuf label = {0};
	size_t y = TOP + i * ROW;
	double width = x_of(t, s->end) - x_of(t, s->start);

	int r = make_label(s, &label);
	if (r >= 0)
		r = strbuf_addf(out, "<g><title>");
	if (r >= 0)
		r = add_text(out, strbuf_str(&label), ERR_MAX);
	if (r >= 0)
		r = strbuf_addf(out,
			": %.1f µs, from %.1f µs on</title>\n"
			"<text x=\"8\" y=\"%zu\">%s</text><text x=\"64\" y=\"%zu\">",
			microseconds(s->end - s->start), microseconds(s->start - t->begin), y + 13,
			plan_place_name(s->who), y + 13);
	if (r >= 0)
		r = add_text(out, strbuf_str(&label), LABEL);
	if (r >= 0)
		r = strbuf_addf(out,
			"</text>\n<rect class=\"bar%s\" x=\"%.2f\" y=\"%zu\" width=\"%.2f\" "
			"height=\"%d\" "
			"fill=\"%s\"/>\n"
			"<text class=\"time\" x=\"%d\" y=\"%zu\" text-anchor=\"end\">%.1f "
			"µs</text></g>\n",
			s->waits ? " waits" : "", x_of(t, s->start), y + 3, width < 1 ? 1 : width,
			ROW - 6, colours[s->who], WIDTH - 8, y + 13,
			microseconds(s->end - s->start));
	return r;
}

/*
 * Draws the vertical lines of the time axis at equal distances, which are 1, 2 or 5 times a power
 * of ten of microseconds.
 */
static int add_axis(const struct timeline *t, struct strbuf *out)
{
	const uint64_t factors[] = {2, 5, 10};
	uint64_t total = t->end - t->begin, unit = 1000, step = unit;
	int r = 0;

	for (size_t i = 0; total / step > TICKS_MAX; i = (i + 1) % ARRAY_SIZE(factors)) {
		step = unit * factors[i];
		if (factors[i] == 10)
			unit = step;
	}
	for (uint64_t at = 0; at <= total && r >= 0; at += step) {
		double x = x_of(t, t->begin + at);
		r = strbuf_addf(out,
			"<line class=\"axis\" x1=\"%.2f\" y1=\"%d\" x2=\"%.2f\" y2=\"%zu\"/>"
			"<text class=\"time\" x=\"%.2f\" y=\"%d\" text-anchor=\"middle\">%g "
			"ms</text>\n",
			x, TOP - 6, x, TOP + t->n * ROW, x, TOP - 12, (double)at / 1e6);
	}
	return r;
}

static int add_title(const struct timeline *t, struct strbuf *out)
{
	int r = strbuf_addf(out, "caisson %s ", t->command);

	if (r >= 0)
		r = add_text(out, t->id, ERR_MAX);
	return r < 0 ? r
		     : strbuf_addf(out, ": %.2f ms, %s", microseconds(t->end - t->begin) / 1000,
			       t->result);
}

int timeline_svg(const struct timeline *t, struct strbuf *out)
{
	int r = strbuf_addf(out,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%zu\" "
		"viewBox=\"0 0 %d %zu\">\n<style>%s</style>\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n"
		"<text class=\"title\" x=\"8\" y=\"20\">",
		WIDTH, TOP + t->n * ROW + 8, WIDTH, TOP + t->n * ROW + 8, style);

	if (r >= 0)
		r = add_title(t, out);
	if (r >= 0)
		r = strbuf_addf(out, "</text>\n");
	if (r >= 0)
		r = add_axis(t, out);
	for (size_t i = 0; i < t->n && r >= 0; i++)
		r = add_row(t, i, out);
	return r < 0 ? r : strbuf_addf(out, "</svg>\n");
}

static int add_legend(const struct timeline *t, struct strbuf *out)
{
	int r = 0;

	for (size_t who = 0; who < ARRAY_SIZE(colours) && r >= 0; who++) {
		uint64_t works = 0, waits = 0;
		for (size_t i = 0; i < t->n; i++) {
			const struct timeline_span *s = &t->spans[i];
			if (s->who == who)
				*(s->waits ? &waits : &works) += s->end - s->start;
		}
		if (works || waits)
			r = strbuf_addf(out,
				"<li><b style=\"color:%s\">%s</b>: %.1f µs of work, %.1f µs of "
				"waiting</li>\n",
				colours[who], plan_place_name((enum step_place)who),
				microseconds(works), microseconds(waits));
	}
	return r;
}

int timeline_html(const struct timeline *t, struct strbuf *out)
{
	int r = strbuf_addf(
		out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>");

	if (r >= 0)
		r = add_title(t, out);
	if (r >= 0)
		r = strbuf_addf(out,
			"</title>\n<style>body{font:14px sans-serif;margin:16px}</style></head>"
			"<body>\n<h1>Where the time of this start went</h1>\n"
			"<p>A row for each step, in the order of their begin, with the step's "
			"number in the plan. Pale bars are time in which one party waits for "
			"another.</p>\n<ul>\n");
	if (r >= 0)
		r = add_legend(t, out);
	if (r >= 0)
		r = strbuf_addf(out, "</ul>\n");
	if (r >= 0)
		r = timeline_svg(t, out);
	return r < 0 ? r : strbuf_addf(out, "</body></html>\n");
}
