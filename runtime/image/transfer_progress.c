/* SPDX-License-Identifier: Apache-2.0 */
#include "image/transfer_progress.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "image/image.h"

#define SHOW_EVERY_MS 100
#define JSON_EVERY_MS 1000
#define BAR 24

void transfer_progress_init(struct transfer_progress *p, bool json, bool quiet, const char *where)
{
	*p = (struct transfer_progress){
		.where = where, .started = clock_ms(), .lock = PTHREAD_MUTEX_INITIALIZER};
	p->form = quiet                   ? PROGRESS_NONE
		  : json                  ? PROGRESS_JSON
		  : isatty(STDERR_FILENO) ? PROGRESS_TERMINAL
					  : PROGRESS_LINES;
}

/* Ends a JSON object that begin_event() has begun, and prints it on one line of standard error. */
static void end_event(struct json_out *o)
{
	const char *text;
	size_t len;

	json_out_end_object(o);
	if (json_out_text(o, &text, &len) >= 0)
		fprintf(stderr, "%.*s\n", (int)strcspn(text, "\n"), text);
	json_out_release(o);
}

static bool begin_event(struct json_out *o, const char *event)
{
	*o = (struct json_out){0};
	if (json_out_init(o, false) < 0)
		return false;
	json_out_object(o, NULL);
	json_out_str(o, "event", event);
	return true;
}

static void wipe(struct transfer_progress *p)
{
	for (; p->lines > 0; p->lines--)
		fprintf(stderr, "\033[A\r\033[K");
}

static void draw_bar(const struct transfer_bar *b)
{
	char have[24], all[24], bar[BAR + 1];
	int full = b->size ? (int)((double)b->done * BAR / (double)b->size) : BAR;

	for (int i = 0; i < BAR; i++)
		bar[i] = i < full ? '#' : '.';
	bar[BAR] = '\0';
	image_size_text(b->done, have, sizeof(have));
	image_size_text(b->size, all, sizeof(all));
	fprintf(stderr, "%s [%s] %s of %s\n", b->name, bar, have, all);
}

static void draw_all(const struct transfer_progress *p)
{
	char have[24], all[24], rate[24];
	int64_t ms = clock_ms() - p->started;

	image_size_text(p->done, have, sizeof(have));
	image_size_text(p->all, all, sizeof(all));
	image_size_text(ms > 0 ? p->moved * 1000 / (uint64_t)ms : 0, rate, sizeof(rate));
	fprintf(stderr, "%zu of %zu blobs, %s of %s, %s/s", p->blobs_done, p->blobs, have, all,
		rate);
	if (ms >= 500 && p->moved > 0 && p->done <= p->all)
		fprintf(stderr, ", %.0f s left",
			(double)(p->all - p->done) * (double)ms / (double)p->moved / 1000);
	fputc('\n', stderr);
}

static void draw(struct transfer_progress *p)
{
	wipe(p);
	for (size_t i = 0; i < ARRAY_SIZE(p->bars); i++)
		if (p->bars[i].used) {
			draw_bar(&p->bars[i]);
			p->lines++;
		}
	draw_all(p);
	p->lines++;
	fflush(stderr);
	p->shown = clock_ms();
}

static void on_notice(struct transfer_progress *p, const char *text)
{
	struct json_out o;

	if (p->form == PROGRESS_JSON && begin_event(&o, "notice")) {
		json_out_str(&o, "text", text);
		end_event(&o);
	} else if (p->form == PROGRESS_TERMINAL || p->form == PROGRESS_LINES) {
		char line[1024];
		str_clean(line, sizeof(line), text, strlen(text));
		wipe(p);
		fprintf(stderr, "%s\n", line);
	}
}

static void on_plan(struct transfer_progress *p, size_t blobs, uint64_t bytes)
{
	struct json_out o;

	p->blobs = blobs;
	p->all = bytes;
	p->started = clock_ms();
	if (p->form == PROGRESS_JSON && begin_event(&o, "plan")) {
		json_out_u64(&o, "blobs", blobs);
		json_out_u64(&o, "size", bytes);
		end_event(&o);
	}
}

static struct transfer_bar *find_bar(struct transfer_progress *p, size_t index)
{
	for (size_t i = 0; i < ARRAY_SIZE(p->bars); i++)
		if (p->bars[i].used && p->bars[i].index == index)
			return &p->bars[i];
	return NULL;
}

