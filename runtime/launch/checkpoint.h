/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoints of a container in a microVM. The directory of `--image-path` gets a directory "vm"
 * with two files: "state" (vm/snapshot/format.h) and "memory", the guest's RAM. The directory "vm"
 * appears there complete, or not at all.
 */
#pragma once
#include "launch/container.h"

struct launch;

struct checkpoint_options {
	const char *image_path; /* value of --image-path; the directory is made if it is missing */
	bool leave_running;
};

/*
 * Saves a running container in a checkpoint. Without `leave_running` the container ends and is
 * deleted. If saving fails, the container goes on.
 */
int launch_checkpoint(struct container *c, const struct checkpoint_options *o) must_check;

/*
 * Opens the files of a checkpoint for the command `restore`, and stores their descriptors in
 * l->vm.restore.
 */
int checkpoint_open(struct launch *l, const char *image_path) must_check;
