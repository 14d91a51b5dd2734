/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A container can make the kernel open the file that INIT was executed from:
 * an entrypoint "#!/proc/self/exe" is enough (CVE-2019-5736). If that file were the host's
 * /usr/bin/caisson, root in the container could write to it.
 *
 * So a command that puts a process into a container first executes itself again from a private,
 * read-only copy of the mount that the binary is on. Opening that copy for writing fails with
 * EROFS, and no one can remount it, because it belongs to no mount namespace. This costs an execve,
 * but no copy of the file.
 *
 * If mounts cannot be copied (rootless), caisson executes a sealed memfd instead. It does not need
 * one if the binary belongs to the real root and the user may not write to it: then the kernel
 * refuses writing in the container too, where root may change the mode only of files that belong to
 * an id of its user namespace.
 */
#include "launch/seal.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x10U /* memfd_create(2), Linux 6.3 */
#endif
#ifndef ST_RDONLY
#define ST_RDONLY 1 /* statfs(2) f_flags */
#endif

static int is_sealed(int exe)
{
	struct statfs fs;

	int seals = fcntl(exe, F_GET_SEALS);
	if (seals >= 0 && (seals & F_SEAL_WRITE))
		return 1;
	if (fstatfs(exe, &fs) < 0)
		return err_sys("stat /proc/self/exe");
	return (fs.f_flags & ST_RDONLY) != 0;
}

static int readonly_copy(void)
{
	struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY};

	_cleanup_fd_ int tree =
		open_tree(AT_FDCWD, "/proc/self/exe", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH, &ro, sizeof(ro)) < 0)
		return -errno;
	return take_fd(&tree);
}

static int sealed_copy(int exe)
{
	const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	struct stat st;
	off_t at = 0;

	/*
	 * With the sysctl vm.memfd_noexec=1 a memfd can be executed only if it was made with this
	 * flag. Linux before 6.3 does not know the flag.
	 */
	_cleanup_fd_ int copy = memfd_create("caisson", flags | MFD_EXEC);
	if (copy < 0 && errno == EINVAL)
		copy = memfd_create("caisson", flags);
	if (copy < 0 || fstat(exe, &st) < 0)
		return -errno;
	while (at < st.st_size)
		if (sendfile(copy, exe, &at, (size_t)(st.st_size - at)) <= 0)
			return errno ? -errno : -EIO;
	if (fcntl(copy, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	return take_fd(&copy);
}

static bool is_out_of_reach(int exe)
{
	struct stat st;

	return geteuid() != 0 && fstat(exe, &st) == 0 && st.st_uid == 0 && st.st_gid == 0 &&
	       access("/proc/self/exe", W_OK) < 0;
}

int seal_self(char *const argv[])
{
	_cleanup_fd_ int exe = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	if (exe < 0)
		return err_sys("open /proc/self/exe");
	int r = is_sealed(exe);
	if (r != 0)
		return r < 0 ? r : 0;
	_cleanup_fd_ int copy = readonly_copy();
	if (copy < 0 && is_out_of_reach(exe))
		return 0;
	if (copy < 0)
		copy = sealed_copy(exe);
	if (copy < 0) {
		errno = -copy;
		return err_sys("make a copy of caisson that containers cannot write to");
	}
	execveat(copy, "", argv, environ, AT_EMPTY_PATH);
	return err_sys("execute the protected copy of caisson");
}
