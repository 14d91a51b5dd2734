/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runtime's walk over a plan: it does HOST's steps and meets INIT at the barriers.
 *
 * Fill in a struct launch that was set to LAUNCH_INIT, call launch_walk_to() once or several times,
 * and release it with launch_release(). The struct owns its descriptors; everything else in it is
 * in the container's arena or belongs to the caller.
 */
#pragma once
#include "launch/container.h"
#include "launch/hook_output.h"
#include "ns/ns.h"
#include "plan/plan.h"

struct machine_config;

/* What only create and run need. */
struct create_part {
	int start_socket; /* for INIT, which waits there for `start` */
	int start_lock;   /* held by INIT until its execve(2): see container.h */
	struct plan_env env;
	struct cg_options cg_options;
	bool cgroup_made; /* the cgroup is this container's own, so that undoing may remove it */
	bool wrote_pid_file;
	const char **device_names; /* in the container, of the network devices moved so far */
	size_t devices_moved;
	struct hook_output hook_out;
};

/* What only exec needs. */
struct exec_part {
	int container;        /* pidfd of the INIT to join; -EBADF in create, and in VM mode */
	struct cgroup cgroup; /* to attach the process to; path NULL: cloned into, or none */
	struct plan_exec_env env;
	const char *subgroup; /* VM mode: --cgroup, or NULL */
};

/* What VM mode needs, of create as of exec: see monitor/monitor.h. */
struct vm_part {
	int control; /* create: listening; exec: connected; else -EBADF */
	int failure; /* run, attached: a memfd for the monitor's last words, or -EBADF */
	const struct machine_config *machine; /* create; NULL for exec */
	const char *text;                     /* config.json's; exec: the process object's */
	size_t text_len;
};

struct launch {
	struct container *c;
	const struct spec *spec;
	struct plan plan;
	size_t next_step; /* index in plan.steps */
	int *slots;       /* plan.nslots descriptors: see launch_make_slots() */
	int proc;         /* path_open_proc(), from STEP_CLONE on */
	int cgroup_dir;   /* to clone into, or -EBADF */
	int channel;      /* to INIT */
	int console;      /* the terminal's master, once INIT sent it */
	const char *console_socket;
	int preserve_fds;
	bool hide_init;        /* see struct ns_clone_args */
	char *const *env;      /* the program's, or NULL: process.env */
	struct ns_child child; /* pid 0: none yet */
	struct create_part create;
	struct exec_part exec;
	struct vm_part vm;
};

#define LAUNCH_INIT \
	{ \
		.proc = -EBADF, .cgroup_dir = -EBADF, .channel = -EBADF, .console = -EBADF, \
		.child = {.pidfd = -EBADF}, \
		.create = {.start_socket = -EBADF, \
			.start_lock = -EBADF, \
			.hook_out = HOOK_OUTPUT_INIT}, \
		.exec = {.container = -EBADF}, \
		.vm = {.control = -EBADF, \
			.failure = -EBADF } \
	}

void launch_release(struct launch *l);
#define _cleanup_launch_ __attribute__((cleanup(launch_release), unused))

/* Allocates l->slots in the container's arena for the finished plan; all are -EBADF. */
int launch_make_slots(struct launch *l) must_check;

/*
 * Does HOST's steps up to and including the named barrier; with NULL up to the end of the plan.
 * STEP_CLONE does not return in INIT.
 */
int launch_walk_to(struct launch *l, const char *barrier) must_check;

/* Reads the channel to its end: 0 when INIT became the program, its failure otherwise. */
int launch_await_exec(struct launch *l) must_check;

/* The limits of the host's cgroup, which in VM mode is around the machine. */
int launch_limits(const struct launch *l, struct cg_resources *ret) must_check;

/* Moves the network devices back to where they came from. */
void launch_return_devices(struct launch *l);

/* Kills INIT and reaps it. */
void launch_kill_init(struct launch *l);
