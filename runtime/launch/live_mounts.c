/* SPDX-License-Identifier: Apache-2.0 */
#include "launch/live_mounts.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bounded.h"
#include "base/fd.h"
#include "base/log.h"
#include "launch/hotplug.h"
#include "launch/live_list.h"
#include "step/live_mount.h"
#include "step/mnt.h"

/*
 * how long, in ms, the file systems of a container in namespaces may hold up the look-up of a
 * target
 */
#define LOOKUP_MS 10000

/* --- the caller's place, to which each function returns from the file server's namespace --- */

struct place {
	int ns, root, cwd;
};

static void close_place(struct place *p)
{
	fd_close(&p->ns);
	fd_close(&p->root);
	fd_close(&p->cwd);
}

static int open_place(struct place *ret)
{
	ret->ns = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	ret->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	ret->cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return ret->ns < 0 || ret->root < 0 || ret->cwd < 0 ? err_sys("open the own namespace") : 0;
}

/*
 * Returns to the caller's mount namespace from that of a microVM's file server. If that fails, ends
 * the process, because the process would take paths of the file server for paths on the host.
 */
static void return_to(const struct place *p)
{
	/*
	 * A process without privileges could enter no other namespace, so it is still in its own.
	 */
	if (geteuid() != 0)
		return;
	if (setns(p->ns, CLONE_NEWNS) == 0 && fchdir(p->root) == 0 && chroot(".") == 0 &&
		fchdir(p->cwd) == 0)
		return;
	log_error("return to the own mount namespace");
	_exit(1);
}

/* --- adding --- */

static int parse(struct container *c, const char *text, struct live_entry *ret, bool *ret_read_only)
{
	char *parts[3];

	int r = live_list_split(&c->arena, text,
		"SOURCE:TARGET[:ro], with the path of a directory or file of the host, and an "
		"absolute path in the container",
		parts);
	if (r < 0)
		return r;
	const char *option = parts[2] ? parts[2] : "rw";
	if (!streq(option, "ro") && !streq(option, "rw"))
		return err_set(EINVAL, "option %s: expected ro or rw", option);
	*ret_read_only = streq(option, "ro");
	*ret = (struct live_entry){.kind = LIVE_MOUNT, .source = parts[0], .target = parts[1]};
	return 0;
}

