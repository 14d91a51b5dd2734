/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts, changes and stops the systemd scope of a container. Only caisson-systemd calls these
 * functions; systemd.c says how they work.
 */
#pragma once
#include "cgroups/cgroup.h"

int systemd_start(const struct cgroup *cg, const struct cg_options *opt,
	const struct cg_resources *res, pid_t pid) must_check;
int systemd_stop(const struct cgroup *cg) must_check;
/* Tells systemd which limits the control files of the scope's cgroup now have. */
int systemd_update(const struct cgroup *cg) must_check;
int systemd_attach(const struct cgroup *cg, pid_t pid) must_check;
