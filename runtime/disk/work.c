/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes a disk in pieces with several threads. Each thread finds its next piece under a lock,
 * and asks disk_map() or disk_map_chain() under the same lock what the piece contains, so that
 * holes take no other work. Then the thread processes the piece without the lock.
 */
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "disk/tool.h"

#define THREADS_MAX 16

struct state {
	struct tool_work *w;
	pthread_mutex_t lock;
	uint64_t next;
	/*
	 * the extent that disk_map() or disk_map_chain() returned last; may be longer than a piece
	 */
	struct disk_extent known;
	double shown; /* the percentage that was printed last */
	/* 0: the work goes on; 1: a thread has ended the work early; -errno: a thread has failed */
	int result;
	char message[ERR_MAX];
};

int tool_hold_progress_signal(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	return sigprocmask(SIG_BLOCK, &set, NULL) < 0 ? err_sys("block SIGUSR1") : 0;
}

/* Says whether SIGUSR1 has come since the last call. */
static bool is_asked(void)
{
	static const struct timespec now = {0};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	return sigtimedwait(&set, NULL, &now) == SIGUSR1;
}

/*
 * Shows the progress as qemu-img does, because programs read it: with -p in steps of 1 % on
 * standard output, without -p on standard error if SIGUSR1 asks for it.
 */
static void show_progress(struct state *s, bool last)
{
	double percent = s->w->end ? 100.0 * (double)s->next / (double)s->w->end : 100.0;
	bool asked = is_asked();

	if (!s->w->progress && asked)
		fprintf(stderr, "    (%3.2f/100%%)\n", percent);
	if (!s->w->progress || (!last && !asked && percent < s->shown + 1))
		return;
	s->shown = percent;
	printf("    (%3.2f/100%%)\r%s", percent, last ? "\n" : "");
	fflush(stdout);
}

/*
 * Makes the part of a hole zeros that is behind the end of the image's backing file, because the
 * target's backing file may have data there. Cuts the extent where that part begins or ends.
 */
static void cut_hole(const struct tool_work *w, struct disk_extent *e)
{
	const struct disk *backing = disk_backing(w->disk);
	uint64_t from = backing ? disk_size(backing) : UINT64_MAX, to = w->target_backing;

	if (e->kind != DISK_HOLE || from >= to || e->start >= to)
		return;
	if (e->start >= from)
		e->kind = DISK_ZERO;
	uint64_t end = e->start >= from ? to : from;
	if (e->length > end - e->start)
		e->length = end - e->start;
}

/*
 * Finds the extent at s->next. Returns the last extent again as long as s->next lies in it, because
 * some file systems read all of a long extent to find its end.
 */
static int map_next(struct state *s, struct disk_extent *e)
{
	struct tool_work *w = s->w;
	uint64_t at = s->next, known_end = s->known.start + s->known.length;
	unsigned depth;
	int r = 0;

	if (at < s->known.start || at >= known_end) {
		r = w->top ? disk_map(w->disk, at, w->end - at, &s->known)
			   : disk_map_chain(w->disk, at, w->end - at, &s->known, &depth);
		if (r >= 0 && w->top)
			cut_hole(w, &s->known);
		known_end = s->known.start + s->known.length;
	}
	*e = s->known;
	e->start = at;
	e->length = known_end - at;
	return r;
}

/*
 * Finds the next piece that has to be processed; a length of 0 means that there is no such piece. A
 * piece with data begins and ends at multiples of `align`, so it may include parts of neighbouring
 * extents. A piece that is a hole or zeros includes nothing else.
 */
static int claim(struct state *s, struct disk_extent *e)
{
	struct tool_work *w = s->w;

	while (s->next < w->end) {
		int r = map_next(s, e);

		if (r < 0)
			return r;
		bool empty = e->kind == DISK_HOLE || (e->kind == DISK_ZERO && !w->top);
		uint64_t start = s->next / w->align * w->align, end = s->next + e->length;
		if (empty && !w->all) {
			s->next = end;
			show_progress(s, false);
			continue;
		}
		bool whole = e->kind == DISK_HOLE || e->kind == DISK_ZERO;
		if (whole && (start < s->next || end < start + w->align))
			whole = false;
		end = whole ? end / w->align * w->align
			    : (end + w->align - 1) / w->align * w->align;
		if (!whole && end > start + w->piece)
			end = start + w->piece;
		if (end > w->end || (whole && s->next + e->length == w->end))
			end = w->end;
		if (!whole)
			e->kind = DISK_DATA;
		e->start = start;
		e->length = end - start;
		s->next = end;
		return 0;
	}
	e->length = 0;
	return 0;
}

static void fail(struct state *s, int r)
{
	if (s->result == 0 || (s->result == 1 && r < 0)) {
		s->result = r;
		snprintf(s->message, sizeof(s->message), "%s", r < 0 ? err_msg() : "");
	}
}

static void *work(void *arg)
{
	struct state *s = arg;
	void *context = NULL;
	int r = s->w->context_new ? s->w->context_new(s->w, &context) : 0;

	pthread_mutex_lock(&s->lock);
	while (r == 0 && s->result == 0) {
		struct disk_extent e;

		r = claim(s, &e);
		if (r < 0 || e.length == 0)
			break;
		show_progress(s, false);
		pthread_mutex_unlock(&s->lock);
		r = s->w->process(s->w, context, &e);
		pthread_mutex_lock(&s->lock);
	}
	if (r != 0)
		fail(s, r);
	pthread_mutex_unlock(&s->lock);
	if (context)
		s->w->context_free(context);
	return NULL;
}

int tool_run(struct tool_work *w)
{
	struct state s = {.w = w, .lock = PTHREAD_MUTEX_INITIALIZER, .shown = -1};
	pthread_t threads[THREADS_MAX];
	unsigned n = 0, want = w->threads > THREADS_MAX ? THREADS_MAX : w->threads;

	show_progress(&s, false);
	while (n + 1 < want && pthread_create(&threads[n], NULL, work, &s) == 0)
		n++;
	work(&s);
	while (n > 0)
		pthread_join(threads[--n], NULL);
	pthread_mutex_destroy(&s.lock);
	if (s.result >= 0)
		show_progress(&s, true);
	else if (w->progress)
		printf("\n");
	return s.result < 0 ? err_set(-s.result, "%s", s.message) : s.result;
}