/* Makes a detached copy of the source and of all mounts below it. */
static int open_source(struct live_entry *m, bool read_only)
{
	struct mount_attr attr = {
		.attr_set = read_only ? MOUNT_ATTR_RDONLY : 0, .propagation = MS_PRIVATE};
	struct stat st;

	_cleanup_fd_ int tree =
		open_tree(AT_FDCWD, m->source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	if (tree < 0 && errno == EPERM && geteuid() != 0)
		return err_set(EPERM,
			"only root can mount something into a container that runs: use sudo, or a "
			"mount in config.json");
	if (tree < 0)
		return err_sys("source %s", m->source);
	if (fstat(tree, &st) < 0)
		return err_sys("source %s", m->source);
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return err_set(
			EINVAL, "source %s: expected a directory or a regular file", m->source);
	if (mnt_setattr(tree, true, &attr) < 0)
		return err_sys("source %s: set the flags of the mount", m->source);
	m->dev = st.st_dev;
	m->ino = st.st_ino;
	return take_fd(&tree);
}

/* A change of the mounts of a container in namespaces. */
struct change {
	int ns;   /* pidfd of the container's process */
	int tree; /* the mount to attach; -EBADF: the mount of *entry is detached */
	const struct live_entry *entry;
};

static int make_change(void *data)
{
	const struct change *ch = data;
	const struct stat is = {.st_dev = ch->entry->dev, .st_ino = ch->entry->ino};

	return ch->tree >= 0 ? live_mount_attach(ch->ns, ch->tree, ch->entry->target)
			     : live_mount_detach(ch->ns, ch->entry->target, &is);
}

/*
 * Makes the change in a process of its own, because the container may have mounted a FUSE file
 * system that never answers. That process keeps the container's lock, so that no other command
 * makes a change before the process has ended if this command is killed. If the process takes too
 * long, or a signal comes, this function releases the lock.
 */
static int change_mounts(struct container *c, int tree, const struct live_entry *m)
{
	_cleanup_fd_ int pidfd = container_pidfd(c);
	struct change change = {.ns = pidfd, .tree = tree, .entry = m};

	if (pidfd < 0)
		return pidfd;
	int r = bounded_run(&(struct bounded){.fn = make_change,
		.data = &change,
		.keep = {pidfd, tree, c->dir},
		.nkeep = 3,
		.timeout_ms = LOOKUP_MS});
	if (r == -ETIMEDOUT || r == -EINTR)
		(void)flock(c->dir, LOCK_UN);
	return r;
}

static int attach(struct container *c, const struct live_entry *m, int tree, bool read_only)
{
	if (m->share)
		return hotplug_add_mount(
			c, &(struct hotplug_mount){m->share, m->target, tree, read_only});
	return change_mounts(c, tree, m);
}

static int name_in_share(struct container *c, struct live_entry *m)
{
	uint64_t number;

	if (!c->vm)
		return 0;
	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		return err_sys("get random numbers");
	m->share = arena_printf(&c->arena, "live-%016llx", (unsigned long long)number);
	return m->share ? 0 : -ENOMEM;
}

static int add(struct container *c, const char *text)
{
	bool read_only = false;
	struct live_entry m;

	int r = parse(c, text, &m, &read_only);
	if (r < 0)
		return r;
	_cleanup_fd_ int tree = open_source(&m, read_only);
	r = tree < 0 ? tree : name_in_share(c, &m);
	if (r >= 0)
		r = live_list_note(c, &m);
	if (r == 0)
		return err_set(
			EEXIST, "a mount was added at %s already: remove it first", m.target);
	if (r < 0)
		return r;
	r = attach(c, &m, tree, read_only);
	/* After these two errors nobody knows whether the mount is attached, so it stays noted. */
	if (r == -ETIMEDOUT || r == -EINTR)
		return r;
	return r < 0 ? live_list_undo(c, LIVE_MOUNT, m.target, r) : 0;
}

int live_mounts_add(struct container *c, const char *text)
{
	__attribute__((cleanup(close_place))) struct place p = {-EBADF, -EBADF, -EBADF};

	int r = open_place(&p);
	if (r >= 0) {
		r = add(c, text);
		return_to(&p);
	}
	return r < 0 ? err_ctx(r, "--add-mount %.200s", text) : 0;
}

/* --- removing --- */

static int detach(struct container *c, const struct live_entry *m)
{
	return m->share ? hotplug_remove_mount(c, m->share, m->target)
			: change_mounts(c, -EBADF, m);
}

static int remove_mount(struct container *c, const char *target)
{
	struct live_list l;

	int r = live_list_read(c, &l);
	if (r < 0)
		return r;
	struct live_entry *m = live_list_find(&l, LIVE_MOUNT, target);
	if (!m)
		return err_set(ENOENT, "no mount was added there while the container ran");
	r = detach(c, m);
	/*
	 * There is no mount if the command that should have made it was killed, or if the container
	 * has unmounted it.
	 */
	if (r == -ENOENT) {
		err_clear();
		r = 0;
	}
	if (r < 0)
		return r;
	return live_list_forget(c, LIVE_MOUNT, target);
}

int live_mounts_remove(struct container *c, const char *target)
{
	__attribute__((cleanup(close_place))) struct place p = {-EBADF, -EBADF, -EBADF};

	int r = open_place(&p);
	if (r >= 0) {
		r = remove_mount(c, target);
		return_to(&p);
	}
	return r < 0 ? err_ctx(r, "--rm-mount %.200s", target) : 0;
}
