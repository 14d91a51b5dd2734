/* SPDX-License-Identifier: Apache-2.0 */
#include "launch/hotplug_internal.h"

#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/process.h"
#include "launch/live_list.h"
#include "launch/vm_client.h"
#include "monitor/control.h"
#include "netsetup/net_tap.h"
#include "step/mnt.h"

/*
 * the longest wait, in ms, for a guest that has a file of a removed mount open for writing; all
 * waits together take twice as long
 */
#define END_WRITING_MS 2048

int hotplug_refuse_namespaces(const struct container *c, const char *option)
{
	return c->vm ? 0
		     : err_set(EOPNOTSUPP,
			       "%s: container \"%s\" is in namespaces, expected one in a microVM",
			       option, c->id);
}

int hotplug_write(struct agent_writer *w, const char *type, const char *kind, const char *name)
{
	int r = agent_begin(w, type);

	if (r < 0)
		return r;
	json_out_str(&w->json, "kind", kind);
	json_out_str(&w->json, "name", name);
	return 0;
}

/* Says whether the process is in another namespace than the caller; `type` is "user" or "mnt". */
static bool in_other_namespace(pid_t pid, const char *type)
{
	struct stat ours, theirs;
	char own[40], path[40];

	snprintf(own, sizeof(own), "/proc/self/ns/%s", type);
	snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, type);
	return stat(own, &ours) == 0 && stat(path, &theirs) == 0 &&
	       (ours.st_ino != theirs.st_ino || ours.st_dev != theirs.st_dev);
}

/*
 * Enters the network namespace of the microVM's monitor. If an ordinary user runs caisson, first
 * enters the monitor's user namespace, in which the command may make a tap.
 */
static int enter_network(struct container *c)
{
	_cleanup_fd_ int pidfd = container_pidfd(c);
	const int flags = CLONE_NEWNET | (in_other_namespace(c->pid, "user") ? CLONE_NEWUSER : 0);

	if (pidfd < 0)
		return pidfd;
	return setns(pidfd, flags) < 0 ? err_sys("enter the network namespace of the container")
				       : 0;
}

static int send_net(int sock, const struct net_config *net, const struct net_tap *tap)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	_cleanup_agent_frame_ struct agent_frame reply = {0};

	int r = hotplug_write(&w, "attach", "net", net->interfaces[0].name);
	if (r < 0)
		return r;
	json_out_u64(&w.json, "offloads", tap->offloads);
	net_config_json(&w.json, "net", net);
	r = control_send_fds(sock, &w, tap->fds, 1);
	return r < 0 ? r : control_wait(sock, HOTPLUG_CALL_MS, &reply);
}

static int add_net(struct container *c, const char *name)
{
	struct net_tap tap = NET_TAP_INIT;
	struct net_config all, one;

	_cleanup_fd_ int sock = control_connect(c->dir);
	int r = sock < 0 ? sock : enter_network(c);
	if (r >= 0)
		r = net_config_read(&c->arena, -EBADF, &all);
	if (r >= 0)
		r = net_config_pick(&c->arena, &all, name, &one);
	if (r >= 0)
		r = net_tap_open(&one.interfaces[0], 1, &tap);
	if (r < 0)
		return r;
	r = live_list_note(
		c, &(struct live_entry){.kind = LIVE_NET, .source = name, .target = name});
	const bool noted = r > 0;
	if (r >= 0)
		r = send_net(sock, &one, &tap);
	if (r >= 0) {
		net_tap_forget(&tap);
		return 0;
	}
	if (noted && r != -ETIMEDOUT)
		r = live_list_undo(c, LIVE_NET, name, r);
	_cleanup_free_ char *why = strdup(err_msg());
	if (net_tap_close(&tap) < 0)
		log_warn("%s", err_msg());
	return err_set(-r, "%s", why ? why : "out of memory");
}

int hotplug_add_net(struct container *c, const char *name)
{
	int r = hotplug_refuse_namespaces(c, "--add-net");

	if (r >= 0)
		r = add_net(c, name);
	return r < 0 ? err_ctx(r, "--add-net %.32s", name) : 0;
}

