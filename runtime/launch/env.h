/* SPDX-License-Identifier: Apache-2.0 */
/* What of the runtime's environment reaches the container, and the name of its session keyring. */
#pragma once
#include "launch/container.h"
#include "plan/plan.h"

/*
 * The program's environment, with NOTIFY_SOCKET and LISTEN_FDS if they apply; NULL if it is
 * process.env unchanged.
 */
int launch_env(struct arena *a, const struct spec_process *p, const struct plan_env *env,
	char *const **ret) must_check;

/* The name of a container's session keyring, in its arena; NULL: out of memory. */
const char *launch_keyring(struct container *c) must_check;

/* LISTEN_FDS of the runtime's own environment, if it is meant for the container; else 0. */
int launch_listen_fds(void);
