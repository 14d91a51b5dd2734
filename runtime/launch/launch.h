/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walking a plan: what `create`, `run`, `start`, `exec` and `delete` do once their options are
 * parsed.
 *
 * Theory of operation. The state directory is made and locked, state.json written with everything
 * that could have to be undone, and then HOST's steps are done in order; STEP_CLONE starts INIT,
 * which does its own (ns/init.c). Whatever fails, launch_undo() kills INIT and takes back what
 * state.json tells. A runtime that is killed half-way leaves that same state.json to `delete
 * --force`.
 */
#pragma once
#include "launch/container.h"
#include "machine/machine_config.h"
#include "ns/ns.h"
#include "plan/plan.h"

struct launch_options {
	const char *root; /* --root, or NULL */
	const char *id;
	const char *bundle; /* "." unless given */
	const char *config; /* "config.json" in the bundle unless given; relative to us, or to it */
	const char *pid_file, *console_socket, *pidfd_socket;
	const char *isolation;  /* "ns", "vm" or NULL: what config.json says */
	const char *hypervisor; /* VM mode: "kvm", "qemu", "auto" or NULL */
	enum cg_manager cgroup_manager;
	bool rootless_cgroup; /* be lenient about cgroups although root: --rootless=true */
	int preserve_fds;
	bool no_pivot, no_new_keyring;
	bool detach, keep; /* run */
};

int launch_create(const struct launch_options *o) must_check;

/* *ret_status: the exit code for the shell, 128+signal for death by signal; 0 when detached. */
int launch_run(const struct launch_options *o, int *ret_status) must_check;

/* The plan that create would walk, without doing any of it. */
int launch_plan(struct arena *a, const struct launch_options *o, struct plan *ret) must_check;

int launch_start(struct container *c) must_check;

/* Undoes everything of a stopped container; force: kills it first, and removes what never came to
 * life. */
int launch_delete(struct container *c, bool force) must_check;

struct exec_options {
	const struct spec_process *process; /* to run; complete */
	const char *pid_file, *console_socket, *pidfd_socket;
	const char *cgroup; /* --cgroup: beneath the container's, or NULL */
	int preserve_fds;
	bool detach, ignore_paused;
};

int launch_exec(struct container *c, const struct exec_options *o, int *ret_status) must_check;

/* --- shared by the files of launch/ --- */

/* hook_output.c: standard output and error of the host's hooks, where an annotation says so. */
struct hook_output {
	int fd[2]; /* -EBADF: kept for the error's message */
};
#define HOOK_OUTPUT_INIT \
	{ \
		.fd = { -EBADF, -EBADF } \
	}
int hook_output_open(struct hook_output *o, const struct spec *s) must_check;
void hook_output_close(struct hook_output *o);
#define _cleanup_hook_output_ __attribute__((cleanup(hook_output_close), unused))

struct launch {
	struct container *c;
	const struct spec *spec;
	struct plan plan;
	size_t at; /* the next step */
	int *slots;
	int proc;
	int cgroup_dir;            /* to clone into, or -EBADF */
	bool cgroup_made;          /* create: the cgroup is this container's own, to be undone */
	struct cgroup exec_cgroup; /* exec: to be attached to; path NULL: cloned in, or none */
	int container;             /* exec: pidfd of the container's INIT, else -EBADF */
	int channel;               /* to INIT */
	int start_socket;          /* create: for INIT */
	int start_lock;
	int console; /* the terminal's master, once INIT sent it */
	const char *console_socket;
	const char *pidfd_socket;
	int preserve_fds;
	struct hook_output hook_out;
	const char **device_names; /* in the container, of the network devices moved so far */
	size_t devices_moved;
	bool hide;
	/* VM mode: see monitor/monitor.h. */
	int control; /* create: listening; exec: connected */
	int failure; /* run, attached: a memfd for the monitor's last words, or -EBADF */
	struct machine_config machine;
	struct plan_env plan_env;
	struct plan_exec_env exec_env;
	const char *exec_subgroup; /* --cgroup, or NULL */
	const char *text;          /* config.json's; exec: the process object's */
	size_t text_len;
	bool wrote_pid_file;
	char *const *env;
	struct ns_child child; /* pid 0: none yet */
	struct cg_options cg_options;
};

#define LAUNCH_INIT \
	{ \
		.proc = -EBADF, .cgroup_dir = -EBADF, .container = -EBADF, .channel = -EBADF, \
		.start_socket = -EBADF, .start_lock = -EBADF, .console = -EBADF, \
		.control = -EBADF, .failure = -EBADF, .hook_out = HOOK_OUTPUT_INIT, .child = { \
			.pidfd = -EBADF \
		} \
	}

void launch_release(struct launch *l);
#define _cleanup_launch_ __attribute__((cleanup(launch_release), unused))

