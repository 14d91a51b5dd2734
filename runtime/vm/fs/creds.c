/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Switches the user and group ids with which the server serves a request. Only requests that create
 * a file use the guest's ids. The server still has its capabilities then, because vmfs_jail() sets
 * SECBIT_NO_SETUID_FIXUP. The server needs these capabilities, because the guest's kernel has
 * already decided whether the program may create the file, by groups and capabilities that the
 * request does not contain.
 */
#include <linux/capability.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>

#include "vm/fs/fs.h"

int fs_creds_drop_fsetid(bool drop)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2];

	if (syscall(SYS_capget, &head, d) < 0)
		return -errno;
	if (drop)
		d[0].effective &= ~(1U << CAP_FSETID);
	else
		d[0].effective |= d[0].permitted & (1U << CAP_FSETID);
	return syscall(SYS_capset, &head, d) < 0 ? -errno : 0;
}

/*
 * Sets the file system ids of this thread. setfsuid(2) and setfsgid(2) report no failure, so a
 * second call of each reads the id back.
 */
static int set_fsids(uid_t uid, gid_t gid)
{
	setfsgid(gid);
	if ((gid_t)setfsgid((gid_t)-1) != gid)
		return -EPERM;
	setfsuid(uid);
	return (uid_t)setfsuid((uid_t)-1) != uid ? -EPERM : 0;
}

int fs_creds_enter(struct fs_session *s, const struct fs_request *r, uint32_t mask)
{
	mask &= 0777;
	if (mask != s->mask) {
		umask(mask);
		s->mask = mask;
	}
	if (r->head.uid == s->uid && r->head.gid == s->gid)
		return 0;
	int e = set_fsids(r->head.uid, r->head.gid);
	if (e < 0)
		fs_creds_leave(s, r);
	return e;
}

void fs_creds_leave(const struct fs_session *s, const struct fs_request *r)
{
	if (r->head.uid == s->uid && r->head.gid == s->gid)
		return;
	setfsuid(s->uid);
	setfsgid(s->gid);
}
