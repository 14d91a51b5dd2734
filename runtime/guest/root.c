/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens the container's root and the sources of its bind mounts. A source can be in the virtio-fs
 * share, in which the host has put its copy of each mount, with ids already mapped, under the
 * number of the mount's slot. A source can also be the block device with vm.image, or a vhost-user
 * back end, which has a device of its own. Device nodes are opened in the guest's own /dev.
 */
#include <limits.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/overlay.h"
#include "base/path.h"
#include "guest/guest.h"
#include "step/host_open.h"
#include "step/mnt.h"

#define DISK_WAIT_MS 10000

static const char *share_path(const struct guest_config *c, char path[static PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/share", c->dir);
	return path;
}

/* Returns the path in the guest to which INIT attaches the container's root. */
static const char *attach_path(const struct guest_config *c, char path[static PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/root", c->dir);
	return path;
}

int guest_prepare_dirs(const struct guest_config *c)
{
	char path[PATH_MAX];
	_cleanup_fd_ int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (root < 0)
		return err_sys("open /");
	_cleanup_fd_ int share = path_mkdirs(root, share_path(c, path));
	_cleanup_fd_ int attach = share < 0 ? share : path_mkdirs(root, attach_path(c, path));
	return attach < 0 ? err_set(-attach, "make the directory %s: %s", c->dir, err_text(-attach))
			  : 0;
}

static bool is_link(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISLNK(st.st_mode);
}

/*
 * Gives the detached mount `tree` the mount flags (read-only, nosuid ...) that the mount has on the
 * host, because neither the virtio-fs share nor a detached copy of it has these flags.
 */
static int restrict_mount(const struct guest *g, const struct step *s, int tree)
{
	struct mount_attr attr = {0};

	/*
	 * A source that is a symbolic link is not mounted, because INIT makes the same link in the
	 * container.
	 */
	if (s->open.mount && s->open.mount->copy_symlink && is_link(tree))
		return tree;
	attr.attr_set = g->orders->mount_flags[s->slot];
	if (!attr.attr_set || mnt_setattr(tree, false, &attr) >= 0)
		return tree;
	int r = err_sys("%s: set the flags of the mount", s->field);
	close(tree);
	return r;
}

static int open_share(struct process *p, const struct step *s)
{
	struct guest *g = p->guest;
	char share[PATH_MAX];
	struct step here = *s;

	share_path(g->config, share);
	if (!g->share_mounted) {
		int r = g->config->mount_share(g->config->data, share);
		if (r < 0)
			return r;
		g->share_mounted = true;
	}
	/*
	 * The path in the share shows the mounts below the source too, because the file server on
	 * the host crosses those mounts by itself.
	 */
	here.open.path = arena_printf(&p->arena, "%s/%d", share, s->slot);
	here.open.idmap_uid = here.open.idmap_gid = (struct spec_id_maps){0};
	here.open.idmap_joined = false;
	if (!here.open.path)
		return -ENOMEM;
	int tree = open_tree_copy(&here, -EBADF);
	return tree < 0 ? tree : restrict_mount(g, s, tree);
}

/*
 * Magic numbers of file systems: the offset and the bytes of each type's magic number, as in the
 * kernel's superblock structs.
 */
static const struct {
	const char *name;
	off_t offset;
	const char *magic;
	size_t len;
} file_systems[] = {
	{"ext4", 1080, "\x53\xef", 2},
	{"erofs", 1024, "\xe2\xe1\xf5\xe0", 4},
	{"squashfs", 0, "hsqs", 4},
	{"xfs", 0, "XFSB", 4},
	{"btrfs", 0x10040, "_BHRfS_M", 8},
};

static int open_disk(const char *field, const char *path)
{
	for (int waited = 0;; waited += 10) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0)
			return fd;
		if ((errno != ENOENT && errno != ENXIO) || waited >= DISK_WAIT_MS)
			return err_set(errno, "%s: open %s in the guest: %s", field, path,
				err_text(errno));
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	}
}

static int find_file_system(const char *path, const char **ret)
{
	char found[8];
	_cleanup_fd_ int disk = open_disk("vm.image", path);

	if (disk < 0)
		return disk;
	for (size_t i = 0; i < ARRAY_SIZE(file_systems); i++) {
		ssize_t n = pread(disk, found, file_systems[i].len, file_systems[i].offset);
		if (n < 0)
			return err_sys("vm.image: read its superblock");
		if ((size_t)n != file_systems[i].len ||
			memcmp(found, file_systems[i].magic, file_systems[i].len) != 0)
			continue;
		*ret = file_systems[i].name;
		return 0;
	}
	return err_set(EINVAL,
		"vm.image: found no file system that the guest knows: expected ext4, erofs, "
		"squashfs, xfs or btrfs on the whole image, without partitions");
}

/*
 * Makes the error message for a mount that the kernel refused, with the kernel's own message if the
 * descriptor fs, which fsopen(2) has made, has one.
 */
static int mount_error(int fs, const char *what, const char *type)
{
	char text[256];
	int code = errno;
	ssize_t n = read(fs, text, sizeof(text) - 1);

	if (n > 2) {
		text[n] = '\0';
		text[strcspn(text, "\n")] = '\0';
		return err_set(code, "%s: mount it as %s: %s", what, type, text + 2);
	}
	if (code == ENODEV)
		return err_set(code, "%s: the guest's kernel does not know the file system %s",
			what, type);
	return err_set(code, "%s: mount it as %s: %s", what, type, err_text(code));
}

