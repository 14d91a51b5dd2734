/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives an ordinary user's container a network. Such a user may make no interface on the host, so a
 * process of the user, pasta or slirp4netns, passes packets between an interface of the container's
 * namespace and sockets of the host.
 */
#pragma once
#include "network/files.h"

struct user_join {
	/*
	 * "pasta", "slirp4netns", or JOIN_USER, which means the first of these that is installed.
	 * For a microVM with published ports slirp4netns is the first, because pasta passes the
	 * connections of the host's loopback interface on to that of the namespace, which no
	 * program of the guest listens on.
	 */
	const char *program;
	bool microvm;
	const char *id;
	const char *record; /* /proc/PID/ns/net of the container's first process */
	const struct option_list *ports;
	const struct container_files *files;
};

/* Starts the program, which publishes the ports. If that fails, undoes everything. */
int user_join(const struct tool_globals *g, const struct user_join *j) must_check;

/*
 * Ends the program. Returns 0 if there is none, or if `record` is not NULL and the program serves
 * another namespace.
 */
int user_leave(const struct tool_globals *g, const char *id, const char *record) must_check;
