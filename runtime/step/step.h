/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The steps that INIT, the container's first process, does. This library is linked into
 * caisson-init (init/), which is INIT's program until it executes the container's program. Nothing
 * in the library depends on whether caisson-init runs on the host or in a guest. The runtime and
 * the guest's agent call single functions of the library. The library is built for two C libraries:
 * see base/musl/.
 *
 * step_walk() does INIT's steps beginning with step number `from`. It returns only after a failure,
 * with the message set, because STEP_EXEC does not return. The steps free nothing, because the
 * process either becomes the program or ends.
 *
 * Theory of operation. The root file system is hostile. The member `root` is an O_PATH descriptor
 * of the root file system, and base/path.h resolves every path below it. Writes to /proc go through
 * `proc`, a procfs of the host that the container cannot mount over.
 */
#pragma once
#include <sys/stat.h>

#include "plan/plan.h"

/*
 * The functions by which INIT, the container's first process, talks to the process that launched
 * it. Each program that uses this library provides its own functions. All of them return >= 0, or
 * -errno with a message.
 */
struct step_peer {
	void *data;
	/*
	 * tells the other side, the process that launched this one, that this side has reached the
	 * barrier
	 */
	int (*report)(void *data, const char *barrier);
	/*
	 * waits until the other side, the process that launched this one, has reached the barrier
	 */
	int (*await)(void *data, const char *barrier);
	/*
	 * sends a descriptor to the process that launched this one; `what` is "console" or
	 * "seccomp"
	 */
	int (*send_fd)(void *data, const char *what, int fd);
	/*
	 * waits for a descriptor from the process that launched this one, and returns it; `what` is
	 * "network"
	 */
	int (*take_fd)(void *data, const char *what);
	/*
	 * called in the parent process after the step FORK: FORK has made the process `pid`, which
	 * does the remaining steps
	 */
	int (*forked)(void *data, pid_t pid);
	/*
	 * Called in the process that the step FORK made; pid is the process's own pid as its parent
	 * saw it, or 0. May be NULL.
	 */
	void (*reborn)(void *data, pid_t pid);
	int (*wait_start)(
		/*
		 * waits for the command `start`; the errors of all later steps are sent to that
		 * command
		 */
		void *data);
};

/*
 * A mount that covers paths of the container to hide them. The mount itself is attached to the
 * first path, and a clone of the mount to each further path; see mask.c.
 */
struct step_cover {
	int fd; /* descriptor of the mount that covers; -EBADF: the mount is not made yet */
	bool attached;
};

struct step_late_ro;
struct step_sender;

#define STEP_KEEP_MAX 8

struct step_ctx {
	const struct plan *plan;
	/* the party of the plan whose steps this process does: PLACE_INIT or PLACE_MONITOR */
	enum step_place place;
	struct step_peer peer;
	/*
	 * array of plan->nslots descriptors that steps of the plan have opened, mostly in the
	 * runtime
	 */
	int *slots;
	/* the root file system as an O_PATH descriptor; -EBADF until the step ATTACH_ROOT */
	int root;
	int proc; /* a procfs from path_open_proc(); -EBADF once the step CLOSE is done */
	/*
	 * a procfs of the pid namespace that the step JOIN entered, for the process that the step
	 * FORK makes; -EBADF: there is none
	 */
	int joined_proc;
	/*
	 * set for an exec: pidfd of the container's first process, whose namespaces the step ENTER
	 * enters
	 */
	int container;
	/*
	 * Set for an exec: the pid namespace of the container's first process. The step ENTER
	 * enters this namespace after the others, because the thread that hands over a seccomp
	 * listener must be made in between.
	 */
	int pid_ns;
	/*
	 * set for an exec: CLONE_NEW* flags of those namespaces of the process `container` that the
	 * step ENTER enters
	 */
	uint64_t enter_flags;
	/*
	 * The descriptors that the step CLOSE leaves open. CLOSE also leaves open all descriptors
	 * below 3 + preserve_fds, and those for the output of hooks if hooks still follow.
	 */
	int keep[STEP_KEEP_MAX];
	size_t nkeep;
	unsigned preserve_fds;
	/*
	 * the compiled seccomp filter; NULL: the file of a descriptor in `slots` holds the filter
	 */
	const void *filter;
	size_t filter_len;
	bool forked; /* whether the step FORK is done */
	/*
	 * whether the parent of this process has ended after the step FORK, before the program runs
	 */
	bool detached;
	/*
	 * The filter, if the step SECCOMP did not load it. The step EXEC and startContainer hooks
	 * load it then. If there is no such filter, late_step is NULL.
	 */
	struct strbuf late_filter;
	const struct step *late_step;
	/* the thread that hands over a seccomp listener; NULL: the thread does not run */
	struct step_sender *sender;
	/* the terminal's slave side until the step CLOSE; -EBADF: there is no terminal */
	int console;
	char *const *env; /* environment of the program; the step FIND_PROGRAM completes it */
	const char *exe;  /* path of the program; the step FIND_PROGRAM sets it */
	/* two files to which hooks write: see hooks_run(); NULL: hooks_run() gets no files */
	const int *hook_out;
	/*
	 * Writes the container's state, with `status` as its status, into *ret. createContainer and
	 * startContainer hooks get this state on standard input.
	 */
	int (*state_json)(void *data, const char *status, struct strbuf *ret);
	void *state_data;
	struct arena *arena;

