/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the bundle of `caisson run --image` and `caisson create --image`: turns docker's options
 * and the image's settings into a config.json. caisson links this folder. It reads the store with a
 * small part of images/oci, and executes caisson-image only if the image must be pulled or unpacked
 * first.
 */
#pragma once
#include "base/fd.h"
#include "cmd/options.h"
#include "images/oci/bundle.h"
#include "images/oci/store.h"

struct run_options {
	/* options of the program, and of how the container appears */
	const char *image, *name, *platform, *workdir, *user, *hostname, *stop_signal;
	struct option_list env, env_file, label, entrypoint;
	struct option_list dns, add_host;
	struct option_list network, publish; /* run_choose_network() makes network non-empty */
	bool interactive, tty, detach, rm, read_only;
	/* options of what the program may see and use */
	struct option_list volume, mount, tmpfs, device, cap_add, cap_drop, security_opt, ulimit;
	const char *memory, *cpus, *cgroup_parent, *pids_limit;
	/* options of how the container is run */
	const char *isolation, *hypervisor, *kernel;
	const char *store; /* NULL: the default store */
	bool quiet, debug;
	const char *state_root; /* absolute path of caisson's --root */
	/* the command behind the options, with NULL at its end */
	char **command;
};

/* Holds everything from which config.json is written. */
struct run {
	const struct run_options *o;
	struct arena *arena;
	const char *name;
	const char *dir; /* absolute path of the bundle */
	int dir_fd;
	bool rootless;
	uid_t uid; /* the caller's user id outside the user namespace */
	gid_t gid;
	bool vm;
	const char *const *capabilities; /* set by run_capabilities() */
	const char *hostname;
	const char *stop_signal;
	const struct image *image;
	int root; /* directory with the image's tree, from which volumes are filled */
	const struct store *store;
	/* lock of the store's volumes until config.json is written; -EBADF: no volume is mounted */
	int volumes_lock;
};

/* Describes a mount of config.json. */
struct run_mount {
	const char *destination, *type, *source;
	const char *options[24];
	size_t noptions;
	bool no_copy; /* a volume is not filled with what the image has at the destination */
};

struct run_mounts {
	struct run_mount *v; /* in the arena, as many as the options can ask for */
	size_t n;
};

/*
 * mounts.c: collects the mounts of -v, --mount and --tmpfs, the image's volumes, and the three
 * files that a container gets from its bundle. They are sorted, so that no mount hides one beneath
 * it.
 */
int run_collect_mounts(struct run *r, struct run_mounts *ret) must_check;
/*
 * volume.c: makes a directory in the bundle for a volume without a source. It begins with a
 * copy of what the image has at the volume's destination, if that is a directory.
 */
int run_make_volume(struct run *r, size_t index, const char *destination, const char **ret)
	must_check;
/*
 * volume.c: makes the store's volume of that name if there is none, and fills it like
 * run_make_volume() if it is empty and `copy` is set. *ret is the absolute path of its content.
 */
int run_use_volume(struct run *r, const char *name, const char *destination, bool copy,
	const char **ret) must_check;
/* mounts.c: writes the files hosts, hostname and resolv.conf into the bundle. */
int run_write_files(struct run *r) must_check;

/* networks that a container joins if none is asked for: root's, and an ordinary user's */
#define RUN_NETWORK "caisson"
#define RUN_NETWORK_USER "user"

/* network.c: checks --network, and chooses a network if there is no such option. */
int run_choose_network(struct arena *a, struct run_options *o) must_check;
/* Returns whether caisson-net has to give the container its networks. */
bool run_joins(const struct run_options *o);
bool run_network_is(const struct run_options *o, const char *name);
/* Returns the path of --network ns:PATH, else NULL. */
const char *run_network_path(const struct run_options *o);

/* limits.c: computes the program's capabilities from the options. */
int run_capabilities(struct run *r) must_check;
/* Write linux.resources with the devices, and process.rlimits. */
int run_put_limits(struct run *r, struct json_out *o) must_check;
int run_put_rlimits(struct run *r, struct json_out *o) must_check;

/*
 * security.c: applies --security-opt. One function writes the members of process, the other those
 * of linux.
 */
int run_put_process_security(struct run *r, struct json_out *o) must_check;
int run_put_security(struct run *r, struct json_out *o) must_check;

/*
 * config.c: run_base_config() makes the config.json to which the image's settings are added.
 * run_put_rest() writes the members of which an image says nothing.
 */
int run_base_config(struct run *r, struct json **ret) must_check;
int run_put_rest(struct run *r, struct json_out *o) must_check;
/* Reads -e and --env-file into a list with NULL at its end. */
int run_environment(struct run *r, const char *const **ret) must_check;
