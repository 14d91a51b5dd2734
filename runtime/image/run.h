/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `caisson run --image` and `caisson create --image`: docker's options, made into a config.json and
 * into options of `caisson run` and `caisson create`, which do the rest.
 */
#pragma once
#include "image/image.h"
#include "images/oci/bundle.h"

struct run_options {
	/* Of the program, and how it is shown. */
	const char *image, *name, *platform, *workdir, *user, *hostname, *stop_signal;
	struct option_list env, env_file, label, entrypoint;
	struct option_list network, publish; /* network is never empty: run_choose_network() */
	bool interactive, tty, detach, rm, read_only;
	/* What it may see and use. */
	struct option_list volume, mount, tmpfs, device, cap_add, cap_drop, security_opt, ulimit;
	const char *memory, *cpus, *cgroup_parent, *pids_limit;
	/* How it is run. */
	const char *isolation, *hypervisor, *kernel;
	/* Given by caisson: its own path, its global options, its --root as an absolute path. */
	const char *runtime, *state_root;
	struct option_list runtime_options;
	/* The command, behind the options; ends in NULL. */
	char **command;
};

/* What config.json is written from. */
struct run {
	const struct run_options *o;
	struct arena *arena;
	const char *name;
	const char *dir; /* absolute: the bundle */
	int dir_fd;
	bool rootless;
	uid_t uid; /* the caller's, outside the user namespace */
	gid_t gid;
	bool vm;
	const char *const *capabilities; /* run_capabilities() */
	const char *hostname;
	const char *stop_signal;
};

/* A mount of config.json. */
struct run_mount {
	const char *destination, *type, *source;
	const char *options[24];
	size_t noptions;
};

#define RUN_MOUNTS_MAX 256

struct run_mounts {
	struct run_mount v[RUN_MOUNTS_MAX];
	size_t n;
};

/*
 * run_mounts.c: what -v, --mount and --tmpfs ask for, and the three files that a container gets
 * from its bundle. Sorted, so that no mount hides one beneath it.
 */
int run_collect_mounts(struct run *r, struct run_mounts *ret) must_check;
/* Writes hosts, hostname and resolv.conf into the bundle. */
int run_write_files(struct run *r) must_check;

/* The network that containers join if none is asked for: for root, and for an ordinary user. */
#define RUN_NETWORK "caisson"
#define RUN_NETWORK_USER "user"

/* run_network.c: checks --network, and decides if there is none. */
int run_choose_network(struct arena *a, struct run_options *o) must_check;
/* Whether caisson-net has to give the container its networks. */
bool run_joins(const struct run_options *o);
bool run_network_is(const struct run_options *o, const char *name);
/* The path of ns:PATH, else NULL. */
const char *run_network_path(const struct run_options *o);

/* run_limits.c: what the options say of capabilities, devices and resources. */
int run_capabilities(struct run *r) must_check;
int run_put_limits(struct run *r, struct json_out *o) must_check;  /* linux.resources, devices */
int run_put_rlimits(struct run *r, struct json_out *o) must_check; /* process.rlimits */

/* run_security.c: --security-opt. Writes what belongs to process, and what belongs to linux. */
int run_put_process_security(struct run *r, struct json_out *o) must_check;
int run_put_security(struct run *r, struct json_out *o) must_check;

/*
 * run_config.c: the config.json that the image's settings are added to, and the members of
 * config.json that an image says nothing about.
 */
int run_base_config(struct run *r, struct json **ret) must_check;
int run_put_rest(struct run *r, struct json_out *o) must_check;
/* Reads -e and --env-file. The list ends in NULL. */
int run_environment(struct run *r, const char *const **ret) must_check;
