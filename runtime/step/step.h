/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each INIT step does. This library is linked into the container's child (ns/) and into the
 * guest's init (guest/): nothing in it knows which of the two it runs in.
 *
 * step_walk() does INIT's steps from `from` on. It returns only on failure (the message is set),
 * since STEP_EXEC does not return. Nothing is allocated that would have to be freed: the process
 * either becomes the program or ends.
 *
 * Theory of operation: the root file system is hostile. It is held as `root`, an O_PATH descriptor,
 * and every path below it is resolved by base/path.h. Writes to /proc go through `proc`, the host's
 * own procfs, which the container cannot mount over.
 */
#pragma once
#include <sys/stat.h>

#include "plan/plan.h"

/* How INIT talks to whoever launches it; the back end provides it. All return >= 0 or -errno with a
 * message. */
struct step_peer {
	void *data;
	int (*report)(void *data, const char *barrier); /* tell: this side got there */
	int (*await)(void *data, const char *barrier);  /* wait until the other side got there */
	int (*send_fd)(void *data, const char *what, int fd); /* "console", "seccomp" */
	int (*wait_start)(
		void *data); /* blocks until start; afterwards errors go to whoever started */
};

/* A mount of ours that is cloned for each use once it is attached somewhere; see mask.c. */
struct step_cover {
	int fd; /* -EBADF: not made yet */
	bool attached;
};

struct step_late_ro;

struct step_ctx {
	const struct plan *plan;
	enum step_place place; /* who walks: PLACE_INIT, or PLACE_MONITOR */
	struct step_peer peer;
	int *slots;          /* plan->nslots descriptors that HOST opened */
	int root;            /* the root file system, O_PATH; -EBADF until ATTACH_ROOT */
	int proc;            /* path_open_proc() */
	int console;         /* the terminal's slave side, or -EBADF */
	char *const *env;    /* the program's environment, completed by FIND_PROGRAM */
	const char *exe;     /* the program's path, set by FIND_PROGRAM */
	const int *hook_out; /* see hooks_run(); NULL: none */
	/* Hooks of the INIT side (createContainer, startContainer) get this on stdin, with the
	 * status put in. */
	int (*state_json)(void *data, const char *status, struct strbuf *ret);
	void *state_data;
	struct arena *arena;

	/* Of the mount steps among themselves. ATTACH_ROOT sets them. */
	const char *root_path; /* where the root is attached in the old tree; NULL: over "/" */
	struct stat root_stat; /* to recognise the root when a path leads back to it */
	struct step_cover null_cover; /* hides files: the host's /dev/null */
	struct step_cover dir_cover;  /* hides directories: an empty file system */
	struct step_late_ro
		*late_ro; /* made read-only by PIVOT, once everything in them is there */
};

int step_walk(struct step_ctx *c, size_t from) must_check;

/* One step, if it is this place's or a barrier to report or to wait for; else nothing. */
int step_do(struct step_ctx *c, const struct step *s) must_check;

/* The steps, one function a kind, grouped by file. All: 0 or -errno with a message. */

/*
 * host_open.c: OPEN_ROOT and OPEN_SOURCE. step_open() is open_tree_copy() into the slot, for the
 * INIT of an ordinary user: only in its own user namespace may it copy mounts.
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
 * The same for another process (pid > 0; 0 is this one), which HOST needs where INIT is in another
 * user namespace: there it may neither raise a hard limit nor lower the OOM score adjustment, nor,
 * once its user changed, write to its own files in /proc. The messages lack the field's name. proc:
 * path_open_proc().
 */
int process_set_rlimits(const struct spec_process *p, pid_t pid) must_check;
int process_set_oom_score(const struct spec_process *p, int proc, pid_t pid) must_check;

/* ids.c: user, groups, capabilities */
int step_mapped_root(struct step_ctx *c, const struct step *s) must_check;
int step_user(struct step_ctx *c, const struct step *s) must_check;
int step_capabilities(struct step_ctx *c, const struct step *s) must_check;
int step_no_new_privs(struct step_ctx *c, const struct step *s) must_check;

/* seccomp.c: loading; seccomp_compile.c: compiling and the cache (HOST) */
int step_seccomp(struct step_ctx *c, const struct step *s) must_check;

/*
 * Returns a descriptor positioned at the first instruction of the compiled filter; reading on to
 * its end gives the whole (struct sock_filter[]). It is a file of the cache, with more in front, or
 * a memfd. cache_dir: an O_PATH or directory descriptor of a directory only the runtime's user can
 * write, or -EBADF for no cache.
 */
int seccomp_compile(const struct spec_seccomp *s, int cache_dir) must_check;

/* exec.c: finding the program, becoming it */
int step_find_program(struct step_ctx *c, const struct step *s) must_check;
int step_exec(struct step_ctx *c, const struct step *s) must_check;

/* hook.c */
int step_hooks(struct step_ctx *c, const struct step *s) must_check;

/*
 * Runs hooks in order with `state` on standard input. The first that fails (non-zero exit, signal,
 * timeout, cannot be executed) ends it with an error that names "hooks.NAME[i]". A hook that times
 * out is killed, with what it started in its process group. out: two descriptors, not below 3, for
 * its standard output and error; -EBADF, or NULL for both: kept for the error's message.
 */
int hooks_run(const char *name, const struct spec_hooks *hooks, const char *state, size_t len,
	const int *out) must_check;
