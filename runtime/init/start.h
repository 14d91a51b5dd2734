/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts caisson-init. The runtime calls these functions for a container on the host's own kernel,
 * and the agent in the guest of a microVM calls them too (guest/spawn.c).
 *
 * The caller sets the descriptors of `struct init_orders`, and its members for hooks, environment
 * and log. Then the caller calls these functions in the order in which they are declared.
 */
#pragma once
#include "base/arena.h"
#include "init/orders.h"
#include "ns/spawn.h"

/*
 * Reads a compiled system call filter, one number for each BPF instruction. INIT, the container's
 * first process, gets the numbers instead of the descriptor, because the file may be in a cache
 * that other containers use too.
 */
int init_filter_read(struct arena *a, int fd, uint64_t **ret, size_t *ret_n) must_check;

/*
 * Puts into the orders those steps of the plan that INIT, the container's first process, does; they
 * follow the step `clone`. Also puts in those of the plan->nslots descriptors that these steps
 * need, and, if o->container is set, the flags of the namespaces to enter. The arena must live as
 * long as the orders.
 */
int init_orders_put_plan(struct arena *a, const struct plan *plan, const struct step *clone,
	const int *slots, struct init_orders *o) must_check;

/*
 * Puts the container's state, which hooks get, into the orders. `json` is the state as JSON in
 * which "status" is "" and the next member, "pid", is 0.
 */
int init_orders_put_state(struct arena *a, const char *json, struct init_orders *o) must_check;

/*
 * Starts caisson-init, as ns_spawn() starts a process. init_start() itself sets the members
 * `orders`, `pass` and `npass` of *args; the caller sets the others.
 */
int init_start(struct arena *a, const struct init_orders *o, const struct ns_spawn_args *args,
	struct ns_child *ret) must_check;
