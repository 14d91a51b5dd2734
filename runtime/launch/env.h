/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chooses which variables of the runtime's environment reach the container, and names the
 * container's session keyring.
 */
#pragma once
#include "launch/container.h"
#include "plan/plan.h"

/*
 * Makes the environment of the container's program: process.env of config.json, with NOTIFY_SOCKET
 * and LISTEN_FDS added if the runtime's own environment has these two for the container. *ret is
 * NULL if process.env needs no change.
 */
int launch_env(struct arena *a, const struct spec_process *p, const struct plan_env *env,
	char *const **ret) must_check;

/*
 * Returns the name of the container's session keyring, in the container's arena; NULL if there is
 * no memory.
 */
const char *launch_keyring(struct container *c) must_check;

/*
 * Returns the number in the variable LISTEN_FDS of the runtime's own environment if the variable is
 * meant for the container, else 0.
 */
int launch_listen_fds(void);
