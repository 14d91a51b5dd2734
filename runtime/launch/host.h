/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runtime's walk over a plan: it does the host's steps and waits for INIT at the barriers.
 *
 * A caller fills in a struct launch that was set to LAUNCH_INIT, calls launch_walk_to() once or
 * several times, and releases the struct with launch_release(). The struct owns its descriptors.
 * Everything else in it is in the container's arena or belongs to the caller.
 */
#pragma once
#include <pthread.h>

#include "launch/container.h"
#include "launch/hook_output.h"
#include "monitor/monitor.h"
#include "ns/channel.h"
#include "ns/ns.h"
#include "plan/plan.h"

struct machine_config;
struct timeline;

/*
 * How many descriptors undoing needs at once for cgroups, network devices, systemd and poststop
 * hooks.
 */
#define LAUNCH_RESERVED 12

/* The part of struct launch that only create and run use. */
struct create_part {
	/*
	 * descriptors that are held open in reserve: they are closed when undoing begins, so that
	 * undoing can open as many others; 0: none
	 */
	int reserved[LAUNCH_RESERVED];
	/*
	 * container mode: the FIFOs start.fifo and result.fifo of the state directory, which INIT
	 * opens when it waits for `start`
	 */
	int start_fifo, result_fifo;
	int start_socket; /* VM mode: listening socket on which the monitor waits for `start` */
	/*
	 * VM mode: the file start.lock of the state directory, which the monitor keeps locked until
	 * the program runs
	 */
	int start_lock;
	struct plan_env env;
	struct cg_options cg_options;
	bool cgroup_made;     /* this command made the cgroup, so undoing may remove it */
	bool devices_allowed; /* launch_allow_devices() has succeeded */
	bool wrote_pid_file;
	bool unattended; /* the container keeps running after this command has ended */
	bool joined;     /* this command joined the networks, so undoing may leave them */
	/* the network devices that were moved into the container so far, by their names there */
	const char **device_names;
	size_t devices_moved;
	struct hook_output hook_out;
};

/* The part of struct launch that only exec uses. */
struct exec_part {
	/*
	 * pidfd of the container's INIT, whose namespaces to join; -EBADF in create and in VM mode
	 */
	int container;
	/*
	 * the cgroup into which the process is moved after the clone; path NULL: clone3(2) puts it
	 * into its cgroup, or it has none
	 */
	struct cgroup cgroup;
	const char *subgroup; /* VM mode: value of --cgroup, or NULL */
};

/* The part of struct launch that create and exec use in VM mode: see monitor/monitor.h. */
struct vm_part {
	int control; /* control socket: listening in create, connected in exec, else -EBADF */
	/*
	 * `run` in the foreground: a memfd into which the monitor writes why the machine failed;
	 * else -EBADF
	 */
	int failure;
	struct monitor_restore restore;       /* `restore`: files of the checkpoint, else -EBADF */
	const struct machine_config *machine; /* the machine that create boots; NULL in exec */
};

/* The network namespace that a thread makes: see launch/network.h. */
struct launch_network {
	pthread_t thread;
	bool started, running; /* network_begin() was called; the thread is to be joined */
	int fd;                /* descriptor of the namespace, or -EBADF */
	int failed;            /* -errno of the thread */
	char *why;             /* message of the failure */
};

struct launch {
	struct container *c;
	const struct spec *spec;
	struct plan plan;
	size_t next_step; /* index in plan.steps of the step to do next */
	/*
	 * array of plan.nslots descriptors, which steps open for later steps (launch_make_slots())
	 */
	int *slots;
	int proc; /* descriptor of a procfs from path_open_proc(); open once STEP_CLONE is done */
	int cgroup_dir; /* the cgroup directory into which the process is cloned, or -EBADF */
	int channel;    /* socket for messages to and from INIT */
	int interrupt;  /* descriptor from interrupt_block(); -EBADF: signals are not blocked */
	int console;    /* the terminal's master, -EBADF until INIT has sent it */
	const char *console_socket;
	const struct network_options *network_options; /* NULL in exec */
	int preserve_fds;
	char *const *env;      /* environment of the program; NULL: process.env unchanged */
	struct ns_child child; /* INIT as the runtime's child; pid 0: not cloned yet */
	bool forked;           /* exec: the child is the process that STEP_FORK made */
	/* device and inode number of the file from which INIT is executed; VM mode: 0 */
	uint64_t init_dev, init_ino;
	struct launch_network network;
	/* record of where the time of the start goes; NULL: --timeline was not given */
	struct timeline *timeline;
	struct create_part create;
	struct exec_part exec;
	struct vm_part vm;
};

#define LAUNCH_INIT \
	{ \
		.proc = -EBADF, .cgroup_dir = -EBADF, .channel = -EBADF, .interrupt = -EBADF, \
		.console = -EBADF, .child = {.pidfd = -EBADF}, .network = {.fd = -EBADF}, \
		.create = {.start_fifo = -EBADF, \
			.result_fifo = -EBADF, \
			.start_socket = -EBADF, \
			.start_lock = -EBADF, \
			.hook_out = HOOK_OUTPUT_INIT}, \
		.exec = {.container = -EBADF}, \
		.vm = {.control = -EBADF, \
			.failure = -EBADF, \
			.restore = {-EBADF, -EBADF} } \
	}

void launch_release(struct launch *l);
#define _cleanup_launch_ __attribute__((cleanup(launch_release), unused))

/* Allocates l->slots in the container's arena, one per slot of the plan, and sets all to -EBADF. */
int launch_make_slots(struct launch *l) must_check;

/*
 * Does the host's steps up to and including the named barrier. If barrier is NULL, does all steps
 * to the end of the plan. In VM mode the new process that STEP_CLONE makes never returns from this
 * function.
 */
int launch_walk_to(struct launch *l, const char *barrier) must_check;

/*
 * messages.c: reads INIT's messages until one says that INIT is at the barrier. If barrier is NULL,
 * reads until the channel ends.
 */
int launch_await(struct launch *l, const char *barrier) must_check;

/* Sends INIT a message. If INIT has ended, the error is what INIT said last. */
int launch_send(struct launch *l, enum channel_type type, const char *text, int fd) must_check;

/*
 * Reads INIT's messages until the channel ends. Returns 0 if INIT has executed the container's
 * program, and INIT's error otherwise.
 */
int launch_await_exec(struct launch *l) must_check;

/* Gets the limits of the cgroup on the host. In VM mode that cgroup holds the whole machine. */
int launch_limits(const struct launch *l, struct cg_resources *ret) must_check;

/*
 * Attaches the device program to the container's new cgroup. The runtime does this part of the step
 * CGROUP_LIMIT while INIT executes caisson-init, because INIT waits for that step before it mounts.
 * The other limits have to wait until INIT has memory of its own (ns/spawn.c).
 */
void launch_allow_devices(void *launch);

/* Kills INIT, the container's first process, and reaps it. */
void launch_kill_init(struct launch *l);
