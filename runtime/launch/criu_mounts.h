/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells CRIU which mounts of a container came from the host.
 *
 * Each such mount has a name in the checkpoint: the path that config.json gives as its destination,
 * or else the path of its mount point. At the restore the name leads to what the host has for it
 * then, so the source of a bind mount may be another one than before.
 */
#pragma once
#include "launch/criu_rpc.h"
#include "launch/host.h"

/* Adds the names of the mounts of a running container to the options of the checkpoint. */
int criu_name_mounts(struct container *c, const struct spec *s, struct criu_message *opts)
	must_check;

/*
 * Adds the sources of the mounts, by their names, to the options of the restore. l->plan is the
 * container's plan, and its mounts are those of config.json and of caisson.
 */
int criu_find_mounts(const struct launch *l, struct criu_message *opts) must_check;

/*
 * Makes the mount points that are missing in the root file system of the descriptor `root`, because
 * CRIU makes none.
 */
int criu_make_mount_points(const struct launch *l, int root) must_check;
