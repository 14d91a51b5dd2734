/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. INIT, the container's first process, starts in a copy of the host's mount
 * namespace. The step ATTACH_ROOT takes the detached copy of the root file system's mount and
 * attaches it in INIT's namespace to the root file system's own directory. From then on the root is
 * the descriptor of that copy, and nothing depends on a path any more. The step PIVOT makes the
 * root "/" and detaches the rest.
 *
 * The copy is attached to its own directory, because hooks run between ATTACH_ROOT and PIVOT.
 * createContainer hooks run in INIT's namespace, and other hooks enter this namespace by INIT's
 * pid. Hooks find the root by its path on the host and mount things beneath it. If INIT is only
 * root of a user namespace, INIT may not be allowed to reach that directory. Then the copy is
 * attached over "/". The old tree can still be reached, because the kernel ignores mounts that
 * cover the root when it resolves absolute paths.
 *
 * If the plan says so, INIT starts in the host's mount namespace itself, and ATTACH_ROOT makes a
 * new mount namespace of a copy of the root alone (OPEN_TREE_NAMESPACE). When INIT enters this
 * namespace, the copy becomes "/", so that PIVOT has no old root to detach. INIT mounts nothing
 * before it enters the namespace. plan/tree.c says when the plan chooses this way.
 *
 * Otherwise pivot_root(".", ".") stacks the old root onto the new one, and umount2(".") takes the
 * old root off again, so that no directory for the old root is needed. The kernel requires that
 * neither the new root nor its parent is shared. So everything is made a slave first, which also
 * keeps attaching and unmounting from reaching the host. Bind mounts that are meant to share with
 * the host keep their peer group, because the runtime copied them before everything became a slave.
 */
#include <sched.h>
#include <stdlib.h>
#include <sys/sysmacros.h>

#include "base/path.h"
#include "step/host_open.h"
#include "step/mnt.h"

static int attach_root(struct step_ctx *c, const char *path)
{
	_cleanup_fd_ int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	c->root_path = path;
	if (dir < 0 && errno == EACCES) {
		c->root_path = NULL;
		dir = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	}
	if (dir < 0)
		return err_set(errno, "open %s: %s", path, err_text(errno));
	if (mnt_attach(c->root, dir) < 0)
		return err_sys("attach the root file system at %s", path);
	return 0;
}

/*
 * Opens the host's /dev/null, with which masked files are covered later, while it can still be
 * reached, because the container's /dev/null may be any file (CVE-2025-31133).
 */
static int take_host_null(struct step_ctx *c)
{
	/*
	 * The mount of /dev/null that covers masked files is read-only, because otherwise chmod(2)
	 * of a masked file in the container would change the host's device node. The mount is
	 * private, because a mount that the container puts on it must not appear on the host.
	 */
	struct mount_attr attr = {
		.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,
		.propagation = MS_PRIVATE};
	struct stat st;

	_cleanup_fd_ int fd = open_tree(AT_FDCWD, "/dev/null", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (fd < 0)
		return err_set(
			errno, "copy the mount of the host's /dev/null: %s", err_text(errno));
	if (fstat(fd, &st) < 0)
		return err_sys("stat /dev/null");
	if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
		return err_set(EINVAL, "the host's /dev/null is not the character device 1:3");
	if (mnt_setattr(fd, false, &attr) < 0)
		return err_sys("make the copy of /dev/null read-only");
	c->null_cover.fd = take_fd(&fd);
	return 0;
}

static bool masks_paths(const struct plan *p)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->steps[i].kind == STEP_MASK_PATH)
			return true;
	return false;
}

/*
 * Makes a mount namespace that has only a copy of the mount `tree`, the container's root, and of
 * the mounts beneath it. Enters this namespace.
 */
static int enter_namespace_of(struct step_ctx *c, const struct step *s, int tree)
{
	const unsigned flags =
		OPEN_TREE_NAMESPACE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE;

	c->host_mounts = openat(c->proc, "self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (c->host_mounts < 0)
		return err_sys("open the mount namespace of the host");
	c->own_mounts = open_tree(tree, "", flags);
	if (c->own_mounts < 0)
		return err_sys("make a mount namespace of %s", s->open.path);
	if (setns(c->own_mounts, CLONE_NEWNS) < 0)
		return err_sys("enter the mount namespace of %s", s->open.path);
	c->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return c->root < 0 ? err_sys("open the root file system") : open_tree_propagate(c->root, s);
}

/*
 * Takes the detached copy of the root's mount and attaches it in the mount namespace that the step
 * CLONE has made.
 */
static int attach_copy(struct step_ctx *c, const struct step *s, int tree)
{
	if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0)
		return err_sys("make the mounts of the new namespace slaves of the host's");
	c->root = tree;
	return attach_root(c, s->open.path);
}