static void begin_bar(struct transfer_progress *p, size_t index, const struct descriptor *d)
{
	for (size_t i = 0; i < ARRAY_SIZE(p->bars); i++)
		if (!p->bars[i].used) {
			p->bars[i] = (struct transfer_bar){
				.used = true, .index = index, .size = d->size};
			snprintf(p->bars[i].name, sizeof(p->bars[i].name), "%.19s", d->digest.text);
			return;
		}
}

static void end_bar(struct transfer_progress *p, size_t index, uint64_t size)
{
	struct transfer_bar *b = find_bar(p, index);

	p->blobs_done++;
	p->done += size - (b ? b->done : 0);
	if (b)
		b->used = false;
}

static void say_blob(
	struct transfer_progress *p, const struct descriptor *d, enum transfer_state state)
{
	static const char *const states[] = {[TRANSFER_BEGUN] = "begun",
		[TRANSFER_PRESENT] = "present",
		[TRANSFER_DONE] = "done"};
	struct json_out o;
	char size[24];

	if (p->form == PROGRESS_JSON && begin_event(&o, "blob")) {
		json_out_str(&o, "digest", d->digest.text);
		json_out_u64(&o, "size", d->size);
		json_out_str(&o, "state", states[state]);
		end_event(&o);
	}
	if (state == TRANSFER_BEGUN || p->form == PROGRESS_JSON || p->form == PROGRESS_NONE)
		return;
	wipe(p);
	image_size_text(d->size, size, sizeof(size));
	fprintf(stderr, "%.19s: %s%s%s%s\n", d->digest.text, size,
		state == TRANSFER_PRESENT ? ", in " : "", state == TRANSFER_PRESENT ? p->where : "",
		state == TRANSFER_PRESENT ? " already" : "");
}

static void on_blob(struct transfer_progress *p, size_t index, const struct descriptor *d,
	enum transfer_state state)
{
	if (state == TRANSFER_BEGUN)
		begin_bar(p, index, d);
	else
		end_bar(p, index, d->size);
	say_blob(p, d, state);
	if (p->form == PROGRESS_TERMINAL)
		draw(p);
}

/*
 * Takes the number of bytes of blob `index` that were moved so far. The number gets smaller if the
 * transfer of the blob starts again.
 */
static void on_bytes(struct transfer_progress *p, size_t index, uint64_t done)
{
	struct transfer_bar *b = find_bar(p, index);
	struct json_out o;

	if (!b)
		return;
	p->done = p->done - b->done + done;
	p->moved += done > b->done ? done - b->done : 0;
	b->done = done;
	int64_t every = p->form == PROGRESS_JSON ? JSON_EVERY_MS : SHOW_EVERY_MS;
	if (clock_ms() - p->shown < every)
		return;
	if (p->form == PROGRESS_TERMINAL)
		draw(p);
	if (p->form == PROGRESS_JSON && begin_event(&o, "progress")) {
		json_out_str(&o, "blob", b->name);
		json_out_u64(&o, "bytes", b->done);
		json_out_u64(&o, "size", b->size);
		json_out_u64(&o, "allBytes", p->done);
		json_out_u64(&o, "allSize", p->all);
		end_event(&o);
		p->shown = clock_ms();
	}
}

/*
 * The functions of the transfer listener take p->lock, because a thread of the transfer may call
 * notice() to announce a pause while another thread calls another function of the listener.
 */
static void notice(void *data, const char *text)
{
	struct transfer_progress *p = data;

	pthread_mutex_lock(&p->lock);
	on_notice(p, text);
	pthread_mutex_unlock(&p->lock);
}

static void plan(void *data, size_t blobs, uint64_t bytes)
{
	struct transfer_progress *p = data;

	pthread_mutex_lock(&p->lock);
	on_plan(p, blobs, bytes);
	pthread_mutex_unlock(&p->lock);
}

static void blob(void *data, size_t index, const struct descriptor *d, enum transfer_state state)
{
	struct transfer_progress *p = data;

	pthread_mutex_lock(&p->lock);
	on_blob(p, index, d, state);
	pthread_mutex_unlock(&p->lock);
}

static void bytes(void *data, size_t index, uint64_t done)
{
	struct transfer_progress *p = data;

	pthread_mutex_lock(&p->lock);
	on_bytes(p, index, done);
	pthread_mutex_unlock(&p->lock);
}

struct transfer_listener transfer_progress_listener(struct transfer_progress *p)
{
	return (struct transfer_listener){notice, plan, blob, bytes, p};
}

void transfer_progress_end(struct transfer_progress *p)
{
	wipe(p);
	fflush(stderr);
}
