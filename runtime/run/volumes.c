/* SPDX-License-Identifier: Apache-2.0 */
#include "run/volumes.h"

#include "base/rootless.h"

int run_volumes_open(struct run_volumes *v, const char *store, bool changes)
{
	struct rootless rootless;
	int r = store_open(&v->store, store, STORE_SYNC);

	if (r < 0 || !changes)
		return r;
	v->lock = volumes_lock(&v->store, true);
	return v->lock < 0 ? v->lock : rootless_become_root(&rootless);
}

void run_volumes_close(struct run_volumes *v)
{
	fd_close(&v->lock);
	store_close(&v->store);
}
