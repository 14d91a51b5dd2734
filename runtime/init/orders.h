/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The orders: everything that caisson-init, the program of INIT (the container's first process),
 * has to know. The orders are in a sealed memfd, which is descriptor 0 of caisson-init. They are
 * not on the command line or in the environment, because other processes can read these two.
 *
 * A member for a descriptor holds the number that the descriptor has in INIT; -1: INIT does not get
 * the descriptor.
 */
#pragma once
#include "base/pack.h"
#include "plan/plan.h"

struct init_orders {
	/*
	 * the steps that INIT, the container's first process, does, and all barriers (points where
	 * INIT and the runtime wait for each other)
	 */
	struct plan plan;
	/* array of plan.nslots descriptors, to which steps of the plan refer by index */
	int32_t *slots;
	size_t nslots;
	/*
	 * The program's environment if has_env is set; else the program's environment is
	 * process.env.
	 */
	struct spec_strings env;
	bool has_env;
	int32_t channel, start_fifo, result_fifo;
	/*
	 * descriptor of the container's standard input, because descriptor 0 holds the orders
	 * instead
	 */
	int32_t stdin_fd;
	int32_t container; /* set for an exec: a pidfd of the container's first process */
	/*
	 * set for an exec with a seccomp listener: the pid namespace of the container's first
	 * process
	 */
	int32_t pid_ns;
	int32_t hook_out[2];
	/*
	 * CLONE_NEW* flags of those namespaces of the process `container` that the new process
	 * enters
	 */
	uint64_t enter_flags;
	uint32_t preserve_fds;
	uint64_t *filter; /* the compiled system call filter, one number for each BPF instruction */
	size_t nfilter;
	/*
	 * INIT, the container's first process, becomes non-dumpable only after its id maps are
	 * written: see struct ns_init_args.
	 */
	bool hide_late;
	uint32_t log_level;
	/*
	 * INIT, the container's first process, tells the runtime which steps it has done and how
	 * long each took.
	 */
	bool tell_steps;
	/*
	 * The container's state (JSON), which hooks get: the part before the status and the part
	 * after the pid. NULL: the container's first process runs no hooks.
	 */
	const char *state_head, *state_tail;
};

/*
 * init_orders_pack() turns orders into bytes, and init_orders_unpack() turns such bytes into
 * orders, like pack_write() and pack_read() (base/pack.h).
 */
int init_orders_pack(const struct init_orders *orders, struct strbuf *ret) must_check;
int init_orders_unpack(void *bytes, size_t len, struct init_orders **ret) must_check;

/* Writes the orders into a sealed memfd and returns its descriptor. */
int init_orders_write(const struct init_orders *orders) must_check;

/* Maps the orders that are in the file fd into memory; *ret is valid until the process ends. */
int init_orders_read(int fd, struct init_orders **ret) must_check;
