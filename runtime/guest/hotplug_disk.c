/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives the container a disk that was attached to the running machine, as a device node.
 *
 * The node is the one of the guest's own /dev, mounted at the path that the command has named. So a
 * container with a user namespace can use the node too, although the kernel lets such a container
 * open no node in a file system of its own. A node that a program has open keeps the mount busy,
 * and a file system that is mounted from the disk keeps the disk itself busy; the agent checks for
 * both before the driver releases the disk.
 *
 * The device rules of the container's cgroup get a rule for each such disk. The rules are made anew
 * from the container's own rules and the files in DISKS, one for each disk, because the agent's
 * jobs have no other memory in common.
 */
#include <dirent.h>
#include <glob.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fd.h"
#include "guest/hotplug.h"
#include "step/mnt.h"

#define DISKS "/run/caisson-disks"
#define DISKS_MAX 64

/* Finds the name that the kernel has given to the disk in the slot, such as "vdb". */
static int find_disk(uint64_t slot, char ret[32])
{
	char pattern[128];
	glob_t found = {0};

	snprintf(pattern, sizeof(pattern),
		"/sys/bus/platform/devices/LNRO0005:%02x/virtio*/block/*", (unsigned)slot);
	int r = glob(pattern, GLOB_NOSORT, NULL, &found);
	const char *name = r == 0 ? strrchr(found.gl_pathv[0], '/') + 1 : "";
	const bool fits = r == 0 && strlen(name) < 32;
	if (fits)
		memcpy(ret, name, strlen(name) + 1);
	globfree(&found);
	return fits ? 0 : err_set(ENODEV, "the guest's kernel made no disk of the device");
}

int hotplug_find_node(uint64_t slot, struct hotplug_node *ret)
{
	char name[32];

	int r = find_disk(slot, name);
	if (r < 0)
		return r;
	snprintf(ret->path, sizeof(ret->path), "/dev/%s", name);
	if (lstat(ret->path, &ret->st) < 0)
		return err_sys("find %s", ret->path);
	return S_ISBLK(ret->st.st_mode) ? 0 : err_set(ENODEV, "%s is no block device", ret->path);
}

/* --- device rules --- */

/* Reads a rule of DISKS: "MAJOR MINOR ACCESS". */
static int read_rule(struct arena *a, int dir, const char *name, struct cg_device_rule *ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	long long major, minor;
	char access[4];

	int r = fd_read_file(dir, name, &text, 64);
	if (r < 0)
		return r;
	if (sscanf(strbuf_str(&text), "%lld %lld %3[rwm]", &major, &minor, access) != 3)
		return err_set(EINVAL, DISKS "/%s: expected a rule", name);
	*ret = (struct cg_device_rule){.allow = true,
		.type = 'b',
		.major = major,
		.minor = minor,
		.access = arena_strdup(a, access)};
	return ret->access ? 0 : -ENOMEM;
}

int guest_add_disk_rules(struct arena *a, struct cg_resources *res)
{
	struct cg_device_rule *rules = arena_array(a, res->ndevices + DISKS_MAX, sizeof(*rules));
	DIR *d = opendir(DISKS);
	struct dirent *e;
	int r = rules ? 0 : -ENOMEM;

	if (!d)
		return r; /* no disk was attached yet */
	if (r >= 0 && res->ndevices)
		memcpy(rules, res->devices, res->ndevices * sizeof(*rules));
	for (size_t n = 0; r >= 0 && n < DISKS_MAX && (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		r = read_rule(a, dirfd(d), e->d_name, &rules[res->ndevices]);
		res->ndevices += r >= 0;
		n++;
	}
	closedir(d);
	if (r >= 0)
		res->devices = rules;
	return r;
}

/* Loads the container's device rules, with those of its disks. */
static int load_rules(struct guest *g)
{
	_cleanup_arena_ struct arena a = {0};
	struct cg_resources res = {.devices = g->device_rules.v, .ndevices = g->device_rules.n};

	int r = guest_add_disk_rules(&a, &res);
	return r < 0 ? r : cg_apply(&g->cgroup, &res);
}

static int add_rule(struct guest *g, uint64_t slot, const struct stat *st, bool read_only)
{
	char path[64], rule[64];

	snprintf(path, sizeof(path), DISKS "/%u", (unsigned)slot);
	snprintf(rule, sizeof(rule), "%u %u %s", major(st->st_rdev), minor(st->st_rdev),
		read_only ? "rm" : "rwm");
	if (mkdir(DISKS, 0700) < 0 && errno != EEXIST)
		return err_sys("make " DISKS);
	int r = fd_replace_file(AT_FDCWD, path, rule, strlen(rule), 0600);
	return r < 0 ? r : load_rules(g);
}

static int remove_rule(struct guest *g, uint64_t slot)
{
	char path[64];

	snprintf(path, sizeof(path), DISKS "/%u", (unsigned)slot);
	if (unlink(path) < 0 && errno != ENOENT)
		return err_sys("remove %s", path);
	return load_rules(g);
}

/* --- the node in the container --- */

int hotplug_attach_disk(struct guest *g, const struct agent_frame *f, uint64_t slot)
{
	const char *target = json_get_str(f->json, "name");
	char why[ERR_MAX];
	struct hotplug_node node;

	if (!target)
		return err_set(EPROTO, "attach: expected the path of a node");
	int r = hotplug_find_node(slot, &node);
	if (r < 0)
		return r;
	/* The mode is the one that nodes of linux.devices have; the cgroup's rules restrict it. */
	if (chmod(node.path, 0666) < 0)
		return err_sys("set the mode of %s", node.path);
	_cleanup_fd_ int tree = open_tree(AT_FDCWD, node.path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0 || mnt_set_propagation(tree, MS_PRIVATE) < 0)
		return err_sys("open %s for a mount", node.path);
	r = add_rule(g, slot, &node.st, json_get_true(f->json, "readOnly"));
	if (r >= 0)
		r = hotplug_attach_mount(g, tree, target);
	if (r >= 0)
		return 0;
	snprintf(why, sizeof(why), "%s", err_msg());
	if (remove_rule(g, slot) < 0)
		return err_set(-r, "%s; %s", why, err_msg());
	return err_set(-r, "%s", why);
}

int hotplug_check_unused(const char *node)
{
	_cleanup_fd_ int fd = open(node, O_RDONLY | O_EXCL | O_CLOEXEC);

	if (fd >= 0)
		return 0;
	return errno == EBUSY ? err_set(EBUSY, "a file system on the disk is mounted, or the disk "
					       "is otherwise in use")
			      : err_sys("open %s", node);
}

int hotplug_detach_disk(struct guest *g, const struct agent_frame *f, uint64_t slot)
{
	const char *target = json_get_str(f->json, "name");
	struct hotplug_node node;

	if (!target)
		return err_set(EPROTO, "detach: expected the path of a node");
	int r = hotplug_find_node(slot, &node);
	/* The driver has no disk in the slot if an earlier request was interrupted. */
	if (r == -ENODEV) {
		err_clear();
		return remove_rule(g, slot);
	}
	if (r >= 0)
		r = hotplug_check_unused(node.path);
	if (r >= 0)
		r = hotplug_detach_mount(g, target, &node.st);
	return r < 0 ? r : remove_rule(g, slot);
}
