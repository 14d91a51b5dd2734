/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/share.h"

#include <limits.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/process.h"
#include "base/sys.h"
#include "engine/share_ids.h"
#include "jail/jail.h"
#include "vm/fs/vmfs.h"

/*
 * How long, in ms, the guest may keep the names and attributes of shared files in its cache. The
 * time is short, because the host changes these files too (podman cp, volumes).
 */
#define CACHE_MS 1000

bool share_needed(const struct plan *plan)
{
	for (size_t i = 0; i < plan->n; i++)
		if (plan_is_shared(&plan->steps[i]))
			return true;
	return false;
}

/*
 * Says whether the host makes the mount read-only in the share from the start. The root of the
 * container is an exception, because INIT in the guest has to make mount points in it first. The
 * host makes the root read-only after that.
 */
static bool is_read_only(const struct step *s)
{
	const struct spec_mount *m = s->open.mount;

	return m && ((m->attr_set | m->rec_attr_set) & MOUNT_ATTR_RDONLY);
}

/*
 * Attaches to the share a mount whose source is a symbolic link (option copy-symlink or
 * src-nofollow). The guest only reads the link's target.
 */
static int attach_link(int base, const char *name, const struct step *s, int link)
{
	char target[PATH_MAX];

	ssize_t n = readlinkat(link, "", target, sizeof(target) - 1);
	if (n < 0)
		return err_sys("%s: read the symbolic link", s->field);
	target[n] = '\0';
	return symlinkat(target, base, name) < 0
		       ? err_sys("make the symbolic link of %s in the share", s->field)
		       : 0;
}

/*
 * Makes a mount point in the directory `base` of the share and attaches the detached mount `tree`
 * to it. The mount point is a directory or a file, like the source of the mount.
 */
