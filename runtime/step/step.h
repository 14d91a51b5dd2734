/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The steps that INIT does. This library is linked into caisson-init (init/), the first process of
 * a container, and nothing in the library depends on whether caisson-init runs on the host or in a
 * guest. The runtime and the guest's agent call single functions of the library. The library is
 * built for two C libraries: see base/musl/.
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
 * The functions by which INIT talks to the process that launched it. Each program that uses this
 * library provides its own. All of them return >= 0, or -errno with a message.
 */
struct step_peer {
	void *data;
	/* tells the other side that this side has reached the barrier */
	int (*report)(void *data, const char *barrier);
	/* waits until the other side has reached the barrier */
	int (*await)(void *data, const char *barrier);
	/* sends a descriptor; `what` is "console" or "seccomp" */
	int (*send_fd)(void *data, const char *what, int fd);
	/* waits for a descriptor and returns it; `what` is "network" */
	int (*take_fd)(void *data, const char *what);
	/* called in the parent: FORK has made the process `pid`, which does the remaining steps */
	int (*forked)(void *data, pid_t pid);
	/*
	 * called in the process that FORK made; pid is the process's own pid as its parent saw it,
	 * or 0. May be NULL.
	 */
	void (*reborn)(void *data, pid_t pid);
	int (*wait_start)(
		/* waits for the command `start`, which also gets the errors of all later steps */
		void *data);
};

/*
 * A mount that covers paths to hide them. The mount itself is attached at its first use, and a
 * clone of it at each further use; see mask.c.
 */
struct step_cover {
	int fd; /* descriptor of the mount; -EBADF: the mount is not made yet */
	bool attached;
};

struct step_late_ro;
struct step_sender;

#define STEP_KEEP_MAX 8

struct step_ctx {
	const struct plan *plan;
	enum step_place place; /* the party whose steps are done: PLACE_INIT or PLACE_MONITOR */
	struct step_peer peer;
	int *slots; /* array of plan->nslots descriptors, which the host's side opened */
	int root;   /* the root file system as an O_PATH descriptor; -EBADF until ATTACH_ROOT */
	int proc;   /* a procfs from path_open_proc(); -EBADF once CLOSE is done */
	/*
	 * a procfs of the pid namespace that JOIN entered, for the process that FORK makes; -EBADF:
	 * there is none
	 */
	int joined_proc;
	/* set for an exec: pidfd of the container's first process, whose namespaces ENTER enters */
	int container;
	/*
	 * set for an exec: the pid namespace of the container's first process. INIT enters it after
	 * the other namespaces, because the thread that hands over a seccomp listener must be made
	 * in between.
	 */
	int pid_ns;
	/*
	 * set for an exec: CLONE_NEW* flags of the namespaces that ENTER enters by the pidfd
	 * `container`
	 */
	uint64_t enter_flags;
	/*
	 * The descriptors that CLOSE leaves open. CLOSE also leaves open all descriptors below 3 +
	 * preserve_fds, and those for the output of hooks if hooks still follow.
	 */
	int keep[STEP_KEEP_MAX];
	size_t nkeep;
	unsigned preserve_fds;
	/* the compiled seccomp filter; NULL: the file in one of the slots holds it */
	const void *filter;
	size_t filter_len;
	bool forked;   /* whether the FORK step is done */
	bool detached; /* the parent of this process ended after FORK, before the program runs */
	/*
	 * The filter that SECCOMP did not load, and that EXEC and startContainer hooks load. If
	 * there is no such filter, late_step is NULL.
	 */
	struct strbuf late_filter;
	const struct step *late_step;
	/* the thread that hands over a seccomp listener; NULL: the thread does not run */
	struct step_sender *sender;
	int console;      /* the terminal's slave side until CLOSE; -EBADF: no terminal */
	char *const *env; /* environment of the program; FIND_PROGRAM completes it */
	const char *exe;  /* path of the program; FIND_PROGRAM sets it */
	/* two files to which hooks write: see hooks_run(); NULL: there are no such files */
	const int *hook_out;
	/*
	 * Writes the container's state, with `status` as its status, into *ret. createContainer and
	 * startContainer hooks, which INIT runs, get this state on standard input.
	 */
	int (*state_json)(void *data, const char *status, struct strbuf *ret);
	void *state_data;
	struct arena *arena;

	/* ATTACH_ROOT sets the members from here on, and all mount steps use them. */
	mode_t umask; /* the umask of caisson's caller, which createContainer hooks get */
	/* whether the member umask is valid, and INIT itself has another umask */
	bool umask_changed;
	const char *root_path; /* where the root is attached in the host's tree; NULL: over "/" */
	/*
	 * the host's mount namespace and the container's, if ATTACH_ROOT has left the host's for
	 * the container's; else -EBADF
	 */
	int host_mounts, own_mounts;
	/* status of the root, to notice a path that leads back to the root */
	struct stat root_stat;
	struct step_cover null_cover; /* cover for files: the host's /dev/null */
	struct step_cover dir_cover;  /* cover for directories: an empty file system */
	struct step_late_ro
		*late_ro; /* list of mounts that PIVOT makes read-only once all files are in them */
};

