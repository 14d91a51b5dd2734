/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Back end 1: the plan's INIT is a process in new namespaces on this kernel.
 *
 * ns_clone() makes it, ns_id_map() gives it its ids, and INIT itself runs ns_init(), which walks
 * its steps.
 */
#pragma once
#include <sys/types.h>

#include "plan/plan.h"

struct ns_clone_args {
	const struct step *clone; /* STEP_CLONE */
	const int *slots;         /* of the plan: namespaces to enter on the way */
	const struct plan *plan;
	int cgroup;    /* directory to be cloned into, or -EBADF */
	int container; /* exec: a pidfd of the running container's INIT to enter; else -EBADF */
	bool hide; /* others in the container may see INIT: keep them from reading its memory and
		      descriptors */
};

struct ns_child {
	pid_t pid; /* as seen by the runtime */
	int pidfd;
};

/*
 * Returns twice, as fork(2) does: 1 in the runtime with *ret set, 0 in INIT. Negative: nothing was
 * made. INIT is the caller's child in every case.
 */
int ns_clone(const struct ns_clone_args *args, struct ns_child *ret) must_check;

/* Writes /proc/PID/{uid_map,setgroups,gid_map}; an ordinary user's ranges go through newuidmap(1),
 * newgidmap(1). */
int ns_id_map(pid_t pid, const struct spec_id_maps *uid, const struct spec_id_maps *gid) must_check;

/* Opens a namespace file and checks that it is of this type (ioctl_ns(2) NS_GET_NSTYPE). */
int ns_open(enum spec_ns type, const char *path) must_check;

struct ns_init_args {
	const struct plan *plan;
	int *slots;
	int channel;         /* to the runtime */
	int start_socket;    /* create: listening, where `start` will connect; run, exec: -EBADF */
	int proc;            /* path_open_proc() */
	int preserve_fds;    /* descriptors 3 .. 3+n-1 stay open */
	char *const *env;    /* the program's, or NULL for process.env */
	const int *hook_out; /* step/step.h, hooks_run() */
	int (*state_json)(void *data, const char *status, struct strbuf *ret);
	void *state_data;
	struct arena *arena;
	size_t from; /* index of the step after STEP_CLONE */
};

/* INIT's life until the program's. Does not return: reports its failure to the runtime and exits
 * with 1. */
_Noreturn void ns_init(const struct ns_init_args *args);
