/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Namespace mode: the plan's INIT is a process in new namespaces on the host's kernel.
 *
 * ns_clone() makes INIT, ns_id_map() writes its id maps, and INIT itself runs ns_init(), which
 * walks its steps.
 */
#pragma once
#include <sys/types.h>

#include "plan/plan.h"

struct ns_clone_args {
	const struct step *clone; /* STEP_CLONE */
	const int *slots;         /* the plan's slots: namespaces to enter on the way */
	const struct plan *plan;
	int cgroup;    /* directory to be cloned into, or -EBADF */
	int container; /* exec: a pidfd of the running container's INIT to enter; else -EBADF */
	/* keep INIT's memory and descriptors from others in the container, who may see INIT */
	bool hide;
};

struct ns_child {
	pid_t pid; /* as seen by the runtime */
	int pidfd;
};

/*
 * Returns twice, as fork(2) does: 1 in the runtime with *ret set, and 0 in INIT. If the result is
 * negative, nothing was made. INIT is the caller's child in every case.
 */
int ns_clone(const struct ns_clone_args *args, struct ns_child *ret) must_check;

/*
 * Writes /proc/PID/{uid_map,setgroups,gid_map}. For an ordinary user with ranges, newuidmap(1) and
 * newgidmap(1) write the maps.
 */
int ns_id_map(pid_t pid, const struct spec_id_maps *uid, const struct spec_id_maps *gid) must_check;

/*
 * Opens a namespace file and checks that the namespace is of this type (ioctl_ns(2) NS_GET_NSTYPE).
 */
int ns_open(enum spec_ns type, const char *path) must_check;

struct ns_init_args {
	const struct plan *plan;
	int *slots;
	int channel;         /* to the runtime */
	int start_socket;    /* create: listening, `start` will connect to it; run, exec: -EBADF */
	int proc;            /* path_open_proc() */
	int preserve_fds;    /* how many descriptors, from 3 on, stay open */
	char *const *env;    /* of the program; NULL: process.env */
	const int *hook_out; /* where hooks write: see hooks_run() of step/step.h */
	int (*state_json)(void *data, const char *status, struct strbuf *ret);
	void *state_data;
	struct arena *arena;
	size_t from; /* index of the step after STEP_CLONE */
};

/*
 * Runs INIT until it becomes the program. Does not return: if a step fails, it reports the failure
 * to the runtime and exits with 1.
 */
_Noreturn void ns_init(const struct ns_init_args *args);
