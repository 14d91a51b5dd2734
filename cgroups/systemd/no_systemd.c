/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions of this file replace those of client.c in caisson-guest, because caisson-guest
 * itself is the guest's init and there is no systemd. caisson-guest uses CG_CGROUPFS, with which
 * none of these functions is called.
 */
#include "cgroups/cg_internal.h"

static int err_no_systemd(void)
{
	return err_set(EOPNOTSUPP, "there is no systemd in a microVM's guest");
}

int cg_systemd_start(struct arena *a, struct cgroup *cg, const struct cg_options *opt,
	const struct cg_resources *res, pid_t pid)
{
	return err_no_systemd();
}

int cg_systemd_stop(const struct cgroup *cg)
{
	return err_no_systemd();
}

int cg_systemd_update(const struct cgroup *cg)
{
	return err_no_systemd();
}

int cg_systemd_attach(const struct cgroup *cg, pid_t pid)
{
	return err_no_systemd();
}