int step_attach_root(struct step_ctx *c, const struct step *s)
{
	c->null_cover = (struct step_cover){.fd = -EBADF};
	c->dir_cover = (struct step_cover){.fd = -EBADF};
	c->late_ro = NULL;
	c->host_mounts = c->own_mounts = -EBADF;
	if (s->slot < 0 || c->slots[s->slot] < 0)
		return err_set(EBADF, "the copy of the root file system's mount is missing");
	/*
	 * The umask is 0 from here on, so that mount points and device nodes get exactly the modes
	 * that caisson asks for.
	 */
	c->umask = umask(0);
	c->umask_changed = true;
	int r = masks_paths(c->plan) ? take_host_null(c) : 0;
	if (r < 0)
		return err_ctx(r, "linux.maskedPaths");
	r = s->open.as_namespace ? enter_namespace_of(c, s, c->slots[s->slot])
				 : attach_copy(c, s, c->slots[s->slot]);
	if (r >= 0 && fstat(c->root, &c->root_stat) < 0)
		return err_sys("stat the root file system");
	return r;
}

static int make_late_ro(struct step_ctx *c)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};

	/*
	 * The file /dev/console is made before the root is changed, because /dev may be read-only
	 * afterwards. The later step CONSOLE mounts the terminal on this file, because it takes the
	 * terminal from the container's own devpts.
	 */
	if (c->late_ro && c->plan->terminal) {
		_cleanup_fd_ int target = mnt_console_target(c->root);
		if (target < 0)
			return target;
	}
	for (struct step_late_ro *l = c->late_ro; l; l = l->next) {
		if (mnt_setattr(l->fd, false, &attr) < 0)
			return err_sys("%s: make the mount read-only", l->field);
		fd_close(&l->fd);
	}
	return 0;
}

static int hide_mount(char *line, const char *keep)
{
	char *save, *field[5] = {0};
	char *type = strstr(line, " - ");

	if (!type || (!str_starts(type, " - proc ") && !str_starts(type, " - sysfs ")))
		return 0;
	*type = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(field); i++)
		field[i] = strtok_r(i ? NULL : line, " ", &save);
	if (!field[4] || !streq(field[3], "/"))
		return 0;
	str_unescape(field[4]);
	size_t len = strlen(keep);
	if (strncmp(field[4], keep, len) == 0 && (!field[4][len] || field[4][len] == '/'))
		return 0;
	if (umount2(field[4], MNT_DETACH) == 0 || errno == ENOENT)
		return 0;
	/*
	 * If caisson is in a user namespace, the host's mount may be locked, so that umount2(2)
	 * fails. Then a tmpfs covers the mount.
	 */
	if (mount("tmpfs", field[4], "tmpfs", MS_RDONLY, NULL) < 0 && errno != ENOENT)
		return err_sys("--no-pivot: hide the host's %s", field[4]);
	return 0;
}

/*
 * Hides every procfs and sysfs of the host. Without pivot_root(2) the old tree of mounts stays in
 * the namespace, beneath the new root. If an unmasked procfs or sysfs is anywhere in the old tree,
 * the kernel lets a nested user namespace mount a new one, and the container could see what caisson
 * has masked.
 */
static int hide_host_proc(struct step_ctx *c)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	char *save = NULL;

	_cleanup_fd_ int fd = path_open_in_proc(c->proc, "self/mountinfo", O_RDONLY);
	if (fd < 0)
		return fd;
	int r = fd_read_all(fd, &text, 64 << 20, "/proc/self/mountinfo");
	if (r < 0 || !text.s)
		return r;
	for (char *l = strtok_r(text.s, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		r = hide_mount(l, c->root_path);
		if (r < 0)
			return r;
	}
	return 0;
}

static int move_root(struct step_ctx *c)
{
	if (!c->root_path)
		return err_set(EACCES,
			"--no-pivot: the user namespace's root may not search the directories that "
			"lead to the root file system: let every user search them (chmod o+x)");
	int r = hide_host_proc(c);
	if (r < 0)
		return r;
	if (move_mount(c->root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_sys("--no-pivot: move the root file system onto /");
	if (chroot(".") < 0)
		return err_sys("--no-pivot: chroot");
	return 0;
}

static int pivot_root_away(void)
{
	if (sys_pivot_root(".", ".") < 0)
		return err_sys("pivot_root to the root file system%s",
			errno == EINVAL ? " (a host that runs from an initramfs needs --no-pivot)"
					: "");
	return umount2(".", MNT_DETACH) < 0 ? err_sys("unmount the old root") : 0;
}

int step_pivot(struct step_ctx *c, const struct step *s)
{
	int r = make_late_ro(c);

	if (r < 0)
		return r;
	if (fchdir(c->root) < 0)
		return err_sys("enter the root file system");
	if (s->number == PLAN_PIVOT_MOVE)
		r = move_root(c);
	else if (s->number == PLAN_PIVOT_ROOT)
		r = pivot_root_away();
	if (r < 0)
		return r;
	if (chdir("/") < 0)
		return err_sys("enter the new root");
	umask(022);
	return 0;
}

int step_readonly_root(struct step_ctx *c, const struct step *s)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};

	/*
	 * The call sets only the read-only flag and changes no other attribute of the mount,
	 * because the kernel may have locked some of them.
	 */
	if (mnt_setattr(c->root, false, &attr) < 0)
		return err_sys("make the root file system read-only");
	return 0;
}

int step_root_propagation(struct step_ctx *c, const struct step *s)
{
	if (mnt_set_propagation(c->root, (uint32_t)s->number) < 0)
		return err_sys("set the propagation of the root file system");
	return 0;
}