int step_walk(struct step_ctx *c, size_t from) must_check;

/*
 * Does the step if it is one of the party c->place (INIT or the monitor), or if it is a barrier
 * that this party reports or waits for.
 */
int step_do(struct step_ctx *c, const struct step *s) must_check;

/*
 * The functions that do the steps, one for each kind of step, grouped by file. All return 0, or
 * -errno with a message.
 */

/*
 * step_open() of host_open.c does OPEN_ROOT and OPEN_SOURCE in two cases: for the INIT of an
 * ordinary user, which may copy mounts only in its own user namespace, and for a source that an
 * earlier mount of the container made. It puts the result of open_tree_copy() into the step's slot.
 */
int step_open(struct step_ctx *c, const struct step *s) must_check;

/* root.c attaches the root file system and moves INIT into it. */
int step_attach_root(struct step_ctx *c, const struct step *s) must_check;
int step_pivot(struct step_ctx *c, const struct step *s) must_check;
int step_readonly_root(struct step_ctx *c, const struct step *s) must_check;
int step_root_propagation(struct step_ctx *c, const struct step *s) must_check;

/* mount.c makes the container's mounts. */
int step_mount(struct step_ctx *c, const struct step *s) must_check;

/* device.c makes device nodes and the symbolic links in /dev. */
int step_device(struct step_ctx *c, const struct step *s) must_check;
int step_symlink(struct step_ctx *c, const struct step *s) must_check;

/* mask.c hides paths and makes paths read-only. */
int step_readonly_path(struct step_ctx *c, const struct step *s) must_check;
int step_mask_path(struct step_ctx *c, const struct step *s) must_check;

/* console.c makes the container's terminal. */
int step_console(struct step_ctx *c, const struct step *s) must_check;

/*
 * kernel.c sets the host name, the domain name and sysctls, which are kernel settings of a
 * namespace.
 */
int step_hostname(struct step_ctx *c, const struct step *s) must_check;
int step_domainname(struct step_ctx *c, const struct step *s) must_check;
int step_sysctl(struct step_ctx *c, const struct step *s) must_check;

/* process.c sets attributes that the process keeps over execve(2). */
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
 * Set the resource limits, or the OOM score adjustment, for another process (pid > 0) or for this
 * one (pid 0). The host's side calls these functions if INIT is in another user namespace: there
 * INIT may neither raise a hard limit nor lower the OOM score adjustment, and once INIT's user has
 * changed it may not write to its own files in /proc. The caller adds the field to the error
 * messages. proc is a descriptor from path_open_proc().
 */
int process_set_rlimits(const struct spec_process *p, pid_t pid) must_check;
int process_set_oom_score(const struct spec_process *p, int proc, pid_t pid) must_check;

/* ids.c sets user, groups and capabilities. */
int step_mapped_root(struct step_ctx *c, const struct step *s) must_check;
int step_user(struct step_ctx *c, const struct step *s) must_check;
int step_capabilities(struct step_ctx *c, const struct step *s) must_check;
int step_no_new_privs(struct step_ctx *c, const struct step *s) must_check;

/* fork.c enters namespaces that already exist, and forks. */
int step_join(struct step_ctx *c, const struct step *s) must_check;
int step_enter(struct step_ctx *c, const struct step *s) must_check;
int step_time_ns(struct step_ctx *c, const struct step *s) must_check;
/* Forks, and returns in the child only, because the parent ends. */
int step_fork(struct step_ctx *c, const struct step *s) must_check;

/* close.c closes descriptors. */
int step_close(struct step_ctx *c, const struct step *s) must_check;

/* seccomp.c loads the filter that the host's side compiled (filter/filter.h). */
int step_seccomp(struct step_ctx *c, const struct step *s) must_check;
/*
 * Starts the thread that hands over a seccomp listener. SECCOMP calls this function unless ENTER
 * has called it. ENTER calls it if the process enters another pid namespace, because such a process
 * cannot make threads until it forks.
 */
int seccomp_start_sender(struct step_ctx *c) must_check;
/* Loads the filter in INIT or in a process that INIT made, if SECCOMP could not load it yet. */
int seccomp_load_late(struct step_ctx *c) must_check;

/* exec.c finds the program and executes it. */
int step_find_program(struct step_ctx *c, const struct step *s) must_check;
int step_exec(struct step_ctx *c, const struct step *s) must_check;

/* hook.c runs hooks. */
int step_hooks(struct step_ctx *c, const struct step *s) must_check;

/*
 * Runs hooks in order with `state` on standard input. Stops at the first hook that fails (non-zero
 * exit, signal, timeout, cannot be executed), with an error that names "hooks.NAME[i]". A hook that
 * times out is killed together with its process group. out points to two descriptors, not below 3,
 * for the hooks' standard output and error. If a descriptor is -EBADF, or out is NULL, the error
 * message quotes that output.
 */
int hooks_run(const char *name, const struct spec_hooks *hooks, const char *state, size_t len,
	const int *out) must_check;
