/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounts file systems of the disk beneath SYSROOT. If --mount is given, it says which ones.
 * Otherwise the root of the operating system on the disk is mounted, with the file systems that its
 * fstab names. If the disk has no operating system and only one file system, that one is mounted.
 */
#include <limits.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>

#include "base/path.h"
#include "inside/inside.h"

#define FSTAB_MAX (256u << 10)
#define OPTIONS_MAX 512

/*
 * What is needed to mount a file system that blkid calls `type`: the kernel's name of it, mount
 * options, and kernel modules.
 */
static const struct {
	const char *type, *kernel, *options;
	const char *modules[6];
} kinds[] = {
	{"ext2", "ext4", NULL, {"crc32c_generic", "crc32c_intel", "ext4"}},
	{"ext3", "ext4", NULL, {"crc32c_generic", "crc32c_intel", "ext4"}},
	{"ext4", "ext4", NULL, {"crc32c_generic", "crc32c_intel", "ext4"}},
	/*
	 * The option quiet makes vfat ignore a change of an owner or mode that FAT cannot store,
	 * instead of failing.
	 */
	{"vfat", "vfat", "quiet,iocharset=utf8",
		{"nls_cp437", "nls_iso8859_1", "nls_ascii", "nls_utf8", "vfat"}},
	{"exfat", "exfat", NULL, {"nls_utf8", "exfat"}},
	{"ntfs", "ntfs3", NULL, {"nls_utf8", "ntfs3"}},
	{"btrfs", "btrfs", NULL,
		{"crc32c_generic", "crc32c_intel", "xxhash_generic", "blake2b_generic", "btrfs"}},
	{"xfs", "xfs", NULL, {"crc32c_generic", "crc32c_intel", "xfs"}},
	{"f2fs", "f2fs", NULL, {"crc32_generic", "f2fs"}},
	{"iso9660", "iso9660", NULL, {"isofs"}},
	{"udf", "udf", NULL, {"udf"}},
};

static const char *find_kind(struct inside_guest *g, const char *type, const char **ret_options)
{
	*ret_options = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		size_t n = 0;
		if (!streq(kinds[i].type, type))
			continue;
		while (n < ARRAY_SIZE(kinds[i].modules) && kinds[i].modules[n])
			n++;
		if (guest_load(g, kinds[i].modules, n) < 0)
			err_clear();
		*ret_options = kinds[i].options;
		return kinds[i].kernel;
	}
	if (guest_load(g, &type, 1) < 0)
		err_clear();
	return type;
}

void mounts_load_all(struct inside_guest *g)
{
	const char *options;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		(void)find_kind(g, kinds[i].type, &options);
}

/*
 * Adds a word to a list of mount options, which commas separate. Does nothing if the list has no
 * room.
 */
static void add_option(char *list, const char *word, size_t len)
{
	size_t used = strlen(list);

	if (used + len + 2 > OPTIONS_MAX)
		return;
	snprintf(list + used, OPTIONS_MAX - used, "%s%.*s", used ? "," : "", (int)len, word);
}

/*
 * Copies to `ret` those mount options of fstab or --mount that decide what is mounted, such as the
 * subvolume of btrfs, or with which owners, and leaves out all others. Copies the value of fstype=,
 * which only --mount has, to `type`.
 */
static void pick_options(const char *given, char *ret, char *type, size_t type_size)
{
	static const char *const kept[] = {"subvol=", "subvolid=", "degraded", "noload",
		"norecovery", "nologreplay", "sb=", "uid=", "gid=", "umask="};

	for (const char *p = given; p && *p; p += strcspn(p, ","), p += *p == ',') {
		size_t len = strcspn(p, ",");
		if (str_starts(p, "fstype="))
			snprintf(type, type_size, "%.*s", (int)len - 7, p + 7);
		for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
			if (str_starts(p, kept[i]))
				add_option(ret, p, len);
	}
}