	/* The step ATTACH_ROOT sets the members from here on, and all mount steps use them. */
	mode_t umask; /* the umask of caisson's caller, which createContainer hooks get */
	/* whether the member umask is valid, because this process has changed its umask */
	bool umask_changed;
	/* path in the host's tree at which the root is attached; NULL: it is attached over "/" */
	const char *root_path;
	/*
	 * the host's mount namespace and the container's, if the step ATTACH_ROOT has left the
	 * host's namespace for the container's; else -EBADF
	 */
	int host_mounts, own_mounts;
	/* what fstat(2) says about the root, to notice a path that leads back to the root */
	struct stat root_stat;
	/* the mount that covers files to hide them: the host's /dev/null */
	struct step_cover null_cover;
	/* the mount that covers directories to hide them: an empty file system */
	struct step_cover dir_cover;
	struct step_late_ro
		/* list of mounts that the step PIVOT makes read-only, once all files are in them */
		*late_ro;
};

int step_walk(struct step_ctx *c, size_t from) must_check;

/*
 * Does the step if c->place, the party of the plan that this process is, has to do it, or if it is
 * a barrier that this party reports or waits for.
 */
int step_do(struct step_ctx *c, const struct step *s) must_check;

/*
 * Each of the functions from here on does one kind of step. They are grouped by file. All return 0,
 * or -errno with a message.
 */

/*
 * step_open() of host_open.c does the steps OPEN_ROOT and OPEN_SOURCE in INIT, the container's
 * first process. INIT does them in two cases: if an ordinary user runs caisson, because an ordinary
 * user may copy mounts only in INIT's user namespace, and if an earlier mount of the container made
 * the source. The function puts the copied mount into the step's slot.
 */
int step_open(struct step_ctx *c, const struct step *s) must_check;

/*
 * The following functions, in root.c, attach the root file system and move INIT, the container's
 * first process, into it.
 */
int step_attach_root(struct step_ctx *c, const struct step *s) must_check;
int step_pivot(struct step_ctx *c, const struct step *s) must_check;
int step_readonly_root(struct step_ctx *c, const struct step *s) must_check;
int step_root_propagation(struct step_ctx *c, const struct step *s) must_check;

/* mount.c does the steps that make the container's mounts. */
int step_mount(struct step_ctx *c, const struct step *s) must_check;

/* The following functions, in device.c, make device nodes and the symbolic links in /dev. */
int step_device(struct step_ctx *c, const struct step *s) must_check;
int step_symlink(struct step_ctx *c, const struct step *s) must_check;

/* The following functions, in mask.c, make paths read-only and hide paths. */
int step_readonly_path(struct step_ctx *c, const struct step *s) must_check;
int step_mask_path(struct step_ctx *c, const struct step *s) must_check;

/* console.c does the step that makes the container's terminal. */
int step_console(struct step_ctx *c, const struct step *s) must_check;

