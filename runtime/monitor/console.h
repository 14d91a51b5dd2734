/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console of a foreign guest. The monitor keeps the last CONSOLE_RING bytes of its output, so
 * that a viewer who attaches late sees them too. What all viewers type goes to the guest.
 *
 * The monitor's loop polls the descriptors that console_poll() lists, and then calls
 * console_serve(). No function but console_finish() waits. A viewer that does not read loses output
 * once it is CONSOLE_RING bytes behind, except for the first viewer, which is the standard output
 * of `caisson run`: while the first viewer is CONSOLE_BEHIND bytes behind, the guest's output is
 * not read (console_is_full()), and the guest waits. At the end of the machine all that is left in
 * its socket is read, for which the rest of the ring has room.
 */
#pragma once
#include <poll.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define CONSOLE_RING (512u << 10)
#define CONSOLE_BEHIND (CONSOLE_RING / 2)
/*
 * The send buffer of the socket from the machine. The kernel doubles the number, and takes one more
 * piece of up to 32 KiB, so the socket never holds more than CONSOLE_RING - CONSOLE_BEHIND.
 */
#define CONSOLE_SEND_BUFFER (104 << 10)
/*
 * The same if the machine writes each byte by itself, as QEMU's serial port does. The kernel counts
 * several hundred bytes for each write, so that the smaller buffer would hold some 270 bytes only.
 * QEMU's port keeps up to 17 more, and a guest does not wait long: Linux overwrites what the port
 * has not sent after 10 ms for each byte.
 */
#define CONSOLE_SEND_BUFFER_OF_BYTES (4 << 20)
#define CONSOLE_INPUT 1024
#define CONSOLE_VIEWERS 9
/* how many descriptors console_poll() lists */
#define CONSOLE_FDS (2 * CONSOLE_VIEWERS)

struct console_viewer {
	/*
	 * descriptors of the viewer's input and output, which may be the same; -EBADF: the viewer
	 * has none
	 */
	int in, out;
	/* how many bytes of the console's whole output the viewer has got or has missed */
	uint64_t at;
};

struct console {
	char *ring;
	uint64_t total; /* how many bytes the guest has written to the console so far */
	struct console_viewer viewers[CONSOLE_VIEWERS];
	char input[CONSOLE_INPUT]; /* what viewers have typed, and the guest has not taken yet */
	size_t input_len;
};

/*
 * Makes the console, and takes ownership of in and out, the descriptors of the first viewer.
 * -EBADF: the first viewer has no input or no output. The console opens a terminal or a FIFO again,
 * with O_NONBLOCK.
 */
int console_init(struct console *c, int in, int out) must_check;
/*
 * Sets how much the socket holds to which the machine writes its output. `by_bytes` says that the
 * machine writes each byte by itself. Without CAP_NET_ADMIN the socket gets the smaller buffer also
 * then.
 */
int console_limit_socket(int sock, bool by_bytes) must_check;
/* Frees the console and closes the viewers' descriptors. Does nothing for a zeroed struct. */
void console_release(struct console *c);
/*
 * Adds a viewer whose input and output is `sock`. If it succeeds, the console owns the socket.
 * Returns -EMFILE if there are too many viewers.
 */
int console_attach(struct console *c, int sock) must_check;

void console_add(struct console *c, const char *text, size_t len); /* adds output of the guest */
bool console_is_full(const struct console *c);
/* Says whether there is output that the first viewer has not got yet. */
bool console_owes(const struct console *c);

void console_poll(const struct console *c, struct pollfd p[CONSOLE_FDS]);
void console_serve(struct console *c, const struct pollfd p[CONSOLE_FDS]);
/*
 * Writes to the first viewer what it has not got yet. Gives up if the viewer takes nothing for
 * `timeout_ms` milliseconds.
 */
void console_finish(struct console *c, int timeout_ms);
/*
 * Writes what the viewers have typed to the descriptor `guest`, which may take only a part of it.
 */
void console_type(struct console *c, int guest);
