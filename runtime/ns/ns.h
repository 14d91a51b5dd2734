/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes INIT, the container's first process, in new namespaces of this kernel, which is the host's
 * or a guest's.
 *
 * ns_spawn() makes a process that executes caisson-init. The main() of caisson-init calls
 * ns_init(), which does INIT's steps. ns_id_map() writes the id maps of INIT. ns_clone() makes a
 * copy of the caller instead, for the monitor of a microVM and for the process that stands for an
 * exec in it.
 */
#pragma once
#include <sys/types.h>

#include "ns/channel.h"
#include "plan/plan.h"

struct ns_child {
	pid_t pid; /* pid of the child process in the runtime's pid namespace */
	int pidfd;
};

struct ns_clone_args {
	const struct step *clone; /* the step STEP_CLONE of the plan */
	int cgroup; /* directory of the cgroup into which clone3(2) puts the process, or -EBADF */
};

/*
 * Makes a copy of the calling process by clone3(2). The function returns twice, as fork(2) does: it
 * returns 1 in the caller, with *ret set, and 0 in the new process. If the result is negative, no
 * process was made.
 */
int ns_clone(const struct ns_clone_args *args, struct ns_child *ret) must_check;

/*
 * Waits until a stage (a process that only makes the next one, its child) has reported its child on
 * the channel and has ended. *child is the stage before the call, and the stage's child after it;
 * the stage's child is a child of the caller too. `interrupt` is the descriptor of
 * interrupt_block(), which ends the wait if a signal comes, or -EBADF. `told` is called for each
 * CHANNEL_STEP message; if `told` is NULL, these messages are dropped.
 */
typedef void (*ns_told_fn)(void *data, const struct channel_msg *m);
int ns_await_fork(int channel, int interrupt, struct ns_child *child, ns_told_fn told, void *data)
	must_check;

/*
 * Waits for the first message that INIT (the container's first process) sends if `hide_late` is
 * set. INIT sends the message once caisson-init runs. An ordinary user can write the id maps only
 * after this message. The end of the descriptors that execve(2) closes is too early a sign, because
 * execve(2) closes them before the kernel makes the process dumpable.
 */
int ns_await_hello(int channel) must_check;

/*
 * Reaps a stage (a process that only makes the next one) that has reported `pid` as its child, and
 * opens a pidfd of that child. *child is the stage before the call, and the stage's child after it.
 */
int ns_take_forked(pid_t pid, struct ns_child *child) must_check;

/*
 * Returns `flags`, a set of CLONE_NEW*, without CLONE_NEWUSER if the process of pidfd is in the
 * caller's own user namespace, because setns(2) to the caller's own user namespace fails with
 * EINVAL.
 */
uint64_t ns_flags_to_enter(int pidfd, uint64_t flags);

/*
 * Writes the id maps of a process, /proc/PID/{uid_map,setgroups,gid_map}. If an ordinary user maps
 * ranges, executes newuidmap(1) and newgidmap(1), which write the maps.
 */
int ns_id_map(pid_t pid, const struct spec_id_maps *uid, const struct spec_id_maps *gid) must_check;

/*
 * Opens a namespace file and checks that it is a namespace of the given type (ioctl_ns(2)
 * NS_GET_NSTYPE). Returns the descriptor.
 */
int ns_open(enum spec_ns type, const char *path) must_check;

/* Says whether the calling process is in the namespace that fd refers to. */
bool ns_is_own(enum spec_ns type, int fd);

struct ns_init_args {
	const struct plan *plan;
	/* index in the plan of the first step that INIT, the container's first process, does */
	size_t from;
	int *slots;
	/* the channel to the runtime: the end that belongs to the container's first process */
	int channel;
	/*
	 * For a container made by `create`: FIFOs of the state directory. A byte in start_fifo
	 * means that `start` was called. The container's first process writes into result_fifo why
	 * the start failed, or closes it by executing the program. For run and exec both are
	 * -EBADF.
	 */
	int start_fifo, result_fifo;
	int proc; /* descriptor of a procfs from path_open_proc() */
	/*
	 * set for an exec: pidfd of the container's first process, whose namespaces the step ENTER
	 * enters
	 */
	int container;
	/*
	 * set for an exec with a seccomp listener: the pid namespace of the container's first
	 * process
	 */
	int pid_ns;
	/*
	 * Set for an exec: the result of ns_flags_to_enter(), which says by CLONE_NEW* flags which
	 * namespaces of the process `container` the step ENTER of the plan enters.
	 */
	uint64_t enter_flags;
	const void *filter; /* the compiled system call filter, or NULL */
	size_t filter_len;
	/*
	 * The container's first process stays dumpable until the barrier "placed" of the plan,
	 * because until then an ordinary user has to write its id maps.
	 */
	bool hide_late;
	/* how many descriptors from number 3 on stay open for the container's program */
	int preserve_fds;
	char *const *env;    /* environment of the program; NULL: the environment is process.env */
	const int *hook_out; /* files to which hooks write: see hooks_run() in step/step.h */
	int (*state_json)(void *data, const char *status, struct strbuf *ret);
	void *state_data;
	/*
	 * function that is called with state_data in the process that the step FORK has made; or
	 * NULL
	 */
	void (*reborn)(void *data, pid_t pid);
	struct arena *arena;
	/*
	 * function that is called with the index of each step that the container's first process
	 * has done, and of each barrier; or NULL
	 */
	void (*told)(size_t index, uint64_t took_ns);
	/*
	 * function that the container's first process calls before the runtime stops reading its
	 * log; or NULL
	 */
	void (*stop_log)(void);
};

/*
 * Does the steps of INIT, the container's first process, until INIT becomes the program. Does not
 * return: if a step fails, INIT reports the failure to the runtime and exits with 1.
 */
_Noreturn void ns_init(const struct ns_init_args *args);
