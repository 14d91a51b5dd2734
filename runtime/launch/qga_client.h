/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs commands in a foreign guest by qemu-guest-agent, through the machine's monitor
 * (monitor/control.h). The functions wait for the agent's answers, for which the monitor sets time
 * limits.
 */
#pragma once
#include "launch/container.h"
#include "spec/spec.h"

/* How many bytes of standard input the agent can be given: it takes the whole in one message. */
#define QGA_INPUT_MAX ((size_t)4 << 20)

struct qga_program {
	struct spec_strings args, env; /* env: the whole environment */
	const struct strbuf *input;    /* standard input; empty: /dev/null */
	/*
	 * gets each piece of the output; NULL: the output is dropped, and nobody waits for the end
	 */
	int (*output)(void *data, int fd, const void *piece, size_t len);
	void *data;
};

struct qga_end {
	int64_t pid; /* of the program, in the guest */
	int status;  /* as waitpid(2) returns it */
	/*
	 * the name of the output of which the agent has kept only the beginning; NULL: it has all
	 */
	const char *truncated;
};

/*
 * Asks the agent whether it runs commands. Returns -ENOTSUP with a message if its configuration
 * disables that, or another error if it does not answer.
 */
int qga_check(struct container *c) must_check;
/* Runs the program, and with `output` waits for its end. */
int qga_run(struct container *c, const struct qga_program *p, struct qga_end *ret) must_check;
