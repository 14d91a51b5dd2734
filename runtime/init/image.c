/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A container can make the kernel open the file from which caisson-init, the
 * container's first program, was executed: an entrypoint "#!/proc/self/exe" is enough
 * (CVE-2019-5736). So the file is a memfd that is made for one start of a container alone. Seals
 * keep everyone from writing to the memfd. No two starts share a memfd, because a container could
 * still change the memfd's mode and times and lock it.
 *
 * With the sysctl vm.memfd_noexec=2 no memfd can be executed. Then the file is an unnamed one in
 * the state directory, executed through a read-only mount that belongs to no mount namespace. The
 * descriptor of that mount is closed before the container's first process exists, because any
 * process that holds it could clear the mount's read-only flag. An ordinary user cannot make such a
 * mount; even then no other start uses the file.
 */
#include "init/image.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/sys.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x10U /* flag of memfd_create(2), in the kernel since Linux 6.3 */
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x20 /* seal of fcntl(2), in the kernel since Linux 6.3 */
#endif
#define SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

extern const char caisson_init_image[], caisson_init_image_end[];

static int write_image(int fd, bool readable)
{
	int r = fd_write_all(
		fd, caisson_init_image, (size_t)(caisson_init_image_end - caisson_init_image));

	if (r < 0)
		return r;
	return fchmod(fd, readable ? 0555 : 0111) < 0 ? -errno : 0;
}

static int make_memfd(bool readable)
{
	const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;

	/*
	 * With the sysctl vm.memfd_noexec=1 a memfd can be executed only if it was made with
	 * MFD_EXEC. Linux before 6.3 does not know MFD_EXEC.
	 */
	_cleanup_fd_ int fd = memfd_create("caisson-init", flags | MFD_EXEC);
	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("caisson-init", flags);
	if (fd < 0)
		return -errno;
	int r = write_image(fd, readable);
	if (r < 0)
		return r;
	if (fcntl(fd, F_ADD_SEALS, SEALS | F_SEAL_EXEC) < 0 && fcntl(fd, F_ADD_SEALS, SEALS) < 0)
		return -errno;
	return take_fd(&fd);
}

/*
 * Opens the file a second time, through a new mount. The mount is read-only and allows execution.
 */
static int open_readonly(int fd)
{
	struct mount_attr attr = {
		.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, .attr_clr = MOUNT_ATTR_NOEXEC};
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	_cleanup_fd_ int tree = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree >= 0 && mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) == 0)
		snprintf(path, sizeof(path), "/proc/self/fd/%d", tree);
	int opened = open(path, O_PATH | O_CLOEXEC);
	return opened < 0 ? -errno : opened;
}

static int make_file(bool readable, int dir)
{
	_cleanup_fd_ int fd = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0700);

	if (fd < 0)
		return -errno;
	int r = write_image(fd, readable);
	return r < 0 ? r : open_readonly(fd);
}

int init_image_open(bool readable, int dir)
{
	int fd = make_memfd(readable);

	if (fd == -EACCES && dir >= 0)
		fd = make_file(readable, dir);
	if (fd >= 0)
		return fd;
	errno = -fd;
	return err_sys("make the file that the container's first process is executed from");
}
