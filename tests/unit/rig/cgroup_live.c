/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/rig/cgroup_live.h"

#include <stdio.h>
#include <stdlib.h>

#include "unit/rig/cgroup.h"

int live_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	static int number;
	char name[64];

	*state = NULL;
	if (!f)
		return -1;
	snprintf(name, sizeof(name), "/caisson-unit-%d/c%d", getpid(), number++);
	f->opt = (struct cg_options){.id = "unit", .cgroups_path = arena_strdup(&f->arena, name)};
	fixture_open(f, state);
	return 0;
}

int live_teardown(void **state)
{
	struct fixture *f = *state;
	char parent[64];

	if (!f)
		return 0;
	struct cgroup up = f->cg;
	snprintf(parent, sizeof(parent), "/caisson-unit-%d", getpid());
	up.path = parent;
	int r = fixture_release(f);
	return cg_destroy(&up) < 0 ? -1 : r;
}

struct fixture *live_fixture(void **state)
{
	if (!*state)
		skip();
	return *state;
}
