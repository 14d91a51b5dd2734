/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network of an ordinary user's container. Such a user may make no interface on the host, so a
 * process of the user, pasta or slirp4netns, passes packets between an interface of the container's
 * namespace and sockets of the host.
 */
#pragma once
#include "network/files.h"

struct user_join {
	/* "pasta", "slirp4netns", or JOIN_USER: the first of these that can be had */
	const char *program;
	const char *id;
	const char *record; /* /proc/PID/ns/net of the container's first process */
	const struct option_list *ports;
	const struct container_files *files;
};

/* Starts the program, which publishes the ports. Nothing is left if that fails. */
int user_join(const struct tool_globals *g, const struct user_join *j) must_check;

/*
 * Ends the program. Returns 0 if there is none, or if it is of another namespace than record, which
 * may be NULL.
 */
int user_leave(const struct tool_globals *g, const char *id, const char *record) must_check;
