/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console of a foreign guest. Its last CONSOLE_RING bytes are kept, so that who attaches late
 * sees them too. What all viewers type goes to the guest.
 *
 * The monitor's loop polls the descriptors that console_poll() lists, and then calls
 * console_serve(). Nothing here waits. A viewer that does not read is skipped over once it is a
 * whole ring behind, except for the first viewer, which is what `caisson run` was given as standard
 * output: while it is that far behind, the guest's output is not read (console_is_full()), and the
 * guest waits.
 */
#pragma once
#include <poll.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define CONSOLE_RING (256u << 10)
#define CONSOLE_INPUT 1024
#define CONSOLE_VIEWERS 9
/* how many descriptors console_poll() lists */
#define CONSOLE_FDS (2 * CONSOLE_VIEWERS)

struct console_viewer {
	int in, out; /* may be the same; -EBADF: none */
	uint64_t at; /* how many bytes of all the output it has got, or was too late for */
};

struct console {
	char *ring;
	uint64_t total; /* bytes of the guest's output so far */
	struct console_viewer viewers[CONSOLE_VIEWERS];
	char input[CONSOLE_INPUT]; /* what was typed, and the guest has not taken yet */
	size_t input_len;
};

/* in and out are the first viewer's, and belong to the console then; -EBADF: none. */
int console_init(struct console *c, int in, int out) must_check;
/* Releases what console_init() has made. A zeroed struct is left alone. */
void console_release(struct console *c);
/*
 * Adds a viewer by a socket, which belongs to the console then. Returns -EMFILE if there are too
 * many.
 */
int console_attach(struct console *c, int sock) must_check;

void console_add(struct console *c, const char *text, size_t len); /* output of the guest */
bool console_is_full(const struct console *c);
/* Says whether the first viewer has yet to get some of the output. */
bool console_owes(const struct console *c);

void console_poll(const struct console *c, struct pollfd p[CONSOLE_FDS]);
void console_serve(struct console *c, const struct pollfd p[CONSOLE_FDS]);
/* Writes what was typed to the guest, which may take only a part. */
void console_type(struct console *c, int guest);
