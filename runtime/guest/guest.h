/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent of the guest: it makes the container and the processes that are executed in it, because
 * the monitor asks for them by messages (agent/agent.h). In the plan it is the place GUEST: it does
 * what the runtime does on the host for a container without a machine.
 *
 * Theory of operation. The agent has one thread and one epoll loop, and only the loop waits. Each
 * process is a small state machine. process_create() or process_exec() builds its plan and starts
 * the walk over the steps of GUEST. The step CLONE makes INIT (ns/); the walk stops at each barrier
 * of INIT, and a message on INIT's channel continues it. So several processes can be made at the
 * same time while the streams of others flow. The kernel reports the end of a child by a signalfd.
 *
 * The agent writes cgroup files, makes mounts and runs the stage process of an exec at once,
 * outside the loop, because none of these waits for the container. What may wait for the container
 * is done by child processes (job.c). The INIT of an exec is moved to its cgroup after the clone,
 * because a clone into a frozen cgroup would stop the stage process before it could report
 * anything, and the container may freeze its own cgroup.
 *
 * guest_serve() gets everything that is special to its surroundings as arguments, so that it runs
 * both in a microVM and, for tests, as the first process of a pid namespace.
 */
#pragma once
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "agent/agent.h"
#include "cgroups/cgroup.h"
#include "guest/stream.h"
#include "ns/ns.h"

struct guest_config {
	void *data;
	/* Opens a non-blocking stream to this port of the host; it may still be connecting. */
	int (*connect)(void *data, uint32_t port);
	/* Mounts the share that holds the root and the bind mounts at the path `share`. */
	int (*mount_share)(void *data, const char *share);
	/* Sets the guest's clock to the host's current CLOCK_REALTIME. NULL: it may not be set. */
	void (*set_clock)(void *data, uint64_t nanoseconds);
	const char *dir;    /* absolute: the share and the container's root are mounted below it */
	const char *cgroup; /* absolute, beneath the cgroup2 mount */
	const char *disk;   /* path of the block device that holds vm.image */
};

struct process {
	struct process *next;
	struct guest *guest;
	struct arena arena;
	uint32_t number;
	struct plan plan;
	size_t at; /* index of the next step of the plan */
	int *slots;
	int filter;                /* memfd of the compiled system call filter, or -EBADF */
	int proc;                  /* of path_open_proc(); closed by the clone */
	int cgroup_dir;            /* cgroup for the clone, or -EBADF */
	struct cgroup exec_cgroup; /* cgroup that the INIT of an exec is moved to */
	/* To INIT. -EBADF: before the clone, and after INIT became the program or ended. */
	int channel;
	struct watch watch;
	const char *awaited; /* name of the barrier of INIT that the walk waits for, or NULL */
	struct ns_child child;
	int stdio[3]; /* INIT's ends of the standard streams; closed after the clone */
	struct stream streams[4];
	int slave; /* the terminal's slave side, held open while the process lives */
	/* The size that the monitor asked for. 0: the one of config.json. */
	struct winsize size;
	/* the monitor wants the program to run: it sent "start", or this is an exec */
	bool wanted;
	/* the monitor has been told of the failure; only the reaping is left */
	bool failed;
	bool exited, told; /* told: the monitor knows of the exit */
	int status;
	/*
	 * CLOCK_MONOTONIC in ms: from then on the exit is told even if others hold the output open.
	 */
	int64_t deadline;
	/*
	 * A signal came that asks a process to end: the exit is told at this time, or 1 s after the
	 * process has ended, whether or not anybody takes its output. 0: none came.
	 */
	int64_t give_up;
	const struct spec *spec;      /* of the container */
	const char *id, *bundle;      /* of the container, for hooks */
	const struct net_config *net; /* the host's network configuration, or NULL */
};

struct guest {
	const struct guest_config *config;
	struct loop loop;
	/* for the spec and the plan of the container, which live as long as the guest */
	struct arena arena;
	int control;
	struct agent_reader reader;
	struct watch control_watch, signal_watch;
	int signals;
	struct job *jobs;
	/* number 0 is the container's; it is absent once it has exited */
	struct process *processes;
	const struct spec *spec; /* NULL until the message "create" */
	struct cgroup cgroup;
	struct cg_events events; /* of `cgroup`; fd -EBADF: not opened yet */
	struct watch events_watch;
	uint32_t *mount_flags; /* MOUNT_ATTR_* of the host's mount in each slot */
	size_t mount_count;
	bool share_mounted;
	bool stop;
	int failure; /* 0, or -errno with a message: why the loop ends */
};

