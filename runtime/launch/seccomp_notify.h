/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends the seccomp listener of the container's process to the program that answers it (the seccomp
 * agent).
 */
#pragma once
#include "launch/container.h"

/*
 * The seccomp agent: the program that decides about system calls whose action is SCMP_ACT_NOTIFY.
 */
struct seccomp_agent {
	const struct spec_seccomp *seccomp;
	pid_t pid;
	const char *status; /* the container's OCI status, which is sent to the seccomp agent */
};

/*
 * Sends the seccomp listener of the container's process to the agent at linux.seccomp.listenerPath.
 */
int seccomp_notify_send(const struct container *c, const struct seccomp_agent *to, int listener)
	must_check;
