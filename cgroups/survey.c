/* SPDX-License-Identifier: Apache-2.0 */
/* Describes the cgroups of the host for `caisson doctor`. */
#include <stdio.h>

#include "cgroups/cg_internal.h"

#define MOUNTINFO_MAX (16 * 1024 * 1024)

/*
 * Lists each controller that limits need and that cgroup v2 does not have, as "NAME (WHERE)", in
 * which WHERE says what holds the controller.
 */
static int list_missing(struct arena *a, const char *mountinfo, struct cg_survey *s)
{
	static const char *const wanted[] = {"cpu", "cpuset", "io", "memory", "pids", "hugetlb"};

	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		const char *holder;

		if (cg_list_has(s->controllers, wanted[i], strlen(wanted[i])))
			continue;
		int r = cg_v1_holder(a, mountinfo, wanted[i], &holder);
		if (r < 0)
			return r;
		s->missing = arena_printf(a, "%s%s%s (%s%s)", s->missing, *s->missing ? ", " : "",
			wanted[i], holder ? "on cgroup v1 at " : "not offered",
			holder ? holder : "");
		if (!s->missing)
			return -ENOMEM;
		s->on_v1 |= holder != NULL;
	}
	return 0;
}

int cg_survey(struct arena *a, struct cg_survey *ret)
{
	_cleanup_strbuf_ struct strbuf mountinfo = {0};
	struct cgroup cg = {0};
	char list[CG_LIST_MAX];

	*ret = (struct cg_survey){.controllers = "", .missing = ""};
	int r = cg_find_mount(a, &ret->mount);
	if (r < 0)
		return r;
	cg.mount = ret->mount;
	_cleanup_fd_ int dir = cg_open_mount(&cg);
	if (dir < 0)
		return dir;
	r = cg_read(dir, "cgroup.controllers", list, sizeof(list));
	if (r < 0)
		return cg_err_file(r, NULL, "cgroup.controllers", "", "/");
	ret->controllers = arena_strdup(a, list);
	if (!ret->controllers)
		return -ENOMEM;
	r = fd_read_file(AT_FDCWD, "/proc/self/mountinfo", &mountinfo, MOUNTINFO_MAX);
	return r < 0 ? r : list_missing(a, strbuf_str(&mountinfo), ret);
}
