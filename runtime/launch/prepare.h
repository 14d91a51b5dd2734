/* SPDX-License-Identifier: Apache-2.0 */
/* Turns the options of `create`, `run` and `plan` into a plan. */
#pragma once
#include "launch/launch.h"

struct bundle {
	const char *path; /* absolute path of the bundle */
	const char *text; /* text of config.json as it was read */
	size_t len;
	const struct spec *spec;
	enum plan_isolation isolation;
	const char *rootfs; /* absolute path of the root file system */
	/* networks that the container joins; join_decide() chooses them */
	struct spec_strings networks;
};

/* Reads and checks the bundle. Everything in *ret is in the arena. */
int bundle_load(struct arena *a, const struct launch_options *o, struct bundle *ret) must_check;

/*
 * Collects into *ret the facts on which the plan depends. cg is the container's cgroup, for which
 * the caller has called cg_resolve().
 */
int bundle_env(struct arena *a, const struct bundle *b, const struct launch_options *o,
	const struct cgroup *cg, struct plan_env *ret) must_check;

int bundle_cgroup_options(struct arena *a, const struct bundle *b, const struct launch_options *o,
	struct cg_options *ret) must_check;
