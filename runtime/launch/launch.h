/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions that `create`, `run`, `start`, `exec`, `delete` and `plan` call once they have
 * parsed their options.
 *
 * Theory of operation. launch_create() makes and locks the state directory, and writes everything
 * that could have to be undone into state.json. Then the runtime does the host's steps of the plan
 * in order (launch/host.h). STEP_CLONE starts INIT, the container's first process, which does its
 * own steps (ns/init.c). If any step fails, create.c kills INIT and undoes what state.json lists.
 * If the runtime is killed half-way, `delete --force` finds the same state.json and undoes the
 * same.
 */
#pragma once
#include "cgroups/cgroup.h"
#include "launch/container.h"
#include "plan/plan.h"

struct criu_options;

/* Options about the network, as they are on the command line. */
struct network_options {
	struct spec_strings dns, hosts;      /* --dns, --add-host */
	struct spec_strings networks, ports; /* --network, --publish */
};

struct launch_options {
	const char *root; /* value of --root, or NULL */
	const char *id;
	const char *bundle; /* directory of the bundle; "." unless --bundle was given */
	/*
	 * value of --config: relative to the working directory, or to the bundle; NULL:
	 * "config.json" in the bundle
	 */
	const char *config;
	const char *pid_file, *console_socket, *pidfd_socket;
	const char *isolation;  /* "ns" or "vm"; NULL: config.json decides */
	const char *hypervisor; /* VM mode: "kvm", "qemu" or "auto"; NULL: not given */
	const char *template;   /* VM mode: "auto", "off" or "refresh"; NULL: not given */
	enum cg_manager cgroup_manager;
	/*
	 * --rootless=true was given: as for an ordinary user, a cgroup that cannot be made is no
	 * error, even for root
	 */
	bool rootless_cgroup;
	int preserve_fds;
	/*
	 * value of --root-layers: "DIR:NAME[:NAME...]", layers of an overlay (base/overlay.h). The
	 * overlay's directories upper and work are in the bundle.
	 */
	const char *root_layers;
	struct network_options network;
	bool remove_bundle; /* the bundle's directory is removed together with the container */
	bool no_pivot, no_new_keyring;
	/* file to which a record of the times of a start is written, or NULL */
	const char *timeline;
	bool detach, keep; /* for `run`: --detach and --keep were given */
	/* for `restore`: value of --image-path; NULL: the container is made from its bundle */
	const char *restore;
	const struct criu_options *criu; /* for `restore`; see criu.h */
};

int launch_create(const struct launch_options *o) must_check;

/*
 * Creates and starts a container. *ret_status is the exit code for the shell: the program's own, or
 * 128 + the signal that killed it; 0 with --detach.
 */
int launch_run(const struct launch_options *o, int *ret_status) must_check;

/* Builds the plan that `create` would carry out for these options, and does no step of the plan. */
int launch_plan(struct arena *a, const struct launch_options *o, struct plan *ret) must_check;

int launch_start(struct container *c) must_check;

/*
 * Removes everything that was made for a stopped container. If `force` is set, kills a running
 * container first, and also removes a container whose creation was never finished.
 */
int launch_delete(struct container *c, bool force) must_check;

struct exec_options {
	const struct spec_process *process; /* the process to run, with all its properties */
	const char *pid_file, *console_socket, *pidfd_socket;
	/* value of --cgroup, a path beneath the container's cgroup; NULL: not given */
	const char *cgroup;
	/* file to which a record of the times of an exec's start is written, or NULL */
	const char *timeline;
	int preserve_fds;
	bool detach, ignore_paused;
};

int launch_exec(struct container *c, const struct exec_options *o, int *ret_status) must_check;
