/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits the user and group ids as which a container's file server may act, if the container has a
 * user namespace. The guest's kernel keeps the container to the ids of that namespace. The host
 * keeps the server to these ids too, because the guest's kernel may be hostile.
 */
#pragma once
#include "plan/plan.h"
#include "vm/fs/vmfs.h"

/* longest text, in bytes, that the kernel accepts as an id map */
#define SHARE_MAP_MAX 4095

/*
 * Makes the user namespace c->userns for the file server and sets c->uid and c->gid, the ids as
 * which it acts, if the plan has a user namespace.
 */
int share_confine(const struct plan *plan, struct vmfs_config *c) must_check;

/*
 * Writes an id map that maps each host id of `maps` to itself. If the text would be longer than the
 * kernel accepts, the ids between neighbouring ranges are mapped too, those in the smallest gap
 * first, until the text is short enough.
 */
int share_own_ids(const struct spec_id_maps *maps, struct strbuf *ret) must_check;
