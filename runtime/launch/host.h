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

/* Descriptors that undoing needs at once: cgroups, network devices, systemd, poststop hooks. */
#define LAUNCH_RESERVED 12

/* What only create and run need. */
struct create_part {
	/* Kept for undoing, which must not fail for want of descriptors. 0 stands for none. */
	int reserved[LAUNCH_RESERVED];
	int start_fifo, result_fifo; /* container mode: INIT's, for `start`: see ns/ns.h */
	int start_socket;            /* VM mode: the monitor listens on it for `start` */
	int start_lock;              /* VM mode: held until the program runs: see container.h */
	struct plan_env env;
	struct cg_options cg_options;
	bool cgroup_made; /* the cgroup is this container's own, so that undoing may remove it */
	bool wrote_pid_file;
	/* names in the container of the network devices that were moved so far */
	const char **device_names;
	size_t devices_moved;
	struct hook_output hook_out;
};

/* What only exec needs. */
struct exec_part {
	int container; /* pidfd of the INIT to join; -EBADF in create, and in VM mode */
	/* where the process is attached; path NULL: it is cloned into its cgroup, or has none */
	struct cgroup cgroup;
	struct plan_exec_env env;
	const char *subgroup; /* VM mode: --cgroup, or NULL */
};

/* What VM mode needs, for create and for exec: see monitor/monitor.h. */
struct vm_part {
	int control; /* create: listening; exec: connected; else -EBADF */
	int failure; /* run, attached: a memfd for the monitor's last words, or -EBADF */
	const struct machine_config *machine; /* of create; NULL for exec */
	const char *text;                     /* of config.json; exec: of the process object */
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
	int interrupt;    /* of interrupt_block(); -EBADF: signals are not blocked */
	int console;      /* the terminal's master, -EBADF until INIT has sent it */
	const char *console_socket;
	int preserve_fds;
	char *const *env;            /* of the program; NULL: process.env as it is */
	struct ns_child child;       /* INIT; pid 0: not cloned yet */
	bool forked;                 /* exec: child is the process that FORK made */
	uint64_t init_dev, init_ino; /* of the file that INIT is executed from; VM mode: 0 */
	struct create_part create;
	struct exec_part exec;
	struct vm_part vm;
};

#define LAUNCH_INIT \
	{ \
		.proc = -EBADF, .cgroup_dir = -EBADF, .channel = -EBADF, .interrupt = -EBADF, \
		.console = -EBADF, .child = {.pidfd = -EBADF}, \
		.create = {.start_fifo = -EBADF, \
			.result_fifo = -EBADF, \
			.start_socket = -EBADF, \
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
 * Does HOST's steps up to and including the named barrier; if barrier is NULL, to the end of the
 * plan. In VM mode the process that STEP_CLONE makes never returns from this function.
 */
int launch_walk_to(struct launch *l, const char *barrier) must_check;

/*
 * Reads the channel to its end. Returns 0 if INIT became the program, and INIT's failure otherwise.
 */
int launch_await_exec(struct launch *l) must_check;

/* The limits of the host's cgroup, which in VM mode is around the machine. */
int launch_limits(const struct launch *l, struct cg_resources *ret) must_check;

/* Moves the network devices back to where they came from. */
void launch_return_devices(struct launch *l);

/* Kills INIT and reaps it. */
void launch_kill_init(struct launch *l);
