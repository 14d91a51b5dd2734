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
	 * "pasta", "slirp4netns", or JOIN_USER: pasta if it is installed, else slirp4netns. For a
	 * microVM with published ports JOIN_USER prefers slirp4netns, because pasta passes
	 * connections to the host's loopback interface on to the loopback interface of the
	 * namespace, on which no program of the guest listens.
	 */
	const char *program;
	bool microvm;
	const char *id;
	/* path of the container's network namespace, /proc/PID/ns/net of its first process */
	const char *record;
	const struct option_list *ports;
	const struct container_files *files;
};

/*
 * Starts pasta or slirp4netns, which publishes the ports. If that fails, ends the program and
 * removes its files.
 */
int user_join(const struct tool_globals *g, const struct user_join *j) must_check;

/*
 * Ends the process of pasta or slirp4netns that serves the container. Returns 0 if there is no such
 * process, or if `record` is not NULL and the process serves another namespace.
 */
int user_leave(const struct tool_globals *g, const char *id, const char *record) must_check;
