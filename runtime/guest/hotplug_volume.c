/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounts the file system of a disk that was attached to the running machine into the container, and
 * unmounts it: a volume of the pool qcow2. The container gets no node of the disk.
 */
#include <sys/mount.h>

#include "base/fd.h"
#include "guest/hotplug.h"
#include "step/mnt.h"

/* `caisson volume create` makes this file system (images/oci/volumes.h). */
#define TYPE "ext4"
#define ROOT_INODE 2 /* inode number of its root directory */

/* Returns a detached mount of the file system in the node. */
static int mount_node(const char *node, bool read_only)
{
	const struct mount_attr attr = {
		.attr_set = read_only ? MOUNT_ATTR_RDONLY : 0, .propagation = MS_PRIVATE};

	_cleanup_fd_ int tree = guest_mount_disk("the volume", node, TYPE, read_only);
	if (tree < 0)
		return tree;
	if (mnt_setattr(tree, false, &attr) < 0)
		return err_sys("set the flags of the volume's mount");
	return take_fd(&tree);
}

int hotplug_attach_volume(struct guest *g, const struct agent_frame *f, uint64_t slot)
{
	const char *target = json_get_str(f->json, "name");
	struct hotplug_node node;

	if (!target)
		return err_set(EPROTO, "attach: expected the path of a mount");
	int r = hotplug_find_node(slot, &node);
	if (r < 0)
		return r;
	_cleanup_fd_ int tree = mount_node(node.path, json_get_true(f->json, "readOnly"));
	return tree < 0 ? tree : hotplug_attach_mount(g, tree, target);
}

int hotplug_detach_volume(struct guest *g, const struct agent_frame *f, uint64_t slot)
{
	const char *target = json_get_str(f->json, "name");
	struct hotplug_node node;

	if (!target)
		return err_set(EPROTO, "detach: expected the path of a mount");
	int r = hotplug_find_node(slot, &node);
	/* The driver has no disk in the slot if an earlier request was interrupted. */
	if (r == -ENODEV) {
		err_clear();
		return 0;
	}
	const struct stat root = {.st_dev = node.st.st_rdev, .st_ino = ROOT_INODE};
	if (r >= 0)
		r = hotplug_detach_mount(g, target, &root);
	/* A process of the container may have the file system in a mount namespace of its own. */
	return r < 0 ? r : hotplug_check_unused(node.path);
}
