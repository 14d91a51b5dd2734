/* SPDX-License-Identifier: Apache-2.0 */
#include "share.h"

#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "fd.h"
#include "jail.h"
#include "sys.h"
#include "vmfs.h"

/* How long names and attributes may be believed: the host changes them too (podman cp, volumes). */
#define CACHE_MS 1000

static bool is_read_only(const struct step *s)
{
	const struct spec_mount *m = s->open.mount;

	return m && ((m->attr_set | m->rec_attr_set) & MOUNT_ATTR_RDONLY);
}

/* For copy-symlink and src-nofollow: the guest needs no more than to read it. */
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

/* A mount point of the mount's own type in the directory `base`, and the mount on it. */
static int attach(int base, const struct step *s, int tree)
{
	struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY};
	char name[16];
	struct stat st;

	if (fstat(tree, &st) < 0)
		return err_sys("%s: stat the mount's source", s->field);
	snprintf(name, sizeof(name), "%d", s->slot);
	if (S_ISLNK(st.st_mode))
		return attach_link(base, name, s, tree);
	int r = S_ISDIR(st.st_mode) ? mkdirat(base, name, 0755)
				    : mknodat(base, name, S_IFREG | 0644, 0);
	if (r < 0)
		return err_sys("make a place for %s in the share", s->field);
	/* Whatever the guest does with its own mount flags, the host says no. */
	if (is_read_only(s) &&
		mount_setattr(tree, "", AT_EMPTY_PATH | (s->open.recursive ? AT_RECURSIVE : 0), &ro,
			sizeof(ro)) < 0)
		return err_sys("%s: make the shared mount read-only", s->field);
	if (move_mount(tree, "", base, name, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_sys("put %s into the share", s->field);
	return 0;
}

/* In the server's process, which has a mount namespace of its own. The share's root, O_PATH. */
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
	/* A detached mount takes no others beneath it before Linux 6.15: over our own /. */
	if (move_mount(base, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_sys("attach the share's root");
	for (size_t i = 0; i < plan->n; i++) {
		const struct step *s = &plan->steps[i];
		if (s->place != PLACE_HOST || s->slot < 0 || slots[s->slot] < 0 ||
			(s->kind != STEP_OPEN_ROOT && s->kind != STEP_OPEN_SOURCE))
			continue;
		int r = attach(base, s, slots[s->slot]);
		if (r < 0)
			return r;
	}
	/* The guest has no business in the root itself, which is our memory. */
	if (mount_setattr(base, "", AT_EMPTY_PATH, &ro, sizeof(ro)) < 0)
		return err_sys("make the share's root read-only");
	return take_fd(&base);
}

static int serve(const struct plan *plan, const int *slots, int sock)
{
	struct vmfs_config c = {
		.sock = sock,
		.proc = -EBADF,
		.devices = true,
		.locks = true,
		.cache_ms = CACHE_MS,
	};

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_sys("make a mount namespace for the share");
	c.root = build_tree(plan, slots);
	if (c.root < 0)
		return c.root;
	int r = vmfs_jail(&c);
	return r < 0 ? r : vmfs_serve(&c);
}

int share_start(struct share *ret, const struct plan *plan, const int *slots, int errors)
{
	int socks[2];

	*ret = (struct share){.sock = -EBADF};
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks) < 0)
		return err_sys("make a socket pair");
	_cleanup_fd_ int ours = socks[0], theirs = socks[1];
	pid_t monitor = getpid();
	pid_t pid = fork();
	if (pid < 0)
		return err_sys("fork the file server");
	if (pid == 0) {
		/* Its effective user stays root, but we shall be another, and must end it. */
		uid_t id = jail_id(monitor);
		if (setresuid(id, (uid_t)-1, id) < 0 && errno != EINVAL)
			_exit(1);
		/* It ends with the socket, but a front end that was handed it may outlive us. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NAME, "caisson-fs");
		if (getppid() != monitor)
			_exit(1);
		fd_close(&ours);
		int r = jail_leave_streams(errors);
		if (r >= 0)
			r = serve(plan, slots, theirs);
		if (r < 0)
			dprintf(2, "the file server: %s\n", err_msg());
		_exit(r < 0);
	}
	ret->pid = pid;
	ret->sock = take_fd(&ours);
	return 0;
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
	fd_close(&s->sock);
	if (s->pid <= 0)
		return;
	kill(s->pid, SIGKILL);
	while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR)
		;
	s->pid = 0;
}
