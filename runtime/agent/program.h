/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program that an exec starts in a machine with an operating system of its own. It is the blob
 * of the message "exec" (agent/protocol.h) to the agent that `caisson machine install-agent` puts
 * into a disk. The blob has no orders (agent/orders.h), because orders are the bytes of one build
 * of caisson, and the agent in a disk may come from another build.
 *
 * The blob is a list of texts NAME=VALUE, each of which ends in a NUL:
 *	arg, env	one for each argument and variable, in order
 *	cwd		the working directory
 *	uid, gid	numbers; group: one for each additional group
 *	rows, columns	size of the terminal; if both are missing, it has no size
 *	terminal, no-new-privileges	1; if it is missing, the process has none
 * A reader refuses a name that it does not know, because it could not do what the name asks for.
 */
#pragma once
#include "base/str.h"
#include "spec/spec.h"

#define AGENT_PROGRAM_WORDS_MAX 65536  /* how many arguments, or variables, there are at most */
#define AGENT_PROGRAM_GROUPS_MAX 65536 /* how many groups a process can have (NGROUPS_MAX) */

/* Appends the blob for the process to *ret. Members that the list above does not have are lost. */
int agent_program_pack(const struct spec_process *p, struct strbuf *ret) must_check;

/*
 * Reads a blob. *ret and what it points to are in the arena. Returns -EPROTO with a message if the
 * blob is not as described above, or has no argument.
 */
int agent_program_unpack(struct arena *a, const void *blob, size_t len, struct spec_process *ret)
	must_check;
