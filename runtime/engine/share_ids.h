/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ids that the file server of a container with a user namespace may act as. The guest's kernel
 * keeps the container to them, and the host does the same with the server, because a hostile guest
 * need not.
 */
#pragma once
#include "plan/plan.h"
#include "vm/fs/vmfs.h"

/* The longest text that the kernel takes as a map. */
#define SHARE_MAP_MAX 4095

/* Makes c->userns, and sets c->uid and c->gid, if the plan has a user namespace. */
int share_confine(const struct plan *plan, struct vmfs_config *c) must_check;

/*
 * Writes the map of a user namespace in which each of the host's ids of these maps is the same
 * inside. If the kernel would find the text too long, ids between neighbouring ranges are mapped
 * too, those of the smallest gaps first.
 */
int share_own_ids(const struct spec_id_maps *maps, struct strbuf *ret) must_check;
