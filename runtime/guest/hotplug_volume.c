/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounts the file system of a disk that was attached to the running machine into the container, and
 * unmounts it: a volume of the pool qcow2. The container gets no node of the disk.
 */
#include <limits.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fd.h"
#include "guest/hotplug.h"
#include "step/mnt.h"

/* `caisson volume create` makes this file system (images/oci/volumes.h). */
#define TYPE "ext4"
#define ROOT_INODE 2 /* inode number of its root directory */

static int mount_error(int fs)
{
	char text[256];
	const int code = errno;
	ssize_t n = fs < 0 ? -1 : read(fs, text, sizeof(text) - 1);

	if (n <= 2)
		return err_set(code, "mount the volume as " TYPE ": %s", err_text(code));
	/* The kernel's own message begins with its kind and a blank. */
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return err_set(code, "mount the volume as " TYPE ": %s", text + 2);
}

/* Returns a detached mount of the file system in the node. */
static int mount_node(const char *node, bool read_only)
{
	const struct mount_attr attr = {
		.attr_set = read_only ? MOUNT_ATTR_RDONLY : 0, .propagation = MS_PRIVATE};

	_cleanup_fd_ int fs = fsopen(TYPE, FSOPEN_CLOEXEC);
	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "source", node, 0) < 0 ||
		(read_only && fsconfig(fs, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0) ||
		fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return mount_error(fs);
	_cleanup_fd_ int tree = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	if (tree < 0)
		return mount_error(fs);
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
	/* The container may have unmounted the volume itself. */
	if (r == -ENOENT) {
		err_clear();
		r = 0;
	}
	/* A process of the container may have the file system in a mount namespace of its own. */
	return r < 0 ? r : hotplug_check_unused(node.path);
}