/*
 * Serves the monitor until it sends "stop" (0) or the connection ends (-errno). Blocks all signals
 * of the calling process.
 */
int guest_serve(const struct guest_config *config) must_check;

/* say.c: messages to the monitor. If a message cannot be sent, they end the loop. */
void guest_say_failed(struct guest *g, uint32_t process, int code, const char *message);
void guest_send(struct guest *g, struct agent_writer *w);
void guest_send_bytes(struct guest *g, const void *frame, size_t len);
void guest_log(struct guest *g, const char *fmt, ...) printf_like(2, 3);
/* Ends the loop of guest_serve(), which returns the first failure: r, -errno with a message. */
void guest_fail(struct guest *g, int r);

/* table.c: the list of the processes. */
struct process *process_find(struct guest *g, uint32_t number);
/* The new process is in the list, and has no watch yet. NULL: out of memory, with a message. */
struct process *process_alloc(struct guest *g, uint32_t number);
/* Closes and frees what the process has; the caller has taken it out of the list. */
void process_free(struct process *p);
void processes_release(struct guest *g);

/*
 * network.c: gives the guest, or the network namespace of INIT, the network that the monitor found
 * on the host.
 */
int network_create(struct process *p, const struct json *net) must_check;
int network_hand_over(struct process *p) must_check;

/* make.c: handle the messages "clock", "create" and "exec". */
void guest_set_clock(struct guest *g, const struct agent_frame *f);
void process_create(struct guest *g, const struct agent_frame *f);
void process_exec(struct guest *g, const struct agent_frame *f);

/* process.c: the life of a process. */
/* The new process is in the list. NULL: out of memory, with a message. */
struct process *process_new(struct guest *g, uint32_t number);
void process_start(struct guest *g, const struct agent_frame *f);
void process_resize(struct guest *g, const struct agent_frame *f);
void process_signal(struct process *p, int sig);
void process_reaped(struct guest *g, pid_t pid, int status);
/*
 * Tells the monitor of the exits that are due and frees the processes that are done. Returns the
 * milliseconds after which it has to be called again, or -1 if an event will come before.
 */
int processes_settle(struct guest *g);
/* Tells the monitor that the process could not be made (err_msg() says why), and kills its INIT. */
void process_fail(struct process *p, int r);

/* walk.c: does the steps of GUEST until one of them has to wait. Does not return in INIT. */
int process_walk(struct process *p) must_check;

/* root.c: the steps OPEN_ROOT, OPEN_SOURCE and CONNECT, and the directories that they use. */
int guest_open(struct process *p, const struct step *s) must_check;
int guest_prepare_dirs(const struct guest_config *c) must_check;
void guest_unmount_share(struct guest *g);

/*
 * job.c: a child process makes the reply, and is killed after `ms` milliseconds. fn runs in the
 * child and adds the members of the reply.
 */
typedef int job_fn(struct guest *g, const struct agent_frame *f, struct json_out *reply);
void guest_job(struct guest *g, const struct agent_frame *f, int ms, job_fn *fn);
void jobs_reaped(struct guest *g, pid_t pid);
int jobs_settle(struct guest *g); /* returns what processes_settle() returns */
void jobs_release(struct guest *g);

/* manage.c: handle the messages that the commands of a running container cause. */
void guest_signal(struct guest *g, const struct agent_frame *f);
void guest_freeze(struct guest *g, const struct agent_frame *f);
void guest_ps(struct guest *g, const struct agent_frame *f);
void guest_stats(struct guest *g, const struct agent_frame *f);
void guest_update(struct guest *g, const struct agent_frame *f);
/* Makes the agent tell the monitor of each process that the kernel kills for lack of memory. */
int guest_watch_oom(struct guest *g) must_check;
/*
 * Looks for such a kill at once, because the kernel's notice may come later than the end of the
 * process.
 */
void guest_check_oom(struct guest *g);
/*
 * Sets the limits of linux.resources that the guest's kernel enforces; the host enforces the
 * others. first: no limits have been set yet.
 */
int guest_limit(struct guest *g, const struct cg_resources *res, bool first) must_check;
