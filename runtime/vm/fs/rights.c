/* SPDX-License-Identifier: Apache-2.0 */
/* Makes a process of the file server give up the capabilities that it does not need. */
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vm/fs/fs.h"

int fs_enter_userns(const struct vmfs_config *c)
{
	/*
	 * Drops the supplementary groups of the user who called the runtime, above all root's own
	 * group, because they would give the server more rights.
	 */
	if (setgroups(0, NULL) < 0 && errno != EPERM)
		return err_sys("virtio-fs: drop the supplementary groups");
	if (!c->userns)
		return 0;
	if (setns(c->userns, CLONE_NEWUSER) < 0)
		return err_sys("virtio-fs: enter the user namespace");
	if (prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP) < 0)
		return err_sys("virtio-fs: set the securebits");
	/*
	 * The real and the saved user id stay those of the monitor, so that the monitor may still
	 * kill this process.
	 */
	if (setresgid(c->gid, c->gid, c->gid) < 0 || setresuid((uid_t)-1, c->uid, (uid_t)-1) < 0)
		return err_sys(
			"virtio-fs: act as user %u and group %u, who are mapped", c->uid, c->gid);
	return 0;
}

int fs_drop_caps(uint64_t caps)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2] = {
		{.effective = (uint32_t)caps, .permitted = (uint32_t)caps}};
	struct rlimit none = {0, 0};

	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return err_sys("virtio-fs: forbid core dumps");
	/*
	 * SECBIT_NO_SETUID_FIXUP lets the server change its file system ids without losing
	 * capabilities (creds.c). The call locks all securebits that it sets, so that no one can
	 * clear them.
	 */
	if (prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED |
					     SECBIT_NOROOT | SECBIT_NOROOT_LOCKED |
					     SECBIT_NO_CAP_AMBIENT_RAISE |
					     SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED) < 0)
		return err_sys("virtio-fs: lock the securebits");
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return err_sys("virtio-fs: clear the ambient capabilities");
	for (unsigned long cap = 0; cap < 64; cap++)
		if (prctl(PR_CAPBSET_DROP, cap) < 0 && errno != EINVAL)
			return err_sys("virtio-fs: drop capability %lu", cap);
	if (syscall(SYS_capset, &head, d) < 0)
		return err_sys("virtio-fs: drop capabilities");
	if (prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_sys("virtio-fs: forbid new privileges");
	return 0;
}
