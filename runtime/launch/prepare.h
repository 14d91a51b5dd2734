/* SPDX-License-Identifier: Apache-2.0 */
/* What create, run and plan share: from options to a plan. */
#pragma once
#include "launch/launch.h"

struct bundle {
	const char *path; /* absolute */
	const char *text; /* config.json as read */
	size_t len;
	const struct spec *spec;
	enum plan_isolation isolation;
	const char *rootfs; /* absolute */
};

/* Reads and checks the bundle. Everything in the arena. */
int bundle_load(struct arena *a, const struct launch_options *o, struct bundle *ret) must_check;

/* The facts that the plan depends on. cg: resolved. */
int bundle_env(struct arena *a, const struct bundle *b, const struct launch_options *o,
	const struct cgroup *cg, struct plan_env *ret) must_check;

int bundle_cgroup_options(struct arena *a, const struct bundle *b, const struct launch_options *o,
	struct cg_options *ret) must_check;
