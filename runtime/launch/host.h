/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runtime's walk over a plan: the runtime does the steps of the plan's party "host" and waits
 * at the barriers for INIT, the container's first process.
 *
 * A caller fills in a struct launch that was set to LAUNCH_INIT, calls launch_walk_to() once or
 * several times, and releases the struct with launch_release(). The struct owns its descriptors.
 * Everything else in the struct is in the container's arena or belongs to the caller.
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
 * How many descriptors the undoing of a failed `create` needs at once for cgroups, network devices,
 * systemd and poststop hooks.
 */
#define LAUNCH_RESERVED 12

/* The part of struct launch that only create and run use. */
struct create_part {
	/*
	 * Descriptors that are held open in reserve. They are closed when the undoing of a failed
	 * `create` begins, so that undoing can open as many others. An element that is 0 holds no
	 * descriptor.
	 */
	int reserved[LAUNCH_RESERVED];
	/*
	 * namespaces mode: the FIFOs start.fifo and result.fifo of the state directory, through
	 * which the container's first process waits for `start` and reports its result
	 */
	int start_fifo, result_fifo;
	/*
	 * VM mode: the listening socket start.sock, on which the microVM's monitor waits for
	 * `start`
	 */
	int start_socket;
	/*
	 * VM mode: the file start.lock of the state directory, which the microVM's monitor keeps
	 * locked until the program runs
	 */
	int start_lock;
	struct plan_env env;
	struct cg_options cg_options;
	/* this command made the cgroup, so undoing a failed `create` may remove it */
	bool cgroup_made;
	bool devices_allowed; /* whether launch_allow_devices() has succeeded */
	bool wrote_pid_file;
	bool unattended; /* the container keeps running after this command has ended */
	/*
	 * this command joined the networks, so undoing a failed `create` may leave these networks
	 */
	bool joined;
	/*
	 * the network devices that were moved into the container so far, by their names in the
	 * container
	 */
	const char **device_names;
	size_t devices_moved;
	struct hook_output hook_out;
};

/* The part of struct launch that only exec uses. */
struct exec_part {
	/*
	 * pidfd of the container's first process, whose namespaces the new process joins; -EBADF in
	 * create and in VM mode
	 */
	int container;
	/*
	 * The cgroup into which the new process is moved after it was cloned. The path is NULL if
	 * clone3(2) puts the process into its cgroup, or if the container has no cgroup.
	 */
	struct cgroup cgroup;
	const char *subgroup; /* for a microVM: value of the option --cgroup of `exec`, or NULL */
	bool ignore_paused;   /* for a microVM: option --ignore-paused of `exec` */
};

/* The part of struct launch that create and exec use in VM mode: see monitor/monitor.h. */
struct vm_part {
	/*
	 * control socket of the microVM's monitor: a listening socket in create, a connected one in
	 * exec, else -EBADF
	 */
	int control;
	/*
	 * for a `run` in the foreground: a memfd into which the monitor writes why the machine
	 * failed; else -EBADF
	 */
	int failure;
	/* the file disk-error of the state directory, open for the monitor */
	int disk_error;
	/* for the command `restore`: files of the checkpoint, else -EBADF */
	struct monitor_restore restore;
	/* the virtual machine that create boots; NULL in exec */
	const struct machine_config *machine;
};

/*
 * The network namespace for a new container, which a thread of the runtime makes: see
 * launch/network.h.
 */
struct launch_network {
	pthread_t thread;
	/*
	 * started: network_begin() was called; running: the thread exists and must still be joined
	 */
	bool started, running;
	int fd;     /* descriptor of the new network namespace, or -EBADF */
	int failed; /* -errno of the thread's failure, or 0 */
	char *why;  /* error message of the thread's failure */
};

