/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. Since Linux 6.8 fsconfig(2) takes the lower directories one at a time. Older
 * kernels take all lower directories as one value of at most 255 bytes. If 255 bytes are not
 * enough, mount(2) is used, which takes a page of options.
 *
 * mount(2) attaches what it mounts. So a child process calls mount(2) in a mount namespace of its
 * own, and opens a detached copy of the mount. The child shares its table of descriptors with this
 * process, which thereby gets the copy. The child's working directory is the directory that holds
 * the lower directories, whose names are relative to it, so that a page is enough for 500 names.
 */
#include "base/overlay.h"

#include <linux/limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "base/fd.h"
#include "base/str.h"
#include "base/sys.h"

#define FSCONFIG_MAX 255 /* longest value in bytes that fsconfig(2) takes */
#define OPTIONS_MAX 4096 /* longest options of mount(2) in bytes: one page */

/*
 * The options of every overlay mount. redirect_dir is "nofollow" and not "off", because the kernel
 * refuses "off" together with userxattr.
 */
static const char *const fixed_options[][2] = {
	{"index", "off"}, {"metacopy", "off"}, {"redirect_dir", "nofollow"}, {"volatile", NULL}};

/*
 * Returns how many elements of fixed_options are set on this overlay: all, or all but the last one,
 * "volatile", if the overlay has no upper directory, because the kernel refuses "volatile" without
 * an upper directory.
 */
static size_t count_options(const struct overlay *o)
{
	return ARRAY_SIZE(fixed_options) - (o->upper ? 0 : 1);
}

/* Sets an option by fsconfig(2). Like fsconfig(2), returns -1 and sets errno on failure. */
static int set(int fs, const char *key, const char *value)
{
	if (value && strlen(value) > FSCONFIG_MAX) {
		errno = EINVAL;
		return -1;
	}
	return fsconfig(fs, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, key, value, 0);
}

static int set_lower(int fs, const struct overlay *o)
{
	char path[FSCONFIG_MAX + 2];

	for (const char *p = o->lower; *p;) {
		size_t len = strcspn(p, ":");
		snprintf(path, sizeof(path), "%s/%.*s", o->dir, (int)len, p);
		if (set(fs, "lowerdir+", path) < 0)
			return -1;
		p += len + (p[len] == ':');
	}
	return 0;
}

/*
 * Mounts the overlay with fsopen(2), fsconfig(2) and fsmount(2). Returns the mount's descriptor. If
 * that fails, returns -1 and sets errno.
 */
static int mount_by_fsopen(const struct overlay *o)
{
	_cleanup_fd_ int fs = fsopen("overlay", FSOPEN_CLOEXEC);

	if (fs < 0 || set(fs, "source", "caisson") < 0 || set_lower(fs, o) < 0 ||
		(o->upper &&
			(set(fs, "upperdir", o->upper) < 0 || set(fs, "workdir", o->work) < 0)))
		return -1;
	for (size_t i = 0; i < count_options(o); i++)
		if (set(fs, fixed_options[i][0], fixed_options[i][1]) < 0)
			return -1;
	if ((o->userxattr && set(fs, "userxattr", NULL) < 0) ||
		fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -1;
	return fsmount(fs, FSMOUNT_CLOEXEC, 0);
}

static int options_text(const struct overlay *o, char buf[OPTIONS_MAX])
{
	int n = snprintf(buf, OPTIONS_MAX, "lowerdir=%s%s%s%s%s%s", o->lower,
		o->upper ? ",upperdir=" : "", o->upper ? o->upper : "", o->upper ? ",workdir=" : "",
		o->upper ? o->work : "", o->userxattr ? ",userxattr" : "");

	for (size_t i = 0; i < count_options(o) && n < OPTIONS_MAX; i++)
		n += snprintf(buf + n, (size_t)(OPTIONS_MAX - n), ",%s%s%s", fixed_options[i][0],
			fixed_options[i][1] ? "=" : "",
			fixed_options[i][1] ? fixed_options[i][1] : "");
	return n < OPTIONS_MAX ? 0 : -E2BIG;
}

/*
 * Runs in a child process that shares its descriptors with the caller: mounts the overlay by
 * mount(2), and gives a detached copy of the mount the descriptor number `fd`. Returns an errno,
 * which becomes the child's exit code.
 */
static int mount_in_child(const struct overlay *o, const char *options, int fd)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0 ||
		chdir(o->dir) < 0 || mount("caisson", o->dir, "overlay", 0, options) < 0)
		return errno;
	int tree = open_tree(AT_FDCWD, o->dir, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0 || dup3(tree, fd, O_CLOEXEC) < 0)
		return errno;
	close(tree);
	return 0;
}

