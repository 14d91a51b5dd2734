/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's agent makes the container and the processes of each exec, when the monitor on the
 * host asks for them by messages (agent/agent.h). Each step of a plan belongs to a party. The agent
 * is the party GUEST: it does the steps that the runtime does on the host for a container without a
 * machine. The party INIT is the process that becomes the container's program.
 *
 * Theory of operation. The agent has one thread and one epoll loop, and nothing but the loop waits.
 * Each process is a small state machine. process_create() or process_exec() takes the process's
 * plan and starts doing the steps of GUEST. The step CLONE starts INIT (spawn.c). The agent stops
 * at each barrier of INIT, and goes on when INIT reports the barrier on its socket to the agent. So
 * several processes can be made at the same time while the streams of others flow. The kernel
 * reports the end of a child by a signalfd.
 *
 * The agent writes cgroup files and makes mounts at once, outside the loop, because neither of
 * these waits for the container. Child processes do the work that may wait for the container
 * (job.c). The agent also waits until INIT executes caisson-init. Therefore the INIT of an exec is
 * moved to its cgroup after the clone: a clone into a frozen cgroup would stop INIT before it
 * executes caisson-init, and the container may freeze its own cgroup.
 *
 * guest_serve() gets everything that differs between a microVM and a test as arguments, so that it
 * runs both in a microVM and, for tests, as the first process of a pid namespace.
 */
#pragma once
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "agent/agent.h"
#include "agent/orders.h"
#include "cgroups/cgroup.h"
#include "guest/stream.h"
#include "ns/ns.h"

struct guest_config {
	void *data;
	/*
	 * Opens a non-blocking vsock connection to the port `port` of the host. The function may
	 * return before the connection is established.
	 */
	int (*connect)(void *data, uint32_t port);
	/*
	 * Mounts the virtio-fs share, in which the container's root and bind mounts are, at the
	 * path `share`.
	 */
	int (*mount_share)(void *data, const char *share);
	/*
	 * Sets the guest's clock to the host's CLOCK_REALTIME. NULL: the guest's clock must not be
	 * set.
	 */
	void (*set_clock)(void *data, uint64_t nanoseconds);
	/*
	 * Connects to the monitor again, at the port `port`, after the machine was started from a
	 * snapshot. Returns a non-blocking descriptor. NULL: the machine is never started from a
	 * snapshot.
	 */
	int (*reconnect)(void *data, uint32_t port);
	/*
	 * Mixes secret bytes into the random number generator of the guest's kernel. NULL: the
	 * generator must not be changed.
	 */
	void (*add_entropy)(void *data, const void *bytes, size_t len);
	/*
	 * Takes the guest's network devices from their driver (hold) before a template of the
	 * machine is made, and gives them back afterwards. NULL: the devices stay as they are.
	 */
	int (*hold_nics)(void *data, bool hold);
	/*
	 * absolute path of the directory below which the share and the container's root are mounted
	 */
	const char *dir;
	const char *cgroup; /* absolute path of the container's cgroup in the guest */
	const char *disk;   /* path of the block device that holds vm.image */
	/*
	 * whether the agent is a service of an operating system, and has no container (service.c)
	 */
	bool service;
};

/* When a step of the plan was done, in ns of CLOCK_MONOTONIC (steps.c). */
struct done_step {
	size_t step; /* index of the step in the process's plan */
	/*
	 * whether INIT, the container's first process, has done the step or waited at it; false:
	 * the agent has done it
	 */
	bool init;
	uint64_t begin, end;
};

