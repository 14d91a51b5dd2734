/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes devices into use that the monitor has attached to the running machine, and releases them
 * before the monitor detaches them.
 *
 * The kernel has looked at each spare slot of the machine when it booted, and found no device
 * there. bind_slot() makes the driver of virtio-mmio look once more, by the driver's file "bind" in
 * sysfs, and unbind_slot() makes the driver release the device. Each request is a job (job.c),
 * because the kernel may wait for the container's processes.
 */
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "guest/hotplug.h"
#include "netsetup/carry/net_config.h"
#include "step/live_mount.h"
#include "step/mnt.h"

#define DRIVER "/sys/bus/platform/drivers/virtio-mmio/"
/* how long, in ms, a request may take; the monitor waits longer (monitor/hotplug.c) */
#define HOTPLUG_MS 20000

/*
 * Writes the name that the kernel has given to a slot's platform device into a file of the driver.
 * The name is made of the ACPI id of virtio-mmio devices and the number of the slot, because the
 * ACPI tables list the slots in their order.
 */
static int write_slot(const char *file, uint64_t slot)
{
	char name[32];

	snprintf(name, sizeof(name), "LNRO0005:%02x", (unsigned)slot);
	return fd_write_file(AT_FDCWD, file, name);
}

static int bind_slot(uint64_t slot)
{
	int r = write_slot(DRIVER "bind", slot);

	return r == -ENODEV ? err_ctx(r, "the guest's kernel found no device in the slot") : r;
}

int hotplug_find_devices(const struct json *slots)
{
	int r = 0;

	if (!slots)
		return 0;
	if (slots->type != JSON_ARRAY)
		return err_set(EPROTO, "create: devices: expected an array");
	for (const struct json *j = slots->first; r >= 0 && j; j = j->next) {
		uint64_t slot;

		if (json_get_u64(j, "slot", &slot) < 0)
			return err_set(EPROTO, "create: devices: expected slots");
		r = bind_slot(slot);
	}
	return r < 0 ? err_ctx(r, "find the devices of the container") : r;
}

/*
 * Makes the driver release the device in the slot. It is no error if the driver has no device
 * there.
 */
static int unbind_slot(uint64_t slot)
{
	int r = write_slot(DRIVER "unbind", slot);

	if (r == -ENODEV)
		err_clear();
	return r == -ENODEV ? 0 : r;
}

static int attach_net(struct guest *g, const struct agent_frame *f, uint64_t slot)
{
	const struct process *container = process_find(g, 0);
	_cleanup_arena_ struct arena a = {0};
	struct net_config net;

	if (!container)
		return err_set(ESRCH, "container not running");
	int r = net_config_parse(&a, json_get(f->json, "net"), &net);
	return r < 0 ? r : network_add(container, &net);
}

/* --- mounts, which the host has put into the share --- */

static int open_ns(const struct guest *g)
{
	const struct process *container = process_find((struct guest *)g, 0);
	int fd = container ? (int)syscall(SYS_pidfd_open, container->child.pid, 0) : -1;

	return fd < 0 ? err_set(ESRCH, "container not running") : fd;
}

/* Returns to the agent's own mount namespace. The job ends if that fails. */
static void return_to(int own)
{
	if (setns(own, CLONE_NEWNS) < 0)
		_exit(1);
}

int hotplug_attach_mount(struct guest *g, int tree, const char *target)
{
	_cleanup_fd_ int own = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	_cleanup_fd_ int ns = own < 0 ? err_sys("open the own mount namespace") : open_ns(g);

	if (ns < 0)
		return ns;
	int r = live_mount_attach(ns, tree, target);
	return_to(own);
	return r;
}

int hotplug_detach_mount(struct guest *g, const char *target, const struct stat *is)
{
	_cleanup_fd_ int own = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	_cleanup_fd_ int ns = own < 0 ? err_sys("open the own mount namespace") : open_ns(g);

	if (ns < 0)
		return ns;
	int r = live_mount_detach(ns, target, is);
	return_to(own);
	if (r == -ENOENT) {
		err_clear();
		return 0;
	}
	return r < 0 ? r : 1;
}