/* The following functions, in kernel.c, set the host name, the domain name and sysctls. */
int step_hostname(struct step_ctx *c, const struct step *s) must_check;
int step_domainname(struct step_ctx *c, const struct step *s) must_check;
int step_sysctl(struct step_ctx *c, const struct step *s) must_check;

/* The following functions, in process.c, set attributes that the process keeps over execve(2). */
int step_rlimits(struct step_ctx *c, const struct step *s) must_check;
int step_oom_score(struct step_ctx *c, const struct step *s) must_check;
int step_scheduler(struct step_ctx *c, const struct step *s) must_check;
int step_io_priority(struct step_ctx *c, const struct step *s) must_check;
int step_affinity(struct step_ctx *c, const struct step *s) must_check;
int step_memory_policy(struct step_ctx *c, const struct step *s) must_check;
int step_personality(struct step_ctx *c, const struct step *s) must_check;
int step_keyring(struct step_ctx *c, const struct step *s) must_check;
int step_exec_label(struct step_ctx *c, const struct step *s) must_check;

/*
 * Set the resource limits, or the OOM score adjustment, for another process (pid > 0) or for the
 * calling one (pid 0). The runtime calls these functions if INIT, the container's first process, is
 * in another user namespace: there INIT may neither raise a hard limit nor lower the OOM score
 * adjustment, and once INIT's user has changed, INIT may not write to its own files in /proc. The
 * caller adds the field to the error messages. proc is a descriptor from path_open_proc().
 */
int process_set_rlimits(const struct spec_process *p, pid_t pid) must_check;
int process_set_oom_score(const struct spec_process *p, int proc, pid_t pid) must_check;

/* The following functions, in ids.c, set user, groups and capabilities. */
int step_mapped_root(struct step_ctx *c, const struct step *s) must_check;
int step_user(struct step_ctx *c, const struct step *s) must_check;
int step_capabilities(struct step_ctx *c, const struct step *s) must_check;
int step_no_new_privs(struct step_ctx *c, const struct step *s) must_check;

/*
 * The following functions, in fork.c, enter namespaces that exist, make a time namespace, and fork.
 */
int step_join(struct step_ctx *c, const struct step *s) must_check;
int step_enter(struct step_ctx *c, const struct step *s) must_check;
int step_time_ns(struct step_ctx *c, const struct step *s) must_check;
/* Forks, and returns in the child only, because the parent ends here. */
int step_fork(struct step_ctx *c, const struct step *s) must_check;

/* close.c does the step that closes descriptors. */
int step_close(struct step_ctx *c, const struct step *s) must_check;

/*
 * The following functions, in seccomp.c, load the system call filter that the runtime has compiled
 * (filter/filter.h).
 */
int step_seccomp(struct step_ctx *c, const struct step *s) must_check;
/*
 * Starts the thread that hands over a seccomp listener. The step SECCOMP calls this function unless
 * the step ENTER has called it. ENTER calls it if the process enters another pid namespace, because
 * such a process cannot make threads until it forks.
 */
int seccomp_start_sender(struct step_ctx *c) must_check;
/*
 * Loads the system call filter in the calling process, if the step SECCOMP could not load it yet.
 */
int seccomp_load_late(struct step_ctx *c) must_check;

/* The following functions, in exec.c, find the program and execute it. */
int step_find_program(struct step_ctx *c, const struct step *s) must_check;
int step_exec(struct step_ctx *c, const struct step *s) must_check;

/* hook.c does the step that runs hooks. */
int step_hooks(struct step_ctx *c, const struct step *s) must_check;

/*
 * Runs hooks in order with `state` on standard input. Stops at the first hook that fails (non-zero
 * exit, signal, timeout, cannot be executed), with an error that names "hooks.NAME[i]". A hook that
 * times out is killed together with its process group. out points to two descriptors, not below 3,
 * for the hooks' standard output and error. If one of the two is -EBADF, or out is NULL, the error
 * message quotes what the hook wrote.
 */
int hooks_run(const char *name, const struct spec_hooks *hooks, const char *state, size_t len,
	const int *out) must_check;
