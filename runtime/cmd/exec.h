/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the command `exec` share: the options that only this command has. */
#pragma once
#include "cmd/cmd.h"
#include "launch/launch.h"

#define EXEC_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct exec_args {
	const char *process_file, *cwd, *user, *apparmor, *label;
	struct option_list env, caps, gids;
	struct opt_bool no_new_privs;
	bool tty;
};

/* An option of `exec` that a machine with an operating system of its own may not fulfil. */
struct exec_option {
	bool given;
	const char *name;
};

/* Refuses the first of the options that was given. `why` ends the error message. */
int exec_refuse_options(const struct container *c, const struct exec_option *options, size_t n,
	const char *why) must_check;
/*
 * Refuses the options that neither qemu-guest-agent nor ssh can fulfil, which run the command of a
 * guest without caisson's agent. Some of them that agent cannot fulfil either.
 */
int exec_refuse_agents_options(const struct exec_args *x, const struct exec_options *o,
	const struct container *c, const char *why) must_check;

/*
 * exec_qga.c: runs the command in a foreign guest by qemu-guest-agent. Refuses the options that the
 * agent cannot fulfil. *ret_status is the exit code of `exec`. Returns 1 if the agent does not
 * answer or may run no commands, or the command needs a terminal, and ssh can run the command
 * instead.
 */
int exec_by_qga(const struct exec_args *x, const struct exec_options *o, struct container *c,
	const struct arguments *args, int *ret_status) must_check;
