/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records where the time of a start goes, for --timeline, and writes it as JSON, SVG or HTML.
 *
 * Theory of operation. All times are CLOCK_MONOTONIC. The host's spans follow each other without a
 * gap: each begins where the last one ended, and ends when timeline_mark() or timeline_host_step()
 * is called. INIT, the container's first process, sends a message after each step (CHANNEL_STEP)
 * with the time of sending and the time that the step took. The runtime may read a message late,
 * but its times are right, because both processes have the same clock.
 *
 * Only in a time namespace INIT's clock may differ. The runtime notices this by a message whose
 * time is in the future or before INIT existed. From then on the runtime places INIT's steps by the
 * time at which it read that message.
 *
 * In VM mode the monitor tells what it and the guest have done (CHANNEL_SPAN), and has converted
 * the guest's times to the host's clock (monitor/spans.c).
 *
 * Without --timeline the pointer in struct launch is NULL, and all functions here return at once.
 */
#pragma once
#include "base/str.h"
#include "launch/host.h"

enum timeline_form { TIMELINE_JSON, TIMELINE_SVG, TIMELINE_HTML };

struct timeline_span {
	enum step_place who;
	/*
	 * the step of the plan that the span is about; NULL: a part of the host's work that is no
	 * step
	 */
	const struct step *step;
	size_t number; /* number of the step in the whole plan, counted from 1 */
	const char *name;
	uint64_t start, end;
	bool waits; /* whether the party only waited for another one */
};

struct timeline {
	const char *path;
	int fd; /* descriptor of the file that gets the timeline, or -EBADF */
	enum timeline_form form;
	/* command such as "run", and the container's ID, for the title of the timeline */
	const char *command, *id;
	struct timeline_span *spans;
	size_t n, capacity;
	uint64_t begin, end; /* begin and end of the whole start of the container */
	uint64_t from;       /* time at which the host's next span begins */
	uint64_t clone_begin, clone_end;
	/* end of the last span of each party of the plan but the host */
	uint64_t last_end[PLACE_GUEST + 1];
	/* nanoseconds to add to the times that INIT (the container's first process) reports */
	int64_t skew;
	/* how the start ended: "running", "created" or "failed" */
	const char *result;
};

#define TIMELINE_INIT \
	{ \
		.fd = -EBADF \
	}

/*
 * Opens the timeline's file and begins to record into *t, which *l refers to from then on. Does
 * nothing if `path` is NULL. The suffix of the path chooses the form: JSON, SVG or HTML. `command`
 * is the name of the command, for the title.
 */
int timeline_open(struct timeline *t, const char *path, const char *command, struct launch *l)
	must_check;
void timeline_close(struct timeline *t);
#define _cleanup_timeline_ __attribute__((cleanup(timeline_close), unused))

/* Ends a span of the host's work that is no step of the plan, and gives the span this name. */
void timeline_mark(struct timeline *t, const char *name);
/* Ends the span of the plan's step l->next_step, which the host has done. */
void timeline_host_step(struct launch *l);
/*
 * Records a message CHANNEL_STEP, by which INIT (the container's first process) reports that it has
 * done a step, and logs the message. `data` is the struct launch.
 */
void timeline_init_step(void *data, const struct channel_msg *m);
/* Records a message CHANNEL_SPAN of a microVM's monitor. Does nothing without --timeline. */
int timeline_span(struct launch *l, const struct channel_msg *m) must_check;
/*
 * Ends the span in which the host waits until INIT (the container's first process) has executed the
 * program.
 */
void timeline_executed(struct launch *l);

/*
 * Writes the timeline's file. `result` is "running", "created", or "failed". If writing fails, a
 * warning is logged, because the container runs all the same. A second call does nothing.
 */
void timeline_write(struct launch *l, const char *result);

/*
 * timeline_svg() draws the spans of a timeline, which are sorted by their begin, as an SVG, and
 * timeline_html() as an HTML page.
 */
int timeline_svg(const struct timeline *t, struct strbuf *out) must_check;
int timeline_html(const struct timeline *t, struct strbuf *out) must_check;
