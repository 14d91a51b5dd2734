/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoints of containers: in namespaces by CRIU (criu.h), and of microVMs. For a microVM the
 * directory of `--image-path` gets a directory "vm" with two files: "state" (vm/snapshot/format.h)
 * and "memory", the guest's RAM. The directory "vm" appears there complete, or not at all, and
 * after it the file "inventory.img", for podman.
 */
#pragma once
#include "launch/container.h"
#include "launch/criu.h"

struct checkpoint_options {
	const char *image_path; /* value of --image-path; the directory is made if it is missing */
	bool leave_running;
	struct criu_options criu; /* for a container in namespaces */
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