int hotplug_detach(struct container *c, const char *kind, const char *name, bool force)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	_cleanup_agent_frame_ struct agent_frame reply = {0};
	_cleanup_fd_ int sock = control_connect(c->dir);

	int r = sock < 0 ? sock : hotplug_write(&w, "detach", kind, name);
	if (r >= 0 && force)
		json_out_bool(&w.json, "force", true);
	if (r >= 0)
		r = control_call(sock, &w, NULL, HOTPLUG_CALL_MS, &reply);
	/* The device is gone, but its disk has not all that the guest wrote. */
	if (r < 0 && reply.json && json_get_true(reply.json, "detached"))
		r = live_list_undo(c, kind, name, r);
	return r;
}

/*
 * Removes the redirection of a tap that no longer exists, because the monitor has closed it, or
 * because a command was killed before it gave the tap to the monitor.
 */
static int sweep_taps(struct container *c)
{
	int r = enter_network(c);

	return r < 0 ? r : net_tap_sweep(-EBADF);
}

static int remove_net(struct container *c, const char *name, bool force)
{
	int r = hotplug_refuse_namespaces(c, "--rm-net");

	if (r >= 0)
		r = hotplug_detach(c, "net", name, force);
	if (r >= 0)
		r = sweep_taps(c);
	if (r >= 0)
		r = live_list_forget(c, LIVE_NET, name);
	if (r != -ENOENT)
		return r < 0 ? err_ctx(r, "--rm-net %.32s", name) : 0;
	r = live_list_undo(c, LIVE_NET, name, r);
	_cleanup_free_ char *why = strdup(err_msg());
	if (sweep_taps(c) < 0)
		log_warn("%s", err_msg());
	return err_set(ENOENT, "--rm-net %.32s: %s", name, why ? why : "out of memory");
}

int hotplug_remove_net(struct container *c, const char *name)
{
	return remove_net(c, name, false);
}

int hotplug_force_net(struct container *c, const char *name)
{
	return remove_net(c, name, true);
}

/* --- mounts in the share of the file server --- */

/*
 * Returns a pidfd of the file server. The guest may have taken over the monitor. So this function
 * checks that the process which the monitor names is a child of the monitor and is in another mount
 * namespace than the caller.
 */
static int open_server(struct container *c)
{
	_cleanup_agent_frame_ struct agent_frame reply = {0};
	pid_t parent;
	int64_t pid;

	int r = vm_ask(c, "share", &reply);
	if (r < 0)
		return r;
	if (json_get_i64(reply.json, "pid", &pid) < 0 || pid <= 0 || pid > INT32_MAX)
		return err_set(EPROTO, "the monitor did not name its file server");
	_cleanup_fd_ int pidfd = pidfd_open((pid_t)pid, 0);
	if (pidfd < 0)
		return err_sys("the microVM's file server");
	r = process_parent((pid_t)pid, &parent);
	if (r < 0)
		return r;
	if (parent != c->pid || !in_other_namespace((pid_t)pid, "mnt"))
		return err_set(EPROTO, "the monitor named a process that is not its file server");
	return take_fd(&pidfd);
}

/* Enters the file server's mount namespace, and opens its root, which is the share. */
static int enter_share(struct container *c)
{
	_cleanup_fd_ int server = open_server(c);
	if (server < 0)
		return server;
	if (setns(server, CLONE_NEWNS) < 0)
		return err_sys("enter the mount namespace of the microVM's file server");
	int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return root < 0 ? err_sys("open the microVM's share") : root;
}

/*
 * Returns a detached mount of the share's root that can be written to, for mount points. The guest
 * never sees it; the mount that the guest sees stays read-only.
 */
static int open_writable(int root)
{
	const struct mount_attr attr = {.attr_clr = MOUNT_ATTR_RDONLY};
	_cleanup_fd_ int copy = mnt_clone(root, false);

	if (copy < 0 || mnt_setattr(copy, false, &attr) < 0)
		return err_sys("open the microVM's share for writing");
	return take_fd(&copy);
}

static int put_into_share(int root, const struct hotplug_mount *m)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
					      MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSYMFOLLOW,
		.propagation = MS_PRIVATE};
	struct stat st;

	_cleanup_fd_ int writable = open_writable(root);
	if (writable < 0)
		return writable;
	if (mnt_setattr(m->tree, true, &attr) < 0 || fstat(m->tree, &st) < 0)
		return err_sys("set the flags of the mount");
	int made = S_ISDIR(st.st_mode) ? mkdirat(writable, m->share, 0755)
				       : mknodat(writable, m->share, S_IFREG | 0644, 0);
	if (made < 0)
		return err_sys("make a mount point in the microVM's share");
	_cleanup_fd_ int at = openat(root, m->share, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (at < 0 || mnt_attach(m->tree, at) < 0)
		return err_sys("attach the mount in the microVM's share");
	return 0;
}