static int attach_mount(int base, const struct step *s, int tree)
{
	struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY};
	char name[16];
	struct stat st;

	if (fstat(tree, &st) < 0)
		return err_sys("%s: read the type of the mount's source", s->field);
	snprintf(name, sizeof(name), "%d", s->slot);
	if (S_ISLNK(st.st_mode))
		return attach_link(base, name, s, tree);
	int r = S_ISDIR(st.st_mode) ? mkdirat(base, name, 0755)
				    : mknodat(base, name, S_IFREG | 0644, 0);
	if (r < 0)
		return err_sys("make a mount point for %s in the share", s->field);
	/*
	 * A read-only mount is read-only on the host too, because a hostile guest can ignore the
	 * flags of its own mounts.
	 */
	if (is_read_only(s) &&
		mount_setattr(tree, "", AT_EMPTY_PATH | (s->open.recursive ? AT_RECURSIVE : 0), &ro,
			sizeof(ro)) < 0)
		return err_sys("%s: make the shared mount read-only", s->field);
	if (move_mount(tree, "", base, name, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_sys("attach %s in the share", s->field);
	return 0;
}

/*
 * Builds the share's directory tree in the file server's process, which has a mount namespace of
 * its own. Returns a descriptor of the share's root.
 */
static int build_tree(const struct plan *plan, const int *slots)
{
	struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY};
	int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	if (fs < 0)
		return err_sys("make the share's root");
	_cleanup_fd_ int context = fs;
	if (fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0755", 0) < 0 ||
		fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return err_sys("make the share's root");
	_cleanup_fd_ int base = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	if (base < 0)
		return err_sys("mount the share's root");
	/*
	 * The root of the share is attached over the root directory of this mount namespace,
	 * because before Linux 6.15 no mount can be made inside a detached mount.
	 */
	if (move_mount(base, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_sys("attach the share's root");
	for (size_t i = 0; i < plan->n; i++) {
		const struct step *s = &plan->steps[i];
		if (!plan_is_shared(s) || slots[s->slot] < 0)
			continue;
		int r = attach_mount(base, s, slots[s->slot]);
		if (r < 0)
			return r;
	}
	/*
	 * The share's root, a tmpfs, becomes read-only, because files that the guest wrote there
	 * would take up the host's memory.
	 */
	if (mount_setattr(base, "", AT_EMPTY_PATH, &ro, sizeof(ro)) < 0)
		return err_sys("make the share's root read-only");
	return take_fd(&base);
}

/*
 * Says whether the guest may make device nodes in the share. The guest may make them if a container
 * in namespaces with the same config.json could make them.
 */
static bool may_make_devices(const struct plan *plan)
{
	const struct spec_process *p = plan->process;

	return p && p->capabilities && p->capabilities->bounding >> CAP_MKNOD & 1 && !plan->userns;
}

/*
 * Says whether config.json lists the device node `dev`. For a container in namespaces the runtime
 * itself would make such a node.
 */
static bool is_device_of_plan(const void *data, mode_t type, dev_t dev)
{
	const struct plan *plan = data;

	for (size_t i = 0; i < plan->n; i++) {
		const struct step *s = &plan->steps[i];
		const struct spec_device *d = s->device.device;
		if (s->kind == STEP_DEVICE && !s->device.bind &&
			(d->type == 'b' ? S_IFBLK : S_IFCHR) == type &&
			makedev(d->major, d->minor) == dev)
			return true;
	}
	return false;
}

/*
 * Returns the plan's slot of the container's root if the share contains the root and the root must
 * become read-only once INIT has made its mount points, else -1.
 */
static int sealed_slot(const struct plan *plan)
{
	bool read_only = false;
	int slot = -1;

	for (size_t i = 0; i < plan->n; i++) {
		const struct step *s = &plan->steps[i];

		read_only |= s->kind == STEP_READONLY_ROOT;
		if (s->kind == STEP_OPEN_ROOT && plan_is_shared(s))
			slot = s->slot;
	}
	return read_only ? slot : -1;
}

/*
 * Serves the share in the file server's process. `theirs` has this process's ends of the sockets of
 * struct share.
 */
static int serve_share(const struct plan *plan, const int *slots, const struct share *theirs,
	const struct share_options *o)
{
	char root[16];
	struct vmfs_config c = {
		.sock = theirs->sock,
		.carrier = theirs->carrier,
		.seal = theirs->seal,
		.sealed = theirs->seal >= 0 ? root : NULL,
		.proc = -EBADF,
		.devices = may_make_devices(plan),
		.may_make = is_device_of_plan,
		.data = plan,
		.locks = o->host_locks,
		.cache_ms = CACHE_MS,
		.watch_us = o->cpu_limited ? 0 : vmfs_watch_us(),
	};

	snprintf(root, sizeof(root), "%d", sealed_slot(plan));
	int r = share_confine(plan, &c);
	if (r < 0)
		return r;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_sys("make a mount namespace for the share");
	c.root = build_tree(plan, slots);
	if (c.root < 0)
		return c.root;
	r = vmfs_jail(&c);
	return r < 0 ? r : vmfs_serve(&c);
}

static void close_sockets(struct share *s)
{
	fd_close(&s->sock);
	fd_close(&s->carrier);
	fd_close(&s->seal);
}

/* Makes a pair of connected sockets, one end for this process and one for the server. */
static int make_pair(int *ours, int *theirs)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys("make a socket pair");
	*ours = pair[0];
	*theirs = pair[1];
	return 0;
}

static int make_sockets(
	const struct plan *plan, bool carried, struct share *ours, struct share *theirs)
{
	int r = make_pair(&ours->sock, &theirs->sock);

	if (r >= 0 && carried)
		r = make_pair(&ours->carrier, &theirs->carrier);
	if (r >= 0 && sealed_slot(plan) >= 0)
		r = make_pair(&ours->seal, &theirs->seal);
	return r;
}

int share_start(
	struct share *ret, const struct plan *plan, const int *slots, const struct share_options *o)
{
	struct share theirs = SHARE_INIT;

	*ret = (struct share)SHARE_INIT;
	int made = make_sockets(plan, o->carried, ret, &theirs);
	if (made < 0) {
		close_sockets(ret);
		close_sockets(&theirs);
		return made;
	}
	pid_t monitor = getpid();
	pid_t pid = fork();
	if (pid < 0) {
		made = err_sys("fork the file server");
		close_sockets(ret);
		close_sockets(&theirs);
		return made;
	}
	if (pid == 0) {
		/*
		 * The effective user stays root, so that the server can serve the files of any
		 * user. The real and the saved user become the monitor's user in its jail, because
		 * without capabilities the monitor may only kill processes of its own user.
		 */
		uid_t id = jail_id(monitor);
		if (setresuid(id, (uid_t)-1, id) < 0 && errno != EINVAL)
			_exit(1);
		/*
		 * The kernel kills this process when the monitor ends. That is needed because the
		 * process otherwise only ends when its vhost-user socket is closed, and QEMU, which
		 * has the other end, may live longer than the monitor.
		 */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NAME, "caisson-fs");
		if (getppid() != monitor)
			_exit(1);
		close_sockets(ret);
		/* The server must not hold the container's streams open. */
		int r = fd_set_streams(-EBADF, -EBADF, o->errors);
		if (r >= 0)
			r = serve_share(plan, slots, &theirs, o);
		if (r < 0)
			fd_say(STDERR_FILENO, "the file server", err_msg());
		_exit(r < 0);
	}
	ret->pid = pid;
	close_sockets(&theirs);
	return 0;
}

int share_seal(struct share *s)
{
	if (s->sealing)
		return err_set(EPROTO, "the guest's container was made twice");
	s->sealing = true;
	return write(s->seal, "", 1) < 0 ? err_sys("root.readonly: tell the file server") : 0;
}

int share_sealed(struct share *s)
{
	int answer = EPIPE;

	if (read(s->seal, &answer, sizeof(answer)) != sizeof(answer))
		return err_set(EPIPE, "root.readonly: the microVM's file server has ended");
	fd_close(&s->seal);
	s->sealing = false;
	if (answer == EBUSY)
		return err_set(EBUSY, "root.readonly: the guest keeps a file of the root file "
				      "system open for writing");
	return answer ? err_set(answer,
				"root.readonly: make the shared root file system read-only: %s",
				strerror(answer))
		      : 0;
}

int share_check(struct share *s)
{
	int status;

	if (s->pid <= 0 || waitpid(s->pid, &status, WNOHANG) != s->pid)
		return 0;
	s->pid = 0;
	if (WIFSIGNALED(status))
		return err_set(
			EIO, "the microVM's file server was killed by signal %d", WTERMSIG(status));
	if (WEXITSTATUS(status) == 0)
		return err_set(EPIPE, "the hypervisor closed its connection to the file server");
	return err_set(EPIPE, "the microVM's file server failed");
}

void share_stop(struct share *s)
{
	close_sockets(s);
	s->sealing = false;
	if (s->pid <= 0)
		return;
	(void)process_kill(s->pid);
	s->pid = 0;
}
