/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each INIT step does. This library is linked into caisson-init (init/) and into the guest's
 * init (guest/), and nothing in it depends on which of the two it runs in. It runs on two C
 * libraries: see base/musl.h.
 *
 * step_walk() does INIT's steps from `from` on. It returns only after a failure, with the message
 * set, because STEP_EXEC does not return. The steps free nothing, because the process either
 * becomes the program or ends.
 *
 * Theory of operation. The root file system is hostile. It is held as `root`, an O_PATH descriptor,
 * and base/path.h resolves every path below it. Writes to /proc go through `proc`, a procfs of the
 * host that the container cannot mount over.
 */
#pragma once
#include <sys/stat.h>

#include "plan/plan.h"

/*
 * How INIT talks to the process that launches it. The back end provides these functions. All of
 * them return >= 0, or -errno with a message.
 */
struct step_peer {
	void *data;
	/* tells the other side that this one is at the barrier */
	int (*report)(void *data, const char *barrier);
	/* waits until the other side is at the barrier */
	int (*await)(void *data, const char *barrier);
	int (*send_fd)(void *data, const char *what, int fd); /* what: "console" or "seccomp" */
	int (*forked)(void *data, pid_t pid); /* FORK made this process, which goes on */
	/* This is that process, and this its pid as its parent had it, or 0. May be NULL. */
	void (*reborn)(void *data, pid_t pid);
	int (*wait_start)(
		void *data); /* waits for `start`; errors go to the `start` command from then on */
};

/*
 * A mount that covers paths. Once it is attached somewhere, it is cloned for each further use; see
 * mask.c.
 */
struct step_cover {
	int fd; /* -EBADF: not made yet */
	bool attached;
};

struct step_late_ro;
struct step_sender;

#define STEP_KEEP_MAX 8

struct step_ctx {
	const struct plan *plan;
	enum step_place place; /* who walks: PLACE_INIT or PLACE_MONITOR */
	struct step_peer peer;
	int *slots;           /* plan->nslots descriptors, which HOST opened */
	int root;             /* the root file system, O_PATH; -EBADF until ATTACH_ROOT */
	int proc;             /* path_open_proc(); -EBADF from CLOSE on */
	int container;        /* exec: a pidfd of the container's first process, for ENTER */
	int pid_ns;           /* that process's pid namespace, if a listener is to be handed over */
	uint64_t enter_flags; /* CLONE_NEW* of the namespaces to enter by that pidfd */
	/*
	 * CLOSE keeps these descriptors, those below 3 + preserve_fds, and the descriptors for
	 * hooks, if hooks are to come.
	 */
	int keep[STEP_KEEP_MAX];
	size_t nkeep;
	unsigned preserve_fds;
	const void *filter; /* the compiled filter; NULL: it is in a slot */
	size_t filter_len;
	bool forked;   /* FORK was done */
	bool detached; /* who made this process ends before the program runs */
	/* The filter that SECCOMP left for EXEC and for hooks to load; late_step NULL: none. */
	struct strbuf late_filter;
	const struct step *late_step;
	struct step_sender *sender; /* the thread that hands over a listener, if it runs */
	int console;         /* the terminal's slave side, until CLOSE; -EBADF: there is none */
	char *const *env;    /* of the program; FIND_PROGRAM completes it */
	const char *exe;     /* path of the program; FIND_PROGRAM sets it */
	const int *hook_out; /* where hooks write: see hooks_run(); NULL: nowhere */
	/*
	 * Writes the container's state with this status. Hooks that INIT runs (createContainer,
	 * startContainer) get it on standard input.
	 */
	int (*state_json)(void *data, const char *status, struct strbuf *ret);
	void *state_data;
	struct arena *arena;

	/* The mount steps share these members; ATTACH_ROOT sets them. */
	mode_t umask;          /* the caller's, for createContainer hooks */
	bool umask_changed;    /* umask is set, and INIT has another one */
	const char *root_path; /* where the root is attached in the old tree; NULL: over "/" */
	struct stat root_stat; /* recognises the root if a path leads back to it */
	struct step_cover null_cover; /* hides files: the host's /dev/null */
	struct step_cover dir_cover;  /* hides directories: an empty file system */
	struct step_late_ro
		*late_ro; /* mounts that PIVOT makes read-only once everything in them is there */
};

int step_walk(struct step_ctx *c, size_t from) must_check;

