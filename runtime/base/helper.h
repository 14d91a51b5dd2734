/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a helper program for one request and waits until it ends. The program's standard input,
 * output and error are memfds, so neither side ever waits for the other to read or write.
 */
#pragma once
#include "base/fd.h"
#include "base/str.h"

struct helper_streams {
	int fd[3]; /* standard input, output and error of the helper program: one memfd each */
};

#define HELPER_STREAMS_INIT \
	{ \
		{ \
			-EBADF, -EBADF, -EBADF \
		} \
	}
#define _cleanup_helper_streams_ __attribute__((cleanup(helper_streams_close), unused))

/*
 * Makes the memfds for the helper program's three streams, and writes `input` to the one that
 * becomes the helper's standard input.
 */
int helper_streams_open(struct helper_streams *s, const void *input, size_t len) must_check;
void helper_streams_close(struct helper_streams *s);

/* Reads what the helper program wrote to its standard output (stream 1) or error (stream 2). */
int helper_read(const struct helper_streams *s, int stream, struct strbuf *ret, size_t max)
	must_check;

/*
 * Runs the helper program at `path`, or in $PATH if `path` has no slash, and waits for it. argv has
 * NULL at its end. *ret_status is a status as waitpid(2) returns it. If the program could not be
 * executed, its exit code is 127, and its standard error has a line that says why. The kernel kills
 * the helper if its caller ends. The helper is in a process group of its own, so that the keys of a
 * terminal do not end it.
 */
int helper_run(const struct helper_streams *s, const char *path, const char *const *argv,
	int *ret_status) must_check;

/*
 * Returns the last line of a text. Removes the line end of that line from the text in the buffer.
 */
const char *helper_last_line(struct strbuf *text);
