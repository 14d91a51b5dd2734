/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What starting caisson-init takes, for both that do it: the runtime for a container on its own
 * kernel, and the agent in the guest of a microVM (guest/spawn.c).
 *
 * The caller sets the descriptors of `struct init_orders`, and what it has of hooks, environment
 * and log; then these functions are called in this order.
 */
#pragma once
#include "base/arena.h"
#include "init/orders.h"
#include "ns/spawn.h"

/*
 * Reads a compiled system call filter, one number for each instruction. INIT gets the instructions,
 * and not the file, which may be the cache's.
 */
int init_filter_read(struct arena *a, int fd, uint64_t **ret, size_t *ret_n) must_check;

/*
 * Puts INIT's steps behind `clone` into the orders, with those of the plan->nslots descriptors that
 * the steps need, and the namespaces to enter if o->container is set. The arena must live as long
 * as the orders.
 */
int init_orders_put_plan(struct arena *a, const struct plan *plan, const struct step *clone,
	const int *slots, struct init_orders *o) must_check;

/* Puts the state for hooks in: JSON in which "status" is "" and "pid", the next member, is 0. */
int init_orders_put_state(struct arena *a, const char *json, struct init_orders *o) must_check;

/*
 * Makes the process, as ns_spawn() does. init_start() sets the members `orders`, `pass` and `npass`
 * of the arguments itself.
 */
int init_start(struct arena *a, const struct init_orders *o, const struct ns_spawn_args *args,
	struct ns_child *ret) must_check;
