/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. Since Linux 6.8 listmount(2) gives the mounts beneath a mount, and
 * statmount(2) tells the file system of each. Both calls together cost a few microseconds if there
 * are no mounts beneath. Older kernels have only /proc/self/mountinfo, which lists all mounts.
 */
#include "step/pinned.h"

#include <linux/magic.h>
#include <stdint.h>
#include <string.h>

#include "base/fd.h"
#include "base/sys.h"

/* What follows is from linux/mount.h and linux/stat.h of Linux 6.8. */
enum {
	NR_STATMOUNT = 457,
	NR_LISTMOUNT = 458,
};
static const unsigned MNT_ID_UNIQUE = 0x4000; /* STATX_MNT_ID_UNIQUE */
static const uint64_t SB_BASIC = 1;           /* STATMOUNT_SB_BASIC */

struct id_request { /* struct mnt_id_req, version 0 */
	uint32_t size, spare;
	uint64_t mnt_id, param;
};

struct mount_answer { /* struct statmount, whose rest is not asked for */
	uint32_t size, spare;
	uint64_t mask;
	uint32_t sb_dev_major, sb_dev_minor;
	uint64_t sb_magic;
	uint8_t rest[480];
};

enum { MOUNTS_MAX = 256 };

/*
 * Returns 1 if the mount is of the file system of namespaces, 0 if not, and -1 if the kernel cannot
 * tell.
 */
static int is_namespace(uint64_t id)
{
	struct id_request request = {.size = sizeof(request), .mnt_id = id, .param = SB_BASIC};
	struct mount_answer answer = {0};

	if (syscall(NR_STATMOUNT, &request, &answer, sizeof(answer), 0) < 0 ||
		!(answer.mask & SB_BASIC))
		return -1;
	return answer.sb_magic == NSFS_MAGIC;
}

/*
 * Returns 1 if a namespace of any kind is mounted beneath the path or if there are MOUNTS_MAX
 * mounts or more beneath the path, 0 if neither, and -1 if the kernel cannot tell.
 */
static int ask_kernel(const char *path, bool nofollow)
{
	uint64_t ids[MOUNTS_MAX];
	struct statx st;

	if (statx(AT_FDCWD, path, nofollow ? AT_SYMLINK_NOFOLLOW : 0, MNT_ID_UNIQUE, &st) < 0 ||
		!(st.stx_mask & MNT_ID_UNIQUE))
		return -1;
	struct id_request request = {.size = sizeof(request), .mnt_id = st.stx_mnt_id};
	long n = syscall(NR_LISTMOUNT, &request, ids, MOUNTS_MAX, 0);
	if (n < 0 || n == MOUNTS_MAX)
		return n < 0 ? -1 : 1;
	for (long i = 0; i < n; i++) {
		int r = is_namespace(ids[i]);
		if (r)
			return r;
	}
	return 0;
}

/* Returns whether a mount namespace is pinned anywhere in this process's mount namespace. */
static bool any_pinned(void)
{
	_cleanup_strbuf_ struct strbuf text = {0};

	int r = fd_read_file(AT_FDCWD, "/proc/self/mountinfo", &text, 64 << 20);
	/* The fourth field of a line is the path within the file system, here mnt:[NUMBER]. */
	return r < 0 || strstr(strbuf_str(&text), " mnt:[");
}

bool pinned_below(const char *path, bool nofollow)
{
	int r = ask_kernel(path, nofollow);

	return r < 0 ? any_pinned() : r;
}
