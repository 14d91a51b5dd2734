/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's agent: makes the container and what is executed in it, on the monitor's word
 * (agent/agent.h), and is what the monitor is on the host: the GUEST of the plan.
 *
 * Theory of operation. One thread, one epoll loop; nothing waits but the loop. Each process is a
 * small state machine: process_create() or process_exec() builds its plan and starts the walk over
 * the GUEST's steps, which makes INIT (ns/) at its CLONE and stops at every barrier of INIT's; a
 * message on INIT's channel goes on with it. So several can be on their way at once, while the
 * streams of others flow. The kernel's notice of a child's end comes by a signalfd.
 *
 * What the agent does at once, and not in the loop: cgroup files, mounts, and the stage process of
 * an exec, none of which waits for the container. What may is done by children (job.c). An exec's
 * INIT is moved to its cgroup once it exists: cloned into one that is frozen, which the container
 * may have done itself, the stage would never tell of it.
 *
 * guest_serve() is given its surroundings, so that it runs in a microVM and, for tests, as the
 * first process of a pid namespace.
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
	/* A stream to this port of the host, non-blocking; it may still be connecting. */
	int (*connect)(void *data, uint32_t port);
	/* The share of the root and the bind mounts, at `share`. */
	int (*mount_share)(void *data, const char *share);
	/* The host's CLOCK_REALTIME, now; NULL: this clock is somebody else's. */
	void (*set_clock)(void *data, uint64_t nanoseconds);
	const char *dir;    /* absolute: beneath it are the share and where the root is attached */
	const char *cgroup; /* absolute, beneath the cgroup2 mount */
	const char *disk;   /* vm.image as the guest has it */
};

struct process {
	struct process *next;
	struct guest *guest;
	struct arena arena;
	uint32_t number;
	struct plan plan;
	size_t at; /* the next step */
	int *slots;
	int filter;                /* memfd of the compiled system call filter, or -EBADF */
	int proc;                  /* path_open_proc(), until the clone */
	int cgroup_dir;            /* to be cloned into, or -EBADF */
	struct cgroup exec_cgroup; /* an exec's, to be moved to */
	int channel;               /* to INIT; -EBADF: before the clone, and when INIT is through */
	struct watch watch;
	const char *awaited; /* barrier of INIT's that the walk stopped at */
	struct ns_child child;
	int stdio[3]; /* for INIT; closed once it has them */
	struct stream streams[4];
	int slave;           /* of the terminal, held while the process lives */
	struct winsize size; /* that the monitor asked for; 0: what config.json says */
	bool wanted;         /* it may become the program: told to start, or an exec */
	bool failed;         /* the monitor has been told so; what is left is to reap it */
	bool exited, told;   /* told: of its exit */
	int status;
	int64_t deadline; /* CLOCK_MONOTONIC, ms: when its exit is told whatever its output does */
	const struct spec *spec;      /* the container's */
	const char *id, *bundle;      /* of the container, for hooks */
	const struct net_config *net; /* of the host's namespace; or NULL */
};

struct guest {
	const struct guest_config *config;
	struct loop loop;
	struct arena arena; /* the container's: its spec and plan live as long as the guest */
	int control;
	struct agent_reader reader;
	struct watch control_watch, signal_watch;
	int signals;
	struct job *jobs;
	struct process *processes; /* number 0, the container's, is among them, or has exited */
	const struct spec *spec;   /* NULL until "create" */
	struct cgroup cgroup;
	struct cg_events events; /* of the cgroup; fd -EBADF: there is none yet */
	struct watch events_watch;
	uint32_t *mount_flags; /* of each slot's mount on the host: MOUNT_ATTR_* */
	size_t mount_count;
	bool share_mounted;
	bool stop;
	int failure; /* why the loop ends: -errno with a message, or 0 */
};

/* Until the monitor says stop (0) or the connection ends (-errno). Signals are blocked. */
int guest_serve(const struct guest_config *config) must_check;

/* serve.c: messages to the monitor; where one can't be sent the loop ends. */
void guest_say_failed(struct guest *g, uint32_t process, int code, const char *message);
void guest_send(struct guest *g, struct agent_writer *w);
void guest_send_bytes(struct guest *g, const void *frame, size_t len);
void guest_log(struct guest *g, const char *fmt, ...) printf_like(2, 3);

/* network.c: as the monitor has found it on the host; into a namespace that INIT has been given */
int network_create(struct process *p, const struct json *net) must_check;
int network_hand_over(struct process *p) must_check;

/* make.c */
void process_create(struct guest *g, const struct agent_frame *f);
void process_exec(struct guest *g, const struct agent_frame *f);

/* process.c. A new one is in the list; NULL: out of memory. */
struct process *process_new(struct guest *g, uint32_t number);
void process_start(struct guest *g, const struct agent_frame *f);
void process_resize(struct guest *g, const struct agent_frame *f);
struct process *process_find(struct guest *g, uint32_t number);
void process_reaped(struct guest *g, pid_t pid, int status);
/* Tells of exits that are due, frees what is done. Milliseconds until it is due again, or -1. */
int processes_settle(struct guest *g);
void processes_release(struct guest *g);
/* The process can't be made: says so (the message of err.h), kills what there is. */
void process_fail(struct process *p, int r);
/* A stream moved or ended, or INIT's terminal came. */
int process_take_console(struct process *p, int *master) must_check;

/* walk.c: the GUEST's steps until one waits; does not return in INIT. */
int process_walk(struct process *p) must_check;

/* root.c: OPEN_ROOT, OPEN_SOURCE and CONNECT */
int guest_open(struct process *p, const struct step *s) must_check;
int guest_prepare_dirs(const struct guest_config *c) must_check;
void guest_unmount_share(struct guest *g);

/* job.c: a reply that is made aside, in ms at most; fn adds its members, in a process of its own.
 */
typedef int job_fn(struct guest *g, const struct agent_frame *f, struct json_out *reply);
void guest_job(struct guest *g, const struct agent_frame *f, int ms, job_fn *fn);
void jobs_reaped(struct guest *g, pid_t pid);
int jobs_settle(struct guest *g); /* as processes_settle() */
void jobs_release(struct guest *g);

/* manage.c: what commands ask of the container; each answers. */
void guest_signal(struct guest *g, const struct agent_frame *f);
void guest_freeze(struct guest *g, const struct agent_frame *f);
void guest_ps(struct guest *g, const struct agent_frame *f);
void guest_stats(struct guest *g, const struct agent_frame *f);
void guest_update(struct guest *g, const struct agent_frame *f);
/* Tells the monitor each time that the kernel kills for want of memory. */
int guest_watch_oom(struct guest *g) must_check;
/* The same at once, if it has: the kernel's notice may come later than the process's end. */
void guest_check_oom(struct guest *g);
/* Of linux.resources what the guest's kernel enforces; the rest is the host's. */
int guest_limit(struct guest *g, const struct cg_resources *res, bool first) must_check;