/*
 * Does one step if it is of this place, or if it is a barrier that this place reports or waits for.
 */
int step_do(struct step_ctx *c, const struct step *s) must_check;

/*
 * The steps, one function for each kind, grouped by file. All return 0, or -errno with a message.
 */

/*
 * host_open.c: step_open() does OPEN_ROOT and OPEN_SOURCE for the INIT of an ordinary user, which
 * may copy mounts only in its own user namespace, and OPEN_SOURCE for sources that earlier mounts
 * of the container made. It puts what open_tree_copy() returns into the slot.
 */
int step_open(struct step_ctx *c, const struct step *s) must_check;

/* root.c: the root file system and the move into it */
int step_attach_root(struct step_ctx *c, const struct step *s) must_check;
int step_pivot(struct step_ctx *c, const struct step *s) must_check;
int step_readonly_root(struct step_ctx *c, const struct step *s) must_check;
int step_root_propagation(struct step_ctx *c, const struct step *s) must_check;

/* mount.c */
int step_mount(struct step_ctx *c, const struct step *s) must_check;

/* device.c */
int step_device(struct step_ctx *c, const struct step *s) must_check;
int step_symlink(struct step_ctx *c, const struct step *s) must_check;

/* mask.c */
int step_readonly_path(struct step_ctx *c, const struct step *s) must_check;
int step_mask_path(struct step_ctx *c, const struct step *s) must_check;

/* console.c */
int step_console(struct step_ctx *c, const struct step *s) must_check;

/* kernel.c: namespaced kernel settings */
int step_hostname(struct step_ctx *c, const struct step *s) must_check;
int step_domainname(struct step_ctx *c, const struct step *s) must_check;
int step_sysctl(struct step_ctx *c, const struct step *s) must_check;

/* process.c: attributes of the process */
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
 * Set the same for another process (pid > 0), or for this one (pid 0). HOST needs this if INIT is
 * in another user namespace: there INIT may neither raise a hard limit nor lower the OOM score
 * adjustment, and once its user has changed it may not write to its own files in /proc. The
 * messages do not name the field. proc: path_open_proc().
 */
int process_set_rlimits(const struct spec_process *p, pid_t pid) must_check;
int process_set_oom_score(const struct spec_process *p, int proc, pid_t pid) must_check;

/* ids.c: user, groups, capabilities */
int step_mapped_root(struct step_ctx *c, const struct step *s) must_check;
int step_user(struct step_ctx *c, const struct step *s) must_check;
int step_capabilities(struct step_ctx *c, const struct step *s) must_check;
int step_no_new_privs(struct step_ctx *c, const struct step *s) must_check;

/* fork.c: into namespaces that exist already, and fork */
int step_join(struct step_ctx *c, const struct step *s) must_check;
int step_enter(struct step_ctx *c, const struct step *s) must_check;
int step_time_ns(struct step_ctx *c, const struct step *s) must_check;
/* Returns in the child only; the parent ends. */
int step_fork(struct step_ctx *c, const struct step *s) must_check;

/* close.c */
int step_close(struct step_ctx *c, const struct step *s) must_check;

/* seccomp.c loads the filter that HOST compiled (filter/filter.h) */
int step_seccomp(struct step_ctx *c, const struct step *s) must_check;
/*
 * Starts the thread that hands over a listener; SECCOMP does it itself, if nobody did. A process
 * that has entered another pid namespace cannot make threads, until it forks.
 */
int seccomp_start_sender(struct step_ctx *c) must_check;
/* Loads the filter that SECCOMP left, if it left one, in INIT or in a process of its making. */
int seccomp_load_late(struct step_ctx *c) must_check;

/* exec.c: finds the program and becomes it */
int step_find_program(struct step_ctx *c, const struct step *s) must_check;
int step_exec(struct step_ctx *c, const struct step *s) must_check;

/* hook.c */
int step_hooks(struct step_ctx *c, const struct step *s) must_check;

/*
 * Runs hooks in order with `state` on standard input. Stops at the first one that fails (non-zero
 * exit, signal, timeout, cannot be executed), with an error that names "hooks.NAME[i]". A hook that
 * times out is killed, together with its process group. out is two descriptors, not below 3, for
 * the hooks' standard output and error. If one is -EBADF, or out is NULL, that output is kept for
 * the error's message.
 */
int hooks_run(const char *name, const struct spec_hooks *hooks, const char *state, size_t len,
	const int *out) must_check;
