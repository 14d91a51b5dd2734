/* SPDX-License-Identifier: Apache-2.0 */
/* The part of `caisson update` that attaches devices and mounts, and detaches them. */
#pragma once
#include "cmd/options.h"
#include "launch/container.h"

struct update_devices {
	/* the values of the options --add-net to --rm-mount */
	struct option_list add_nets, rm_nets, add_disks, rm_disks, add_mounts, rm_mounts;
	bool force;     /* the option --force */
	size_t removed; /* how many devices and mounts were detached */
	size_t added;   /* how many were attached, in the order of all additions */
	/* set if the update failed because what an option --rm-... names is not attached */
	bool not_attached;
};

/*
 * Detaches all that is to be detached, and then attaches the rest, so that a device can take the
 * place of another one. After an error nothing is attached that was not attached before.
 */
int update_devices(struct container *c, struct update_devices *u) must_check;
/*
 * Detaches what update_devices() has attached, because what followed has failed with `error`.
 * Returns `error`, whose message stays.
 */
int update_devices_undo(struct container *c, struct update_devices *u, int error) must_check;
