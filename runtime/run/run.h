/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the bundle of `caisson run --image` and `caisson create --image`: turns docker's options
 * and the image's settings into a config.json. The program caisson itself does this with a small
 * part of images/oci, and executes caisson-image only if the image must be pulled or unpacked
 * first.
 */
#pragma once
#include "base/fd.h"
#include "cmd/options.h"
#include "images/oci/bundle.h"
#include "images/oci/store.h"
#include "spec/spec.h"

struct run_options {
	/* options of the program, and of how the container appears */
	const char *image, *name, *platform, *workdir, *user, *hostname, *stop_signal;
	struct option_list env, env_file, label, entrypoint;
	struct option_list dns, add_host;
	/* values of --network and -p; run_choose_network() makes `network` non-empty */
	struct option_list network, publish;
	bool interactive, tty, detach, rm, read_only;
	/* options of what the program may see and use */
	struct option_list volume, mount, tmpfs, device, cap_add, cap_drop, security_opt, ulimit;
	const char *memory, *cpus, *cgroup_parent, *pids_limit;
	/* options of where and how the container is run */
	const char *isolation, *hypervisor, *kernel;
	/* value of --root-disk: "share", "erofs" or NULL */
	const char *root_disk;
	const char *store; /* directory of the store of images; NULL: the default store */
	bool quiet, debug;
	const char *state_root; /* absolute path of caisson's --root */
	/* program and arguments from the command line, which end in NULL */
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
	/* the id maps of an ordinary user's container, which are those of this process */
	struct spec_user_maps maps;
	/* names of the program's capabilities, set by run_capabilities() */
	const char *const *capabilities;
	const char *hostname;
	const char *stop_signal;
	const struct image *image;
	const char *disk; /* absolute path of the EROFS image; NULL: the host shares the root */
	const char
		*volume_disk; /* absolute path of the volume that is the microVM's disk, or NULL */
	int root;             /* directory with the image's tree, from which volumes are filled */
	const struct store *store;
	/*
	 * lock of the volumes in the store, held until config.json is written; -EBADF: the
	 * container mounts no volume
	 */
	int volumes_lock;
};

/* Describes a mount of config.json. */
struct run_mount {
	const char *destination, *type, *source;
	const char *options[24];
	size_t noptions;
	/* set if a new volume is not to be filled with what the image has at the destination */
	bool no_copy;
	bool disk; /* the source is a volume that is the microVM's disk */
};

struct run_mounts {
	/* the mounts, in the arena; the array has room for as many as the options can ask for */
	struct run_mount *v;
	size_t n;
};

/*
 * mounts.c: collects the mounts of -v, --mount and --tmpfs, the image's volumes, and the three
 * files that a container gets from its bundle. The mounts are sorted, so that a mount beneath
 * another mount comes after it and is not hidden by it.
 */
int run_collect_mounts(struct run *r, struct run_mounts *ret) must_check;
/*
 * volume.c: makes a directory in the bundle for a volume without a source. The directory begins
 * with a copy of what the image has at the volume's destination, if that is a directory.
 */
int run_make_volume(struct run *r, size_t index, const char *destination, const char **ret)
	must_check;
/*
 * volume.c: makes the volume `name` in the store if it does not exist yet. If the volume is empty
 * and `copy` is set, fills it with a copy of the image's directory at `destination`. *ret is the
 * absolute path of the volume's content.
 */
int run_use_volume(struct run *r, const char *name, const char *destination, bool copy,
	const char **ret) must_check;
/*
 * volume.c: sets run->volume_disk if one of the options -v and --mount names a volume that is a
 * disk. run_use_volume() then returns SPEC_MOUNT_IMAGE for that volume.
 */
int run_find_volume_disk(struct run *r) must_check;
/*
 * mounts.c: writes the files hosts, hostname and resolv.conf of the container into the bundle,
 * unless caisson-net writes them.
 */
int run_write_files(struct run *r) must_check;

/*
 * the networks that a container joins if the user asks for none: root's container joins the first,
 * an ordinary user's the second
 */
#define RUN_NETWORK "caisson"
#define RUN_NETWORK_USER "user"

/*
 * Returns whether the root of the container is an EROFS image, which its microVM reads as a disk.
 */
bool run_uses_erofs(const struct run_options *o);

/* network.c: checks the values of --network, and chooses a network if this option is not given. */
int run_choose_network(struct arena *a, struct run_options *o) must_check;
/* Returns whether the container joins networks, which caisson-net has to give it. */
bool run_joins(const struct run_options *o);
bool run_network_is(const struct run_options *o, const char *name);
/* Returns the path in the value ns:PATH of --network, or NULL if --network has another value. */
const char *run_network_path(const struct run_options *o);

/* limits.c: computes the program's capabilities from the options. */
int run_capabilities(struct run *r) must_check;
/*
 * limits.c: reads the number of CPUs of --cpus, such as "1.5", as a quota of CPU time in a period
 * of RUN_CPU_PERIOD microseconds.
 */
#define RUN_CPU_PERIOD 100000
int run_parse_cpus(const char *text, int64_t *ret_quota) must_check;
/*
 * limits.c: run_put_limits() writes linux.resources with the devices, and run_put_rlimits() writes
 * process.rlimits.
 */
int run_put_limits(struct run *r, struct json_out *o) must_check;
int run_put_rlimits(struct run *r, struct json_out *o) must_check;

/*
 * security.c: these functions apply --security-opt. run_put_process_security() writes the members
 * of `process` in config.json, and run_put_security() those of `linux`.
 */
int run_put_process_security(struct run *r, struct json_out *o) must_check;
int run_put_security(struct run *r, struct json_out *o) must_check;

/*
 * config.c: run_base_config() makes the config.json to which the image's settings are added.
 * run_put_rest() writes the members that no setting of an image concerns.
 */
int run_base_config(struct run *r, struct json **ret) must_check;
int run_put_rest(struct run *r, struct json_out *o) must_check;
/*
 * config.c: collects the variables of -e and --env-file, and HOSTNAME, in a list that ends in NULL.
 */
int run_environment(struct run *r, const char *const **ret) must_check;