/*
 * Makes the mount read-only. The file server keeps descriptors of the files that the guest has not
 * forgotten, and a hostile guest forgets none, so it could go on writing to a mount that was
 * removed. The kernel refuses while a file is open for writing. An honest guest has closed all, but
 * the file server may learn of that a moment later.
 */
static int end_writing(int root, const char *share)
{
	const struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};

	_cleanup_fd_ int mount = openat(root, share, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (mount < 0)
		return errno == ENOENT ? 0 : err_sys("find the mount in the microVM's share");
	for (int ms = 1; mnt_setattr(mount, true, &attr) < 0; ms *= 2) {
		/* A killed command has removed the mount, but not its mount point. */
		if (errno == EINVAL)
			return 0;
		if (errno != EBUSY)
			return err_sys("make the mount in the microVM's share read-only");
		if (ms > END_WRITING_MS)
			return err_set(EBUSY, "the guest has a file open for writing: try again");
		poll(NULL, 0, ms);
	}
	return 0;
}

static int take_out_of_share(int root, const char *share)
{
	int r = end_writing(root, share);

	if (r < 0)
		return r;
	if (fchdir(root) < 0)
		return err_sys("enter the microVM's share");
	/*
	 * The guest has removed the mount, but the guest's kernel may not have sent FORGET for all
	 * of its files to the file server yet, so the mount may still be busy here. Until then the
	 * guest can read these files.
	 */
	if (umount2(share, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT)
		return err_sys("take the mount out of the microVM's share");
	_cleanup_fd_ int writable = open_writable(root);
	if (writable < 0)
		return writable;
	if (unlinkat(writable, share, AT_REMOVEDIR) < 0 && errno == ENOTDIR &&
		unlinkat(writable, share, 0) < 0)
		return err_sys("remove the mount point in the microVM's share");
	return 0;
}

/* Reads the flags of a mount that the guest's mount has to have too, as MOUNT_ATTR_*. */
static int read_flags(const struct hotplug_mount *m, uint64_t *ret)
{
	struct statvfs st;

	if (fstatvfs(m->tree, &st) < 0)
		return err_sys("find out the flags of the mount");
	*ret = (m->read_only || (st.f_flag & ST_RDONLY) ? MOUNT_ATTR_RDONLY : 0) |
	       (st.f_flag & ST_NOSUID ? MOUNT_ATTR_NOSUID : 0) |
	       (st.f_flag & ST_NODEV ? MOUNT_ATTR_NODEV : 0) |
	       (st.f_flag & ST_NOEXEC ? MOUNT_ATTR_NOEXEC : 0);
	return 0;
}

static int send_mount(int sock, const struct hotplug_mount *m, uint64_t flags)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	_cleanup_agent_frame_ struct agent_frame reply = {0};

	int r = hotplug_write(&w, "attach", "mount", m->target);
	if (r < 0)
		return r;
	json_out_str(&w.json, "share", m->share);
	json_out_u64(&w.json, "attr", flags);
	return control_call(sock, &w, NULL, HOTPLUG_CALL_MS, &reply);
}

int hotplug_add_mount(struct container *c, const struct hotplug_mount *m)
{
	uint64_t flags = 0;

	_cleanup_fd_ int sock = control_connect(c->dir);
	int r = sock < 0 ? sock : read_flags(m, &flags);
	_cleanup_fd_ int root = r < 0 ? r : enter_share(c);
	if (root < 0)
		return root;
	r = put_into_share(root, m);
	if (r >= 0)
		r = send_mount(sock, m, flags);
	/*
	 * A mount about which the guest has not answered stays until hotplug_remove_mount() removes
	 * it.
	 */
	if (r >= 0 || r == -ETIMEDOUT)
		return r;
	_cleanup_free_ char *why = strdup(err_msg());
	if (take_out_of_share(root, m->share) < 0)
		log_warn("%s", err_msg());
	return err_set(-r, "%s", why ? why : "out of memory");
}

int hotplug_remove_mount(struct container *c, const char *share, const char *target)
{
	int r = hotplug_detach(c, "mount", target, false);

	/* The monitor does not know a mount whose command was killed before it told the monitor. */
	if (r < 0 && r != -ENOENT)
		return r;
	_cleanup_fd_ int root = enter_share(c);
	return root < 0 ? root : take_out_of_share(root, share);
}