struct launch {
	struct container *c;
	const struct spec *spec;
	struct plan plan;
	size_t next_step; /* index in plan.steps of the step that comes next */
	/*
	 * array of plan.nslots descriptors, which steps of the plan open for later steps
	 * (launch_make_slots())
	 */
	int *slots;
	/* Descriptor of a procfs from path_open_proc(). It is open once STEP_CLONE is done. */
	int proc;
	/* directory of the cgroup into which clone3(2) puts the new process, or -EBADF */
	int cgroup_dir;
	/*
	 * the runtime's end of the socket for messages to and from INIT, the container's first
	 * process
	 */
	int channel;
	int interrupt; /* descriptor from interrupt_block(); -EBADF: signals are not blocked */
	/* the terminal's master; -EBADF until the container's first process has sent it */
	int console;
	const char *console_socket;
	/* options --network, --publish and so on; NULL in exec */
	const struct network_options *network_options;
	int preserve_fds;
	char *const *env; /* environment of the program; NULL: process.env unchanged */
	/*
	 * INIT, the container's first process, as a child of the runtime; pid 0: STEP_CLONE is not
	 * done yet
	 */
	struct ns_child child;
	bool forked; /* in exec: whether `child` is the process that STEP_FORK made */
	/*
	 * device and inode number of the file from which caisson-init, the container's first
	 * program, is executed; VM mode: 0
	 */
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
			.disk_error = -EBADF, \
			.failure = -EBADF, \
			.restore = {-EBADF, -EBADF} } \
	}

void launch_release(struct launch *l);
#define _cleanup_launch_ __attribute__((cleanup(launch_release), unused))

/*
 * Allocates l->slots in the container's arena, one descriptor for each slot of the plan, and sets
 * all to -EBADF.
 */
int launch_make_slots(struct launch *l) must_check;

/*
 * Does the host's steps of the plan up to and including the named barrier. If barrier is NULL, does
 * all of the host's steps to the end of the plan. In VM mode STEP_CLONE makes a copy of this
 * process, and this function never returns in that copy.
 */
int launch_walk_to(struct launch *l, const char *barrier) must_check;

/*
 * Does one step of the host. launch_walk_to() does all of the host's steps in order, and `restore`
 * does only some of them.
 */
int launch_do_step(struct launch *l, const struct step *s) must_check;

/* Sets the limits and the device rules of the container's cgroup. */
int launch_apply_limits(struct launch *l) must_check;

/*
 * Reads INIT's messages (INIT is the container's first process) until one says that INIT is at the
 * barrier. If barrier is NULL, reads until INIT has executed the program or has ended. The function
 * is in messages.c.
 */
int launch_await(struct launch *l, const char *barrier) must_check;

/*
 * Sends INIT, the container's first process, a message. If INIT has ended, the error is what INIT
 * said last.
 */
int launch_send(struct launch *l, enum channel_type type, const char *text, int fd) must_check;

/*
 * Reads INIT's messages (INIT is the container's first process) until the channel ends. Returns 0
 * if INIT has executed the container's program, and INIT's error otherwise.
 */
int launch_await_exec(struct launch *l) must_check;

/*
 * Gets the limits of the container's cgroup on the host. In VM mode this cgroup holds the whole
 * machine.
 */
int launch_limits(const struct launch *l, struct cg_resources *ret) must_check;

/*
 * Attaches the BPF program of the device rules to the container's new cgroup. The runtime does this
 * part of the step CGROUP_LIMIT while the new process executes caisson-init, because caisson-init
 * waits for the step before it mounts anything. The other limits have to wait until the new process
 * has memory of its own (ns/spawn.c). `launch` is the struct launch.
 */
void launch_allow_devices(void *launch);

/* Kills INIT, the container's first process, and reaps it. */
void launch_kill_init(struct launch *l);

/*
 * Reserves descriptors that undoing a failed `create` will need. They are duplicates of standard
 * error, because duplicates count towards the process's limit of open files as well.
 */
int launch_reserve_descriptors(struct launch *l) must_check;
/* Closes them, before a failed `create` is undone, or once the container is made. */
void launch_release_reserved(struct launch *l);