static int err_mount(const struct device *d, const char *type, int code)
{
	if (code == ENODEV)
		return err_set(code,
			"%s: the microVM's kernel does not know the file system %s: --kernel names "
			"another kernel",
			d->name, type);
	return err_set(code, "%s: mount it as %s: %s", d->name, type, err_text(code));
}

/* Mounts the device on the directory `at`, whose path in the disk is `path`. */
static int mount_at(struct inside_guest *g, const struct device *d, const char *options, int at,
	const char *path)
{
	unsigned long flags = MS_NOSUID | MS_NODEV | (g->options.write ? 0 : MS_RDONLY);
	char words[OPTIONS_MAX] = "", type[32] = "", place[64];
	const char *more;

	pick_options(options, words, type, sizeof(type));
	if (!*type)
		snprintf(type, sizeof(type), "%s", d->type);
	if (!*type)
		return err_set(EINVAL, "%s: found no file system on it", d->name);
	const char *kernel = find_kind(g, type, &more);
	if (more)
		add_option(words, more, strlen(more));
	if (g->nmounts == DEVICES_MAX)
		return err_set(E2BIG, "more than %d mounts", DEVICES_MAX);
	snprintf(place, sizeof(place), "/proc/self/fd/%d", at);
	if (mount(d->path, place, kernel, flags, words) < 0)
		return err_mount(d, kernel, errno);
	struct mounted *m = &g->mounts[g->nmounts++];
	*m = (struct mounted){
		d->name, arena_strdup(&g->arena, path), d->type, arena_strdup(&g->arena, words)};
	return m->path && m->options ? 0 : -ENOMEM;
}

int mounts_try(struct inside_guest *g, const struct device *d, const char *options)
{
	_cleanup_fd_ int at = open(SYSROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (at < 0)
		return err_sys("open " SYSROOT);
	int r = mount_at(g, d, options, at, "/");
	if (r < 0)
		return r;
	g->root = open(SYSROOT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return g->root < 0 ? err_sys("open " SYSROOT) : 0;
}

void mounts_clear(struct inside_guest *g)
{
	if (g->root < 0 && g->nmounts == 0)
		return;
	fd_close(&g->root);
	/*
	 * umount2(2) with MNT_DETACH also unmounts the file systems beneath SYSROOT, each once no
	 * process uses it.
	 */
	sync();
	umount2(SYSROOT, MNT_DETACH);
	g->nmounts = 0;
}

static int mount_below(
	struct inside_guest *g, const struct device *d, const char *path, const char *options)
{
	_cleanup_fd_ int at = path_open(g->root, path, O_PATH | O_DIRECTORY);

	return at < 0 ? err_ctx(at, "%s: mount it on %s", d->name, path)
		      : mount_at(g, d, options, at, path);
}

/* Mounts the file system of an fstab entry, if it is on this disk. */
static int mount_entry(struct inside_guest *g, const struct mntent *e)
{
	static const char *const not_files[] = {"swap", "proc", "sysfs", "tmpfs", "devpts", "none"};

	if (e->mnt_dir[0] != '/' || streq(e->mnt_dir, "/"))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(not_files); i++)
		if (streq(e->mnt_type, not_files[i]))
			return 0;
	const struct device *d = devices_named(g, e->mnt_fsname);
	if (!d || !device_has_files(d))
		return 0;
	int r = mount_below(g, d, e->mnt_dir, e->mnt_opts);
	if (r < 0 && strstr(e->mnt_opts, "nofail")) {
		err_clear();
		return 0;
	}
	return r < 0 ? err_ctx(r, "the disk's fstab") : r;
}

int mounts_fstab(struct inside_guest *g)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	struct mntent e;
	char line[4096];
	int r = system_read(g, "/etc/fstab", &text, FSTAB_MAX);

	if (r < 0) {
		err_clear();
		return 0;
	}
	FILE *f = text.len ? fmemopen(text.s, text.len, "r") : NULL;
	if (!f)
		return 0;
	r = 0;
	while (r >= 0 && getmntent_r(f, &e, line, sizeof(line)))
		r = mount_entry(g, &e);
	fclose(f);
	return r;
}

