/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoints of a container in namespaces, by the program criu(8).
 *
 * Theory of operation. caisson executes `criu swrk FD`, sends it one request over a socket
 * (criu_rpc.h) and answers its notifications until the result comes. The directory of --image-path
 * gets CRIU's own image files and descriptors.json, in which caisson stores what the standard
 * streams of the container's first process were, as runc does.
 *
 * CRIU saves what is in the container's own namespaces. What came from the host is external: bind
 * mounts, masks, joined namespaces, standard streams. At the checkpoint caisson tells CRIU a name
 * for each of them, and at the restore what the host has for that name now.
 *
 * `restore` makes the cgroup, moves criu into it and lets criu make the processes as children of
 * caisson. criu has a mount namespace of its own, in which the container's root is mounted, so that
 * nothing is left on the host if a command is killed.
 */
#pragma once
#include "launch/launch.h"

struct checkpoint_options;
struct launch;

/*
 * The options of `checkpoint` and `restore` that only CRIU uses, under the names of the command
 * line.
 */
struct criu_options {
	const char *work_path;   /* directory of CRIU's log; NULL: the directory of --image-path */
	const char *parent_path; /* an earlier pre-dump, relative to --image-path */
	/* ADDRESS:PORT of a page server; if lazy_pages is set, CRIU itself is the server */
	const char *page_server;
	const char *cgroups_mode; /* value of --manage-cgroups-mode; NULL: soft */
	const char *network_lock; /* value of --network-lock; NULL: CRIU's own choice */
	const char *lsm_profile, *lsm_mount_context;
	/*
	 * descriptor to which a zero byte is written as soon as the pages can be fetched; -EBADF:
	 * none
	 */
	int status_fd;
	bool tcp_established, tcp_skip_in_flight, tcp_close;
	bool ext_unix_sk, shell_job, file_locks, link_remap, auto_dedup;
	bool pre_dump, lazy_pages;
	bool empty_network; /* --empty-ns network */
};

#define CRIU_OPTIONS_INIT \
	{ \
		.status_fd = -EBADF \
	}

/*
 * Refuses options whose value is wrong, and those that contradict each other. If `vm` is true, also
 * refuses options that would do something in a container in namespaces and cannot in a microVM. The
 * options that only allow CRIU to save something are fine there, because the checkpoint of a
 * microVM has all of the guest.
 */
int criu_check_options(const struct criu_options *o, bool vm) must_check;

/*
 * Saves the container of c in the directory `image`. If the options say neither leave_running nor
 * pre_dump, all its processes have ended when the function returns 0.
 */
int criu_checkpoint(struct container *c, const struct checkpoint_options *o, int image) must_check;

/* Says why this user cannot restore a container in namespaces. */
int criu_may_restore(void) must_check;

/*
 * Makes the container of l from the checkpoint in o->restore. l->plan is the plan of the same
 * container; the function does those steps of the host that CRIU leaves to its caller. When the
 * function returns 0, the container's processes run, l->child is the first one, and state.json
 * names it. If the function fails, the caller undoes what was done.
 */
int criu_restore(struct launch *l, const struct launch_options *o) must_check;
