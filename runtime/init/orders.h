/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The orders: all that caisson-init is told, in a sealed memfd that it has as descriptor 0. Its
 * command line and its environment say nothing, because other processes can read those.
 *
 * Numbers of descriptors are those that INIT has them by; -1: there is none.
 */
#pragma once
#include "base/pack.h"
#include "plan/plan.h"

struct init_orders {
	struct plan plan; /* INIT's steps, and the barriers */
	int32_t *slots;   /* plan.nslots */
	size_t nslots;
	struct spec_strings env; /* of the program, if has_env; else process.env */
	bool has_env;
	int32_t channel, start_fifo, result_fifo;
	int32_t stdin_fd;  /* the standard input, in whose place the orders are */
	int32_t container; /* exec: a pidfd of the container's first process */
	int32_t pid_ns;    /* its pid namespace, for an exec with a listener */
	int32_t hook_out[2];
	uint64_t enter_flags; /* CLONE_NEW* of the namespaces to enter by that pidfd */
	uint32_t preserve_fds;
	uint64_t *filter; /* the compiled system call filter, one number an instruction */
	size_t nfilter;
	bool hide_late; /* see struct ns_init_args */
	uint32_t log_level;
	bool tell_steps; /* a line to the log of each step, with its time */
	/* The state that hooks get, before the status, and behind the pid; NULL: no hooks. */
	const char *state_head, *state_tail;
};

/*
 * Writes the orders as bytes, and makes orders of such bytes, as pack_write() and pack_read() do.
 */
int init_orders_pack(const struct init_orders *orders, struct strbuf *ret) must_check;
int init_orders_unpack(void *bytes, size_t len, struct init_orders **ret) must_check;

/* Returns a descriptor of a sealed memfd. */
int init_orders_write(const struct init_orders *orders) must_check;

/* Maps the orders that are in fd; *ret lives as long as the process. */
int init_orders_read(int fd, struct init_orders **ret) must_check;
