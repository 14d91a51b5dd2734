/* SPDX-License-Identifier: Apache-2.0 */
#include "image/progress.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "image/image.h"

#define SHOW_EVERY_MS 100
#define BAR 24

void progress_init(struct progress *p, bool json, bool quiet, uint64_t all)
{
	*p = (struct progress){.all = all, .started = clock_ms()};
	p->form = quiet                   ? PROGRESS_NONE
		  : json                  ? PROGRESS_JSON
		  : isatty(STDERR_FILENO) ? PROGRESS_TERMINAL
					  : PROGRESS_LINES;
}

/*
 * Returns in how many seconds the work ends if it goes on at its rate so far, or -1 if the rate is
 * not known yet.
 */
static int64_t seconds_left(const struct progress *p, uint64_t done)
{
	int64_t ms = clock_ms() - p->started;

	if (ms < 500 || done == 0 || done > p->all)
		return -1;
	return (int64_t)((double)(p->all - done) * (double)ms / (double)done / 1000);
}

static void show_terminal(const struct progress *p)
{
	uint64_t done = p->all_done + p->done;
	int64_t ms = clock_ms() - p->started, left = seconds_left(p, done);
	int full = p->all ? (int)(done * BAR / p->all) : BAR;
	char have[24], all[24], rate[24], bar[BAR + 1];

	for (int i = 0; i < BAR; i++)
		bar[i] = i < full ? '#' : '.';
	bar[BAR] = '\0';
	image_size_text(done, have, sizeof(have));
	image_size_text(p->all, all, sizeof(all));
	image_size_text(ms > 0 ? done * 1000 / (uint64_t)ms : 0, rate, sizeof(rate));
	fprintf(stderr, "\r\033[Klayer %zu of %zu [%s] %s of %s, %s/s", p->index + 1, p->count, bar,
		have, all, rate);
	if (left >= 0)
		fprintf(stderr, ", %lld s left", (long long)left);
	fflush(stderr);
}

static void show_json(const struct progress *p, const char *event)
{
	fprintf(stderr,
		"{\"event\":\"%s\",\"layer\":%zu,\"layers\":%zu,\"digest\":\"%s\",\"bytes\":%llu,"
		"\"size\":%llu,\"allBytes\":%llu,\"allSize\":%llu}\n",
		event, p->index + 1, p->count, p->name, (unsigned long long)p->done,
		(unsigned long long)p->size, (unsigned long long)(p->all_done + p->done),
		(unsigned long long)p->all);
}

void progress_layer(void *data, size_t index, size_t count, const struct descriptor *d)
{
	struct progress *p = data;
	char size[24];

	p->all_done += p->size;
	p->index = index;
	p->count = count;
	p->size = d->size;
	p->done = 0;
	snprintf(p->name, sizeof(p->name), "%.19s", d->digest.text);
	image_size_text(d->size, size, sizeof(size));
	if (p->form == PROGRESS_LINES)
		fprintf(stderr, "layer %zu of %zu: %s, %s\n", index + 1, count, p->name, size);
	else if (p->form == PROGRESS_JSON)
		show_json(p, "layer");
	else if (p->form == PROGRESS_TERMINAL)
		show_terminal(p);
}

void progress_bytes(void *data, uint64_t done)
{
	struct progress *p = data;

	p->done = done;
	if (p->form != PROGRESS_TERMINAL && p->form != PROGRESS_JSON)
		return;
	int64_t now = clock_ms();
	if (now - p->shown < (p->form == PROGRESS_JSON ? 10 * SHOW_EVERY_MS : SHOW_EVERY_MS))
		return;
	p->shown = now;
	if (p->form == PROGRESS_TERMINAL)
		show_terminal(p);
	else
		show_json(p, "progress");
}

void progress_end(struct progress *p)
{
	if (p->form == PROGRESS_TERMINAL)
		fprintf(stderr, "\r\033[K");
}