/*
 * Mounts the overlay with mount(2) in a child process. Returns the mount's descriptor. If that
 * fails, returns -1 and sets errno.
 */
static int mount_by_mount2(const struct overlay *o)
{
	struct clone_args args = {.flags = CLONE_FILES, .exit_signal = SIGCHLD};
	_cleanup_fd_ int fd = open("/", O_PATH | O_CLOEXEC);
	char options[OPTIONS_MAX];
	int status;

	if (fd < 0)
		return -1;
	if (options_text(o, options) < 0) {
		errno = E2BIG;
		return -1;
	}
	pid_t pid = sys_clone3(&args);
	if (pid == 0)
		_exit(mount_in_child(o, options, fd));
	if (pid < 0)
		return -1;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	if (status) {
		errno = WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
		return -1;
	}
	return take_fd(&fd);
}

int overlay_mount(const struct overlay *o)
{
	/*
	 * Backslashes and commas in paths are refused, because both have a meaning of their own in
	 * the options of overlayfs and mount(2).
	 */
	if (strpbrk(o->dir, "\\,") ||
		(o->upper && (strpbrk(o->upper, "\\,") || strpbrk(o->work, "\\,"))))
		return err_set(EINVAL,
			"mount an overlay of %s: its path holds a comma or a backslash", o->dir);
	int fd = mount_by_fsopen(o);
	if (fd < 0 && errno == EINVAL)
		fd = mount_by_mount2(o);
	return fd < 0 ? err_sys("mount an overlay of directories of %s", o->dir) : fd;
}

static int copy_xattr(int from, int to, const char *name)
{
	_cleanup_free_ char *value = malloc(XATTR_SIZE_MAX);

	if (!value)
		return err_set(ENOMEM, "out of memory");
	ssize_t n = fgetxattr(from, name, value, XATTR_SIZE_MAX);
	if (n < 0)
		return err_sys("read the extended attribute %s of a lower directory", name);
	if (fsetxattr(to, name, value, (size_t)n, 0) < 0)
		return err_sys("set the extended attribute %s of an upper directory", name);
	return 0;
}

static int copy_xattrs(int from, int to)
{
	_cleanup_free_ char *names = malloc(XATTR_LIST_MAX);
	int r = 0;

	if (!names)
		return err_set(ENOMEM, "out of memory");
	ssize_t n = flistxattr(from, names, XATTR_LIST_MAX);
	if (n < 0)
		return errno == EOPNOTSUPP
			       ? 0
			       : err_sys("read the extended attributes of a lower directory");
	for (const char *p = names; p < names + n && r >= 0; p += strlen(p) + 1)
		/*
		 * Two kinds of attributes are left out: those of overlayfs, because they describe
		 * one directory and not the merged tree, and the SELinux label, because the kernel
		 * sets it.
		 */
		if (!strstr(p, ".overlay.") && !streq(p, "security.selinux"))
			r = copy_xattr(from, to, p);
	return r;
}

int overlay_copy_root(int lower, int upper)
{
	struct stat st;

	if (fstat(lower, &st) < 0)
		return err_sys("look at a lower directory");
	if (fchown(upper, st.st_uid, st.st_gid) < 0 || fchmod(upper, st.st_mode & 07777) < 0)
		return err_sys("set the owner and mode of an overlay's root");
	int r = copy_xattrs(lower, upper);
	const struct timespec times[2] = {st.st_atim, st.st_mtim};
	if (r >= 0 && futimens(upper, times) < 0)
		r = err_sys("set the time of an overlay's root");
	return r;
}