/* host.c: HOST's steps up to and with the named barrier, or (NULL) to the end. Does not return in
 * INIT. */
int launch_walk_to(struct launch *l, const char *barrier) must_check;

/* Reads the channel to its end: 0 when INIT became the program, its failure otherwise. */
int launch_await_exec(struct launch *l) must_check;

/* Network devices go back to where they came from. */
void launch_return_devices(struct launch *l);

/* INIT is killed and reaped. */
void launch_kill_init(struct launch *l);

/* vm.c: in the child of STEP_CLONE, VM mode's INIT */
_Noreturn void launch_become_monitor(struct launch *l, int channel, size_t from);
_Noreturn void launch_become_proxy(struct launch *l, int channel);
/* The limits of the host's cgroup, which in VM mode is around the machine. */
int launch_limits(const struct launch *l, struct cg_resources *ret) must_check;
/* What create needs before there is anything: the machine, and what a VM can't honour. */
int launch_prepare_vm(struct launch *l, const struct launch_options *o) must_check;
int launch_prepare_vm_exec(struct launch *l, const struct exec_options *o) must_check;
/* Where caisson-init is; for a program run from its build directory, beside it. Before seal_self().
 */
int launch_find_libexec(void) must_check;

/*
 * run, attached: where the monitor says why its machine failed, since its standard error is the
 * container's. To read once it has ended: -EIO with that message, or 0.
 */
int launch_open_failure(struct launch *l) must_check;
int launch_read_failure(struct launch *l) must_check;

/* What commands ask the monitor of a running container. */
int vm_signal(struct container *c, int sig, bool all) must_check;
int vm_freeze(struct container *c, bool frozen) must_check;
/* *ret is the reply, to be released. `what`: "ps", "stats". */
struct agent_frame;
int vm_ask(struct container *c, const char *what, struct agent_frame *ret) must_check;
/*
 * A socket that is readable when the guest's kernel has killed for want of memory; vm_watch_read()
 * then says it: 1. 0: nothing yet. -ESRCH: the monitor has closed it.
 */
int vm_watch(struct container *c) must_check;
struct agent_reader;
int vm_watch_read(int sock, struct agent_reader *r) must_check;
/* With the guest's part of the limits. */
int vm_update(struct container *c, const struct cg_resources *guest) must_check;

/* start.c */
int launch_say_start(int channel) must_check;
int launch_poststart(struct container *c, const struct spec *s) must_check;

/* delete.c: kill all that runs; then also remove all there is, and run poststop (s: NULL where
 * unknown) */
int launch_kill(struct container *c) must_check;
int launch_cleanup(struct container *c, const struct spec *s) must_check;
/* The same for a container whose lock was given up. */
int launch_end(struct container *c, const struct spec *s) must_check;

/* env.c: the program's environment, with NOTIFY_SOCKET and LISTEN_FDS where they apply. */
int launch_env(struct arena *a, const struct spec_process *p, const struct plan_env *env,
	char *const **ret) must_check;
/* The name of a container's session keyring, in its arena; NULL: out of memory. */
const char *launch_keyring(struct container *c) must_check;
/* LISTEN_FDS of our own environment, if meant for us; 0 otherwise. */
int launch_listen_fds(void);

/* seccomp_notify.c: connects to a stream socket; errors name the field that the path came from */
int launch_connect(const char *path, const char *field) must_check;

/* Hands INIT's listener to the agent at linux.seccomp.listenerPath. */
struct seccomp_agent {
	const struct spec_seccomp *seccomp;
	pid_t pid;
	const char *status; /* of the container, for the agent */
};
int seccomp_notify_send(const struct container *c, const struct seccomp_agent *to, int listener)
	must_check;

/* console.c; the texts are runc's, name and all, for they are looked for. */
#define LAUNCH_NO_CONSOLE "cannot allocate tty if runc will detach without setting console socket"
#define LAUNCH_NO_TERMINAL "cannot use console socket if runc will not detach or allocate tty"
int console_send(const char *socket_path, int master) must_check; /* to --console-socket */
/* Of our own terminal; 0 and 0 without one. */
void launch_window_size(uint16_t *ret_height, uint16_t *ret_width);
int pidfd_send(const char *socket_path, int pidfd) must_check; /* to --pidfd-socket */

/* attend.c: foreground. Forwards signals, the terminal and (n not NULL) what it reports until the
 * process ends. */
struct notify;
int launch_attend(struct ns_child *child, int *console, struct notify *n, int *ret_status)
	must_check;
/* Blocks the signals that launch_attend() will forward, before there is a process. */
int launch_block_signals(void) must_check;

/* seal.c */
int seal_self(char *const argv[]) must_check;

/* rdt.c */
int rdt_assign(const struct spec_intel_rdt *rdt, const char *id, pid_t pid) must_check;
int rdt_remove(const char *id, const struct spec_intel_rdt *rdt) must_check;
