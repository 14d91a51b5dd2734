/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of `run --image` and `create --image` share. */
#pragma once
#include "cmd/cmd.h"
#include "launch/launch.h"
#include "run/prepare.h"

/*
 * Options that only a machine has. caisson-inside parses their values. They are listed here only
 * to refuse them for an image that contains a program.
 */
struct machine_only {
	const char *size, *overlay, *format, *cloud_init, *vendor_data, *network_config, *ssh_key;
	const char *append, *initrd, *inspect_kernel, *firmware, *firmware_vars, *ssh_user;
	bool ephemeral, vnc;
};

struct image_run {
	struct globals globals; /* the global options, of which `root` is an absolute path */
	struct run_options options;
	struct machine_only machine;
	bool create; /* true: `create --image`; false: `run --image` */
	/* the command's words before any of them was parsed; the array ends in NULL */
	int argc;
	char **argv;
	struct arena arena;
	const char *name;
	struct run_bundle bundle;
};

/* Sets the options of the `caisson run --bundle` to which this `run --image` is equivalent. */
int run_image_options(struct image_run *r, struct launch_options *ret) must_check;

/*
 * Waits for a child process, which an error message calls `what`. Returns its exit code, or 128
 * plus the number of the signal that killed it.
 */
int run_image_wait(pid_t pid, const char *what) must_check;

/*
 * Ends a child process of this command. If the child has failed, prints the error on standard error
 * before.
 */
_Noreturn void run_image_end_child(int r);

/*
 * Implements `run --image --detach` and `create --image`: launches the container in the background
 * and prints its name (run_detached.c). Returns the exit code of the command, or an error.
 */
int run_image_detached(struct image_run *r) must_check;