struct process {
	struct process *next;
	struct guest *guest;
	struct arena arena;
	uint32_t number;
	struct plan plan;
	size_t at; /* index in the plan of the step to do next */
	int *slots;
	int proc; /* descriptor of procfs, from path_open_proc(); closed after the step CLONE */
	/* directory of the cgroup into which the step CLONE clones INIT, or -EBADF */
	int cgroup_dir;
	struct cgroup exec_cgroup; /* cgroup into which the INIT of an exec is moved */
	/*
	 * socket for messages to and from INIT; -EBADF before the step CLONE, and after INIT has
	 * become the program or has ended
	 */
	int channel;
	struct watch watch;
	const char *awaited; /* name of the barrier at which the agent waits for INIT, or NULL */
	/*
	 * The process INIT, which becomes the program. While `forks` is set, `child` is the stage
	 * of an exec instead: a process outside the container's pid namespace, which makes INIT by
	 * the step FORK.
	 */
	struct ns_child child;
	bool forks;
	/*
	 * signals that came while `forks` was set, and that the agent sends after the step FORK;
	 * bit n - 1 stands for signal n
	 */
	uint64_t signals;
	/*
	 * the standard input, output and error of the process INIT; the agent closes them after the
	 * step CLONE
	 */
	int stdio[3];
	struct stream streams[4];
	/*
	 * the slave side of the process's terminal, which the agent holds open while the process
	 * lives
	 */
	int slave;
	/*
	 * Terminal size that the monitor asked for; 0: the terminal gets the size in config.json.
	 */
	struct winsize size;
	/*
	 * whether the monitor wants the program to run: it has sent "start", or the process is an
	 * exec
	 */
	bool wanted;
	/*
	 * whether the monitor was told that the process failed, so that the process only has to be
	 * reaped
	 */
	bool failed;
	/*
	 * exited: the process has ended and was reaped; told: the monitor knows that it has exited
	 */
	bool exited, told;
	int status;
	/*
	 * time (CLOCK_MONOTONIC, ms) at which the agent reports the exit of the process, even if
	 * other processes still hold its output open
	 */
	int64_t deadline;
	/*
	 * Set if the process got a signal that asks it to end. Then the agent reports the exit of
	 * the process at this time (CLOCK_MONOTONIC, ms), or 1 s after the process has ended, even
	 * if no one reads its output. 0: the process got no such signal.
	 */
	int64_t give_up;
	const struct agent_orders *orders; /* orders of the monitor for this process */
	/* the steps of the plan that were done, and of which the monitor does not know yet */
	struct done_step *done;
	size_t ndone;
	/* when the message came that asks for the process, and when the step CLONE was done */
	uint64_t asked_at, cloned_at;
	/* network configuration that the guest takes over from the host, or NULL */
	const struct net_config *net;
};

struct guest {
	const struct guest_config *config;
	struct loop loop;
	/* memory of the container's orders, which stay until the guest ends */
	struct arena arena;
	int control;
	struct agent_reader reader;
	struct watch control_watch, signal_watch;
	int signals;
	/* whether children may have ended that processes_reap() has not reaped yet */
	bool child_ended;
	struct job *jobs;
	/*
	 * list of processes; the container's process has number 0, and leaves the list when it has
	 * exited
	 */
	struct process *processes;
	/* the container's orders; NULL until the monitor has sent "create" */
	const struct agent_orders *orders;
	struct cgroup cgroup;
	/* watch on the events of the container's cgroup; fd is -EBADF until the watch is opened */
	struct cg_events events;
	struct watch events_watch;
	struct cg_undo limits_undo; /* what the last update of limits has changed */
	/* the device rules of the container, without those of attached disks */
	struct {
		const struct cg_device_rule *v;
		size_t n;
	} device_rules;
	bool share_mounted;
	bool stop;
	/*
	 * Set while the machine may be saved (suspend.c): no bytes flow, the agent sends no
	 * message, and ended processes wait to be reaped. If the machine is restored, the agent
	 * connects to the monitor at `resume_port`.
	 */
	bool suspended;
	uint32_t resume_port;
	/* why the agent's event loop ends: -errno with a message; 0: the loop goes on */
	int failure;
};

/*
 * Serves the monitor: returns 0 once the monitor has sent "stop", or -errno once the connection has
 * ended. Blocks all signals of the calling process.
 */
int guest_serve(const struct guest_config *config) must_check;

/*
 * The functions of say.c send messages to the monitor. If a message cannot be sent, the loop of
 * guest_serve() ends.
 */