int mounts_err_list(const struct inside_guest *g, const char *text)
{
	_cleanup_strbuf_ struct strbuf list = {0};
	int r = 0;

	for (size_t i = 0; i < g->ndevices && r >= 0; i++) {
		const struct device *d = &g->devices[i];
		if (device_has_files(d) || d->note)
			r = strbuf_addf(&list, "%s%s (%s%s%s)", list.len ? ", " : "", d->name,
				*d->type ? d->type : "unknown", d->note ? ": " : "",
				d->note ? d->note : "");
	}
	return r < 0 ? r : err_set(EINVAL, text, list.len ? strbuf_str(&list) : "no file system");
}

struct mount_option {
	const struct device *device;
	const char *path, *options;
};

/* Parses a value of --mount, DEVICE[:PATH[:OPTIONS]]. */
static int parse_mount(struct inside_guest *g, const char *text, struct mount_option *ret)
{
	char *copy = arena_strdup(&g->arena, text);
	char *path = copy ? strchr(copy, ':') : NULL,
	     *options = path ? strchr(path + 1, ':') : NULL;

	if (!copy)
		return -ENOMEM;
	if (path)
		*path++ = '\0';
	if (options)
		*options++ = '\0';
	*ret = (struct mount_option){devices_named(g, copy), path && *path ? path : "/", options};
	if (ret->path[0] != '/')
		return err_set(EINVAL, "--mount %s: \"%s\": expected an absolute path", text, path);
	return ret->device ? 0 : mounts_err_list(g, "--mount: no such device; the disk has %s");
}

/*
 * Mounts the file systems that --mount names: the one on / first, the others in the order of the
 * options.
 */
static int mount_options(struct inside_guest *g)
{
	const struct option_list *l = &g->options.mounts;
	struct mount_option m;
	int r = 0;

	for (size_t i = 0; i < l->n && r >= 0 && g->root < 0; i++) {
		r = parse_mount(g, l->v[i], &m);
		if (r >= 0 && streq(m.path, "/"))
			r = mounts_try(g, m.device, m.options);
	}
	if (r >= 0 && g->root < 0)
		return err_set(EINVAL, "--mount: expected one of them to be mounted on /");
	for (size_t i = 0; i < l->n && r >= 0; i++) {
		r = parse_mount(g, l->v[i], &m);
		if (r >= 0 && !streq(m.path, "/"))
			r = mount_below(g, m.device, m.path, m.options);
	}
	return r;
}

struct found {
	const struct device *root;
	const char *options;
	unsigned n;
};

static int remember(
	void *data, struct inside_guest *g, const struct device *root, const char *options)
{
	struct found *f = data;

	if (f->n++ == 0)
		*f = (struct found){root, options, 1};
	return 0;
}

int mounts_make(struct inside_guest *g)
{
	const struct device *only = NULL;
	struct found f = {0};
	unsigned n = 0;

	if (g->options.mounts.n)
		return mount_options(g);
	int r = systems_each(g, remember, &f);
	if (r < 0)
		return r;
	if (f.n > 1)
		return mounts_err_list(g, "the disk has several operating systems: choose the file "
					  "system of one with --mount: %s");
	if (f.n == 1) {
		r = mounts_try(g, f.root, f.options);
		return r < 0 ? r : mounts_fstab(g);
	}
	for (size_t i = 0; i < g->ndevices; i++)
		if (device_has_files(&g->devices[i])) {
			only = &g->devices[i];
			n++;
		}
	if (n == 1)
		return mounts_try(g, only, NULL);
	return mounts_err_list(g, n ? "the disk has no operating system and several file systems: "
				      "choose with --mount: %s"
				    : "found nothing on the disk that can be mounted: %s");
}
