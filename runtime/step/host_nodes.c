/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes device nodes for a container in a user namespace.
 *
 * Theory of operation. In a user namespace mknod(2) is refused, and a node that is bind-mounted
 * from the host keeps the host's owner and mode. So the runtime makes the nodes for INIT, the
 * container's first process, on a new tmpfs that no path leads to. The container gets a mount of
 * each node alone, and never the directory of the nodes. The directory and the tmpfs belong to the
 * outer user namespace, so the container can neither add a node nor change the options of the
 * tmpfs. The mounts have the flags nosuid and noexec.
 *
 * Since Linux 6.15 a detached mount can be copied. On older kernels only an attached mount can be
 * copied, so a helper process attaches the tmpfs in a mount namespace of its own.
 */
#include "step/host_nodes.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sysmacros.h>

#include "base/aside.h"
#include "base/fd.h"
#include "base/userns.h"
#include "step/mnt.h"

#define NAME_SIZE 24

struct nodes {
	const struct step *s;
	struct spec_id_maps uid, gid;
};

static int parse_map(struct arena *a, const struct strbuf *text, struct spec_id_maps *ret)
{
	struct spec_id_map *v = arena_array(a, text->len + 1, sizeof(*v));
	const char *line = strbuf_str(text);
	size_t n = 0;

	if (!v)
		return -ENOMEM;
	while (sscanf(line, " %u %u %u", &v[n].container_id, &v[n].host_id, &v[n].size) == 3) {
		n++;
		line += strcspn(line, "\n");
		line += *line == '\n';
	}
	*ret = (struct spec_id_maps){.v = v, .n = n};
	return 0;
}

/*
 * Reads the id maps of the user namespace that the container joins, because config.json does not
 * contain the maps of a joined namespace.
 */
static int find_maps(struct arena *a, int userns, struct nodes *n)
{
	_cleanup_strbuf_ struct strbuf uid = {0}, gid = {0};

	n->uid = n->s->nodes.uid;
	n->gid = n->s->nodes.gid;
	if (n->uid.n || userns < 0)
		return 0;
	int r = userns_read_maps(userns, &uid, &gid);
	if (r >= 0)
		r = parse_map(a, &uid, &n->uid);
	return r < 0 ? r : parse_map(a, &gid, &n->gid);
}

static int to_host(const struct spec_id_maps *maps, uint32_t id, const char *what, uint32_t *ret)
{
	for (size_t i = 0; i < maps->n; i++) {
		const struct spec_id_map *m = &maps->v[i];
		if (id < m->container_id || id - m->container_id >= m->size)
			continue;
		*ret = m->host_id + (id - m->container_id);
		return 0;
	}
	return err_set(EINVAL,
		"%s: %u is not mapped in the container's user namespace: expected an id of "
		"linux.%sMappings",
		what, id, what);
}

/* Mounts a tmpfs with room for `count` device nodes and nothing else. */
static int make_tmpfs(size_t count)
{
	char inodes[32];
	_cleanup_fd_ int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);

	snprintf(inodes, sizeof(inodes), "%zu", count + 1);
	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "source", "caisson-devices", 0) < 0 ||
		fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0500", 0) < 0 ||
		fsconfig(fs, FSCONFIG_SET_STRING, "size", "4096", 0) < 0 ||
		fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", inodes, 0) < 0 ||
		fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return err_sys("make a tmpfs for device nodes");
	int fd = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
	return fd < 0 ? err_sys("mount a tmpfs for device nodes") : fd;
}

/*
 * Opens a detached mount of the host's device node. The caller uses this mount if caisson cannot
 * make a node, because caisson lacks CAP_MKNOD or its own cgroup forbids the device. The step
 * DEVICE then warns if the owner or mode of the host's node is not what config.json asks for.
 */
static int take_hosts_node(const struct spec_device *d)
{
	int fd = open_tree(AT_FDCWD, d->path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	return fd >= 0 ? fd
		       : err_set(EPERM,
				 "%s: making device nodes is not permitted here, and the host has "
				 "none at this path to bind: %s",
				 d->path, err_text(errno));
}

static int make_node(const struct nodes *n, int dir, const char *name, const struct spec_device *d)
{
	const mode_t mode = d->file_mode.set ? (mode_t)d->file_mode.v & 07777 : 0666;
	uint32_t uid, gid;

	int r = to_host(&n->uid, d->uid.set ? (uint32_t)d->uid.v : 0, "uid", &uid);
	if (r >= 0)
		r = to_host(&n->gid, d->gid.set ? (uint32_t)d->gid.v : 0, "gid", &gid);
	if (r < 0)
		return r;
	if (mknodat(dir, name, (d->type == 'b' ? S_IFBLK : S_IFCHR), makedev(d->major, d->minor)) <
		0)
		return errno == EPERM ? take_hosts_node(d) : err_sys("make %s", d->path);
	/*
	 * The mode of the node is set after its owner, because a change of the owner clears bits of
	 * the mode.
	 */
	if (fchownat(dir, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys("uid, gid: set the owner of %s to %u:%u", d->path, uid, gid);
	if (fchmodat(dir, name, mode, 0) < 0)
		return err_sys("fileMode: set the mode of %s to 0%o", d->path, mode);
	int fd = open_tree(dir, name, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);
	return fd < 0 ? err_sys("copy the mount of %s", d->path) : fd;
}

/*
 * Attaches the tmpfs over the root directory of this process's mount namespace. No other namespace
 * sees that, because this namespace shares its mounts with none.
 */
static int attach(int tmpfs)
{
	_cleanup_fd_ int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (root < 0)
		return err_sys("open /");
	if (mnt_set_propagation(root, MS_PRIVATE | MS_REC) < 0)
		return err_sys("make the mounts of a helper process private");
	return mnt_attach(tmpfs, root) < 0 ? err_sys("attach the tmpfs for device nodes") : 0;
}

/*
 * Runs in the helper process, which is in a mount namespace of its own: attaches the tmpfs, makes
 * the device nodes, and opens a detached mount of each.
 */
static int make_all(void *data, int *fds)
{
	const struct nodes *n = data;
	char name[NAME_SIZE];

	_cleanup_fd_ int tmpfs = make_tmpfs(n->s->nodes.n);
	if (tmpfs < 0)
		return tmpfs;
	int r = attach(tmpfs);
	for (size_t i = 0; i < n->s->nodes.n && r >= 0; i++) {
		snprintf(name, sizeof(name), "%zu", i);
		fds[i] = make_node(n, tmpfs, name, n->s->nodes.v[i].device);
		if (fds[i] < 0)
			r = err_ctx(fds[i], "%s", n->s->nodes.v[i].field);
	}
	return r;
}

int device_nodes_make(const struct step *s, int userns, int *slots)
{
	_cleanup_arena_ struct arena a = {0};
	struct nodes n = {.s = s};
	int *fds = arena_array(&a, s->nodes.n + 1, sizeof(*fds));

	if (!fds)
		return -ENOMEM;
	int r = find_maps(&a, userns, &n);
	if (r >= 0)
		r = aside_run(CLONE_NEWNS, make_all, &n, fds, s->nodes.n);
	if (r < 0)
		return r;
	for (size_t i = 0; i < s->nodes.n; i++)
		slots[s->nodes.v[i].slot] = fds[i];
	return 0;
}