/* Finds the path at which the guest sees the mount in the share. */
static int share_path(const struct guest *g, const struct agent_frame *f, char ret[PATH_MAX])
{
	const char *share = json_get_str(f->json, "share");

	if (!share || !share[0] || strchr(share, '/') || streq(share, "..") || streq(share, ".") ||
		!json_get_str(f->json, "name"))
		return err_set(EPROTO, "%s: expected a name in the share, and a target", f->type);
	if (!g->share_mounted)
		return err_set(EOPNOTSUPP, "the guest has no share");
	int n = snprintf(ret, PATH_MAX, "%s/share/%s", g->config->dir, share);
	return n < PATH_MAX ? 0 : err_set(ENAMETOOLONG, "the share's name is too long");
}

static int attach_mount(struct guest *g, const struct agent_frame *f, uint64_t slot)
{
	char path[PATH_MAX];
	uint64_t flags;

	int r = share_path(g, f, path);
	if (r < 0)
		return r;
	if (json_get_u64(f->json, "attr", &flags) < 0)
		return err_set(EPROTO, "attach: expected the flags of a mount");
	_cleanup_fd_ int tree = open_tree(
		AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);
	if (tree < 0)
		return err_sys("open the mount in the share");
	const struct mount_attr attr = {.attr_set = flags, .propagation = MS_PRIVATE};
	if (mnt_setattr(tree, false, &attr) < 0)
		return err_sys("set the flags of the mount");
	return hotplug_attach_mount(g, tree, json_get_str(f->json, "name"));
}

/*
 * Makes the kernel drop the names and inodes that it only caches, so that the file server on the
 * host closes the files of a mount that was removed. Otherwise the host's file system would stay
 * busy.
 */
static void forget_files(void)
{
	if (fd_write_file(AT_FDCWD, "/proc/sys/vm/drop_caches", "2") < 0)
		err_clear();
}

static int detach_mount(struct guest *g, const struct agent_frame *f, uint64_t slot)
{
	char path[PATH_MAX];
	struct stat st;

	int r = share_path(g, f, path);
	if (r < 0)
		return r;
	if (lstat(path, &st) < 0)
		return err_sys("find the mount in the share");
	r = hotplug_detach_mount(g, json_get_str(f->json, "name"), &st);
	if (r > 0)
		forget_files();
	return r < 0 ? r : 0;
}

static const struct {
	const char *kind;
	bool device; /* it is a device of the machine, which a driver has to bind to */
	/* Takes the device in the slot into use once the driver has it. A mount has no slot. */
	int (*attach)(struct guest *g, const struct agent_frame *f, uint64_t slot);
	/* Stops using the device, or fails with -EBUSY. NULL: unbinding the driver is enough. */
	int (*detach)(struct guest *g, const struct agent_frame *f, uint64_t slot);
} kinds[] = {
	{"net", true, attach_net, NULL},
	{"disk", true, hotplug_attach_disk, hotplug_detach_disk},
	{"volume", true, hotplug_attach_volume, hotplug_detach_volume},
	{"mount", false, attach_mount, detach_mount},
};

static int find_kind(const struct agent_frame *f, uint64_t *ret_slot)
{
	const char *kind = json_get_str(f->json, "kind");

	for (size_t i = 0; kind && i < ARRAY_SIZE(kinds); i++)
		if (streq(kind, kinds[i].kind) &&
			(!kinds[i].device || json_get_u64(f->json, "slot", ret_slot) >= 0))
			return (int)i;
	return err_set(EPROTO, "%s: expected a known kind, and a slot", f->type);
}

static int attach(struct guest *g, const struct agent_frame *f, struct json_out *reply)
{
	char why[ERR_MAX];
	uint64_t slot = 0;

	int k = find_kind(f, &slot);
	int r = k >= 0 && kinds[k].device ? bind_slot(slot) : k;
	if (r < 0)
		return r;
	r = kinds[k].attach(g, f, slot);
	if (r >= 0 || !kinds[k].device)
		return r;
	snprintf(why, sizeof(why), "%s", err_msg());
	if (unbind_slot(slot) < 0)
		return err_set(-r, "%s; %s", why, err_msg());
	return err_set(-r, "%s", why);
}

static int detach(struct guest *g, const struct agent_frame *f, struct json_out *reply)
{
	uint64_t slot = 0;

	int k = find_kind(f, &slot);
	int r = k >= 0 && kinds[k].detach ? kinds[k].detach(g, f, slot) : k;
	return r < 0 || !kinds[k].device ? r : unbind_slot(slot);
}

void guest_attach(struct guest *g, const struct agent_frame *f)
{
	guest_change(g, f, HOTPLUG_MS, attach);
}

void guest_detach(struct guest *g, const struct agent_frame *f)
{
	guest_change(g, f, HOTPLUG_MS, detach);
}
