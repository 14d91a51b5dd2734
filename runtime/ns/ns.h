/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Namespace mode: the plan's INIT is a process in new namespaces on the host's kernel.
 *
 * ns_spawn() makes a process that executes caisson-init, whose main() calls ns_init(), which walks
 * INIT's steps. ns_clone() makes a copy of the caller: the monitor of a microVM, and the guest's
 * INIT. ns_id_map() writes the id maps of either.
 */
#pragma once
#include <sys/types.h>

#include "plan/plan.h"

struct ns_child {
	pid_t pid; /* as seen by the runtime */
	int pidfd;
};

struct ns_clone_args {
	const struct step *clone; /* STEP_CLONE */
	int cgroup;               /* directory to be cloned into, or -EBADF */
	/*
	 * If CLONE is staged: the caller's end of the channel, on which the stage names its child,
	 * and the stage's end, which the caller closes.
	 */
	int channel;
	int *theirs;
	/* keep INIT's memory and descriptors from others in the container, who may see INIT */
	bool hide;
};

/*
 * Returns twice, as fork(2) does: 1 in the runtime with *ret set, and 0 in the new process. If the
 * result is negative, nothing was made. If CLONE is staged, the new process is the stage, and *ret
 * is the child that its FORK step made.
 */
int ns_clone(const struct ns_clone_args *args, struct ns_child *ret) must_check;

/*
 * Waits until a stage, which is a process that forks the next one, has reported its child on the
 * channel and has ended. *child is the stage when this is called, and the stage's child when it
 * returns; that is a child of the caller too. interrupt: the descriptor of interrupt_block(), which
 * ends the wait if it is readable, or -EBADF for none.
 */
int ns_await_fork(int channel, int interrupt, struct ns_child *child) must_check;

/*
 * Waits until INIT says that it runs, which it does if it has `hide_late`. The kernel makes a
 * process dumpable only after it has closed the caller's descriptors, so that their end is too
 * early a sign for an ordinary user to write the id maps.
 */
int ns_await_hello(int channel) must_check;

/* Takes over the child that a stage named: reaps the stage, and opens the child's pidfd. */
int ns_take_forked(pid_t pid, struct ns_child *child) must_check;

/*
 * CLONE_NEW* flags without CLONE_NEWUSER if the user namespace of this process is the caller's own,
 * because setns(2) to that fails with EINVAL.
 */
uint64_t ns_flags_to_enter(int pidfd, uint64_t flags);

/*
 * Writes /proc/PID/{uid_map,setgroups,gid_map}. For an ordinary user with ranges, newuidmap(1) and
 * newgidmap(1) write the maps.
 */
int ns_id_map(pid_t pid, const struct spec_id_maps *uid, const struct spec_id_maps *gid) must_check;

/*
 * Opens a namespace file and checks that the namespace is of this type (ioctl_ns(2) NS_GET_NSTYPE).
 */
int ns_open(enum spec_ns type, const char *path) must_check;

/* Whether the namespace is the one that the calling process is in. */
bool ns_is_own(enum spec_ns type, int fd);

struct ns_init_args {
	const struct plan *plan;
	size_t from; /* index of the first step */
	int *slots;
	int channel; /* to the runtime */
	/*
	 * create: FIFOs of the state directory. A byte in the first is `start`; what goes wrong
	 * then is written to the second, and its end is success. run, exec: -EBADF.
	 */
	int start_fifo, result_fifo;
	int proc;             /* path_open_proc() */
	int container;        /* exec: for ENTER */
	int pid_ns;           /* exec with a listener: that process's pid namespace */
	uint64_t enter_flags; /* see ns_flags_to_enter() */
	const void *filter;   /* the compiled system call filter, or NULL */
	size_t filter_len;
	/*
	 * INIT becomes non-dumpable at the barrier "placed" only, because an ordinary user has to
	 * write its id maps before.
	 */
	bool hide_late;
	int preserve_fds;    /* how many descriptors, from 3 on, stay open */
	char *const *env;    /* of the program; NULL: process.env */
	const int *hook_out; /* where hooks write: see hooks_run() of step/step.h */
	int (*state_json)(void *data, const char *status, struct strbuf *ret);
	void *state_data;
	/* FORK has made this process; it is called with state_data; or NULL */
	void (*reborn)(void *data, pid_t pid);
	struct arena *arena;
	void (*told)(const struct step *s, uint64_t took_ns); /* a step was done; or NULL */
	void (*stop_log)(void); /* nobody listens from here on; or NULL */
};

/*
 * Runs INIT until it becomes the program. Does not return: if a step fails, it reports the failure
 * to the runtime and exits with 1.
 */
_Noreturn void ns_init(const struct ns_init_args *args);