void guest_say_failed(struct guest *g, uint32_t process, int code, const char *message);
/* Replies to the request of that id with an errno, 0 for success, and its message. */
void guest_say_reply(struct guest *g, uint64_t id, int code, const char *message);
void guest_send(struct guest *g, struct agent_writer *w);
void guest_send_bytes(struct guest *g, const void *frame, size_t len);
void guest_log(struct guest *g, const char *fmt, ...) printf_like(2, 3);
/*
 * Ends the loop of guest_serve(), which returns the error of the first call of guest_fail(). r is
 * -errno, with a message.
 */
void guest_fail(struct guest *g, int r);

/*
 * serve.c: sends the message "hello", which tells the monitor the versions of the agent's protocol
 * and of the guest's kernel, and the guest's time.
 */
int guest_say_hello(struct guest *g) must_check;

/*
 * The functions of suspend.c. guest_suspend() and guest_resume() handle the monitor's messages
 * "suspend" and "resume".
 */
void guest_suspend(struct guest *g, const struct agent_frame *f);
void guest_resume(struct guest *g, const struct agent_frame *f);
/*
 * Replaces the connection to the monitor. The guest's kernel has reset it, because the machine was
 * restored.
 */
int guest_reconnect(struct guest *g) must_check;

/* The functions of table.c find, add and free the guest's processes, which are in a list. */
struct process *process_find(struct guest *g, uint32_t number);
/*
 * Adds a new process to the list of the guest's processes and returns it. The loop watches none of
 * its descriptors yet. Returns NULL, with a message, if there is no memory.
 */
struct process *process_alloc(struct guest *g, uint32_t number);
/*
 * Closes and frees everything that the process owns. The caller has taken the process out of the
 * list.
 */
void process_free(struct process *p);
void processes_release(struct guest *g);

/*
 * The functions of network.c give the guest the network configuration that the monitor found on the
 * host. If INIT has a network namespace of its own, that namespace gets it.
 */
int network_create(struct process *p, const struct json *net) must_check;
int network_hand_over(struct process *p) must_check;
/* Sets up the devices of *c, which were attached to the running machine, for the container. */
int network_add(const struct process *p, const struct net_config *c) must_check;

/*
 * The functions of hotplug.c handle the messages "attach" and "detach" about a device that the
 * monitor has attached to the running machine.
 */
void guest_attach(struct guest *g, const struct agent_frame *f);
/* Appends the rules of the disks that were attached to the device rules of *res, in the arena. */
int guest_add_disk_rules(struct arena *a, struct cg_resources *res) must_check;
void guest_detach(struct guest *g, const struct agent_frame *f);
/* Handles the message "cpus" (cpus.c). */
void guest_set_cpus(struct guest *g, const struct agent_frame *f);

/*
 * The functions of make.c handle the messages "clock", "create" and "exec". guest_copy_blob()
 * copies a message's blob to the arena, so that its bytes are aligned and live as long as the
 * arena.
 */
void *guest_copy_blob(struct arena *a, const struct agent_frame *f);
void guest_set_clock(struct guest *g, const struct agent_frame *f);
void process_create(struct guest *g, const struct agent_frame *f);
void process_exec(struct guest *g, const struct agent_frame *f);

/*
 * The functions of service.c are for an agent that is a service of an operating system.
 * service_take_exec() makes the plan of an exec, service_power_off() asks the operating system to
 * power off, and service_pids() lists all its processes.
 */
int service_adopt_orphans(void) must_check;
int service_take_exec(struct process *p, const struct agent_frame *f) must_check;
void service_power_off(struct guest *g);
int service_pids(struct arena *a, pid_t **ret, size_t *ret_n) must_check;

/* The functions of process.c handle events in the life of a process. */
/*
 * Adds a new process, with its streams, to the list of the guest's processes and returns it.
 * Returns NULL, with a message, if there is no memory.
 */
