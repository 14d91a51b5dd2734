/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `create`, `run`, `start`, `exec`, `delete` and `plan` call once they have parsed their
 * options.
 *
 * Theory of operation. launch_create() makes and locks the state directory, and writes into
 * state.json everything that could have to be undone. Then the runtime does HOST's steps of the
 * plan in order (launch/host.h); STEP_CLONE starts INIT, which does its own steps (ns/init.c). If
 * any step fails, create.c kills INIT and undoes what state.json lists. If the runtime is killed
 * half-way, `delete --force` finds the same state.json and undoes the same.
 */
#pragma once
#include "cgroups/cgroup.h"
#include "launch/container.h"
#include "plan/plan.h"

struct launch_options {
	const char *root; /* --root, or NULL */
	const char *id;
	const char *bundle; /* "." unless given */
	/* --config: relative to the working directory, or to the bundle; NULL: "config.json" in the
	 * bundle */
	const char *config;
	const char *pid_file, *console_socket, *pidfd_socket;
	const char *isolation;  /* "ns", "vm" or NULL: what config.json says */
	const char *hypervisor; /* VM mode: "kvm", "qemu", "auto" or NULL */
	enum cg_manager cgroup_manager;
	bool rootless_cgroup; /* --rootless=true: be lenient about cgroups even as root */
	int preserve_fds;
	bool no_pivot, no_new_keyring;
	bool detach, keep; /* run */
};

int launch_create(const struct launch_options *o) must_check;

/* *ret_status is the exit code for the shell: the program's own, or 128+signal; 0 if detached. */
int launch_run(const struct launch_options *o, int *ret_status) must_check;

/* Builds the plan that create would walk, and does none of its steps. */
int launch_plan(struct arena *a, const struct launch_options *o, struct plan *ret) must_check;

int launch_start(struct container *c) must_check;

/*
 * Undoes everything of a stopped container. With force it kills the container first, and also
 * removes a container whose creation was never finished.
 */
int launch_delete(struct container *c, bool force) must_check;

struct exec_options {
	const struct spec_process *process; /* the process to run, complete */
	const char *pid_file, *console_socket, *pidfd_socket;
	const char *cgroup; /* --cgroup: beneath the container's, or NULL */
	int preserve_fds;
	bool detach, ignore_paused;
};

int launch_exec(struct container *c, const struct exec_options *o, int *ret_status) must_check;