int guest_mount_disk(const char *what, const char *disk, const char *type, bool read_only)
{
	_cleanup_fd_ int fs = fsopen(type, FSOPEN_CLOEXEC);

	if (fs < 0)
		return mount_error(-EBADF, what, type);
	if (fsconfig(fs, FSCONFIG_SET_STRING, "source", disk, 0) < 0 ||
		(read_only && fsconfig(fs, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0) ||
		fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return mount_error(fs, what, type);
	int r = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	return r < 0 ? mount_error(fs, what, type) : r;
}

/* Mounts vm.image. Returns the descriptor of a detached mount. */
static int mount_image(struct process *p, bool read_only)
{
	const char *type = NULL, *disk = p->guest->config->disk;

	int r = find_file_system(disk, &type);
	return r < 0 ? r : guest_mount_disk("vm.image", disk, type, read_only);
}

static int mount_memory(void)
{
	_cleanup_fd_ int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);

	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0700", 0) < 0 ||
		fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return err_sys("vm.image: make a file system in the guest's memory");
	int fd = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	return fd < 0 ? err_sys("vm.image: mount a file system in the guest's memory") : fd;
}

/* Attaches a detached mount to the new directory `path` of the guest. */
static int attach(int tree, const char *path)
{
	if (mkdir(path, 0700) < 0)
		return err_sys("make the directory %s", path);
	if (move_mount(tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_sys("attach a mount to %s", path);
	return 0;
}

/*
 * Makes the overlay's own directories in the guest's memory, and gives the upper one the owner,
 * mode and times of the image's root directory.
 */
static int make_upper(int image, int memory)
{
	if (mkdirat(memory, "upper", 0755) < 0 || mkdirat(memory, "work", 0700) < 0)
		return err_sys("vm.image: make a directory in the guest's memory");
	_cleanup_fd_ int upper = openat(memory, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return upper < 0 ? err_sys("vm.image: open a directory in the guest's memory")
			 : overlay_copy_root(image, upper);
}

/*
 * Mounts an overlay: vm.image below, which the guest only reads, and a file system in the guest's
 * memory above it. overlayfs gets its directories by path, and keeps copies of their mounts, so the
 * mounts that are attached here are detached again.
 */
static int open_overlay(struct process *p, const struct step *s)
{
	const char *dir = p->guest->config->dir;
	const char *lower = arena_printf(&p->arena, "%s/image", dir);
	const char *memory_path = arena_printf(&p->arena, "%s/memory", dir);
	const struct overlay o = {.dir = dir,
		.lower = "image",
		.upper = arena_printf(&p->arena, "%s/upper", memory_path),
		.work = arena_printf(&p->arena, "%s/work", memory_path)};
	_cleanup_fd_ int image = mount_image(p, true);
	_cleanup_fd_ int memory = image < 0 ? image : mount_memory();

	if (memory < 0)
		return memory;
	if (!lower || !memory_path || !o.upper || !o.work)
		return -ENOMEM;
	int r = open_tree_map(image, s, -EBADF);
	if (r >= 0)
		r = attach(image, lower);
	if (r >= 0)
		r = attach(memory, memory_path);
	_cleanup_fd_ int root =
		r < 0 ? -EBADF : openat(AT_FDCWD, lower, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r >= 0)
		r = root < 0 ? err_sys("open %s", lower) : make_upper(root, memory);
	int tree = r < 0 ? r : overlay_mount(&o);
	umount2(lower, MNT_DETACH);
	umount2(memory_path, MNT_DETACH);
	return tree;
}

static int open_image(struct process *p, const struct step *s)
{
	return p->orders->overlay ? open_overlay(p, s) : mount_image(p, p->orders->root_readonly);
}

/*
 * Mounts the disk or share of a vhost-user back end. The agent and not INIT mounts it, because
 * INIT's cgroup may forbid INIT to open the disk, and INIT's user namespace may forbid INIT to
 * mount.
 */
static int mount_backend(struct process *p, const struct step *s)
{
	struct spec_mount m = *s->connect.mount;
	const struct step mount = {.kind = STEP_MOUNT, .slot = -1, .mount.mount = &m};
	const struct plan plan = {0};
	struct step_ctx c = {.plan = &plan, .arena = &p->arena};
	char path[PATH_MAX];

	m.source = s->connect.device;
	if (m.source[0] == '/') {
		_cleanup_fd_ int disk = open_disk("source", m.source);
		if (disk < 0)
			return disk;
	}
	_cleanup_fd_ int stage =
		open(attach_path(p->guest->config, path), O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (stage < 0)
		return err_sys("open %s", path);
	return mnt_new_fs(&c, &mount, &(struct mnt_target){.fd = stage});
}

int guest_open(struct process *p, const struct step *s)
{
	int fd;

	if (s->kind == STEP_CONNECT)
		fd = mount_backend(p, s);
	else if (s->kind == STEP_OPEN_ROOT)
		fd = p->orders->image ? open_image(p, s) : open_share(p, s);
	else
		fd = s->open.mount ? open_share(p, s) : open_tree_copy(s, -EBADF);
	p->slots[s->slot] = fd;
	return fd;
}

void guest_unmount_share(struct guest *g)
{
	char share[PATH_MAX];

	if (g->share_mounted && umount2(share_path(g->config, share), MNT_DETACH) == 0)
		g->share_mounted = false;
}