struct process *process_new(struct guest *g, uint32_t number);
void process_start(struct guest *g, const struct agent_frame *f);
void process_resize(struct guest *g, const struct agent_frame *f);
void process_signal(struct process *p, int sig);
/* Reaps the child processes of the agent that have ended. */
void processes_reap(struct guest *g);
/*
 * Tells the monitor of each process that has exited and whose output has been sent, and frees the
 * processes that are finished. Returns after how many milliseconds the loop has to call this
 * function again, or -1 if no exit is due at a certain time.
 */
int processes_settle(struct guest *g);
/*
 * Tells the monitor that the process could not be made, for the reason in err_msg(), and kills the
 * process that was cloned for it.
 */
void process_fail(struct process *p, int r);

/* walk.c: does the steps of the plan whose party is GUEST, the agent, until a step has to wait. */
int process_walk(struct process *p) must_check;

/*
 * The functions of steps.c. steps_note() notes a step of the plan that the agent has done, and
 * steps_of_init() one that INIT reports by a CHANNEL_STEP message. steps_tell() tells the monitor
 * of all steps that were noted.
 */
void steps_note(struct process *p, size_t step, bool init, uint64_t begin, uint64_t end);
void steps_of_init(void *process, const struct channel_msg *m);
void steps_tell(struct process *p);

/* spawn.c: does the step CLONE of the plan, which starts INIT, the container's first process. */
int guest_clone(struct process *p, const struct step *s) must_check;

/*
 * The functions of root.c do the steps OPEN_ROOT, OPEN_SOURCE and CONNECT of the plan, and make and
 * unmount the directories that these steps use.
 */
int guest_open(struct process *p, const struct step *s) must_check;
int guest_prepare_dirs(const struct guest_config *c) must_check;
void guest_unmount_share(struct guest *g);
/*
 * Returns a detached mount of the file system `type` on the node `disk`. An error message begins
 * with `what`.
 */
int guest_mount_disk(const char *what, const char *disk, const char *type, bool read_only)
	must_check;

/*
 * A job of job.c: a child process of the agent answers a request, and is killed if it takes longer
 * than `ms` milliseconds. fn runs in the child and writes the members of the reply.
 */
typedef int job_fn(struct guest *g, const struct agent_frame *f, struct json_out *reply);
void guest_job(struct guest *g, const struct agent_frame *f, int ms, job_fn *fn);
/*
 * As guest_job(), for a request that changes something. The job first waits for the end of the
 * last such job, so that the changes are made in the order of their requests.
 */
void guest_change(struct guest *g, const struct agent_frame *f, int ms, job_fn *fn);
/* Reaps the child processes of job.c that have ended. */
void jobs_reap(struct guest *g);
/* Notes that the child with that pid was reaped. Does nothing if the child is no job's. */
void jobs_note_end(struct guest *g, pid_t pid);
/*
 * Kills the child processes of job.c that take too long. Returns after how many milliseconds the
 * loop has to call this function again, or -1 if no job runs.
 */
int jobs_settle(struct guest *g);
void jobs_release(struct guest *g);

/*
 * The functions of manage.c handle the messages that a command for a running container causes, such
 * as `caisson kill` or `caisson ps`.
 */
void guest_signal(struct guest *g, const struct agent_frame *f);
void guest_freeze(struct guest *g, const struct agent_frame *f);
void guest_ps(struct guest *g, const struct agent_frame *f);
void guest_stats(struct guest *g, const struct agent_frame *f);
void guest_update(struct guest *g, const struct agent_frame *f);
/* Makes the agent tell the monitor of each process that the kernel kills because memory ran out. */
int guest_watch_oom(struct guest *g) must_check;
/*
 * Checks at once whether the kernel has killed a process because memory ran out. The check is
 * needed, because the kernel may announce the kill later than the end of the process.
 */
void guest_check_oom(struct guest *g);
/*
 * Sets the limits that the guest's kernel enforces, as plan_vm_split_limits() has found them.
 * `first` says that no limits have been set yet.
 */
int guest_limit(struct guest *g, const struct cg_resources *res, bool first) must_check;
