/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements the command `boot`, which finds what the operating system on the disk boots. The
 * command runs in the guest of a microVM and writes a tar to standard output: the kernel, the
 * initramfs, the kernel's command line, and the name of the user whom cloud-init makes. `caisson
 * run --disk` unpacks the tar on the host. The command looks for the configurations of boot loaders
 * in this order: entries of the boot loader specification, grub.cfg, extlinux.conf. If the disk has
 * none of these, the command takes the newest kernel in /boot.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/path.h"
#include "inside/boot.h"
#include "inside/boot_config.h"
#include "inside/inside.h"

#define CONFIG_MAX (1u << 20)
#define WORK "/tmp/boot" /* directory in the guest in which `boot` gathers the files for the tar */

struct finder {
	struct inside_guest *g;
	int work;
	bool found;
	/*
	 * name of an operating system on the disk; if it has no kernel, the error message names it
	 */
	const char *seen;
};

/* --- paths in configurations, which boot loaders write as their own file system has them --- */

/* Opens the file of the disk that a boot loader's configuration calls `path`. */
static int open_named(struct inside_guest *g, const char *path)
{
	static const char *const tops[] = {"", "/boot", "/efi", "/boot/efi"};
	const char *end = path[0] == '(' ? strchr(path, ')') : NULL;

	path = end ? end + 1 : path;
	/*
	 * On btrfs the first component of the path may be the name of a subvolume. Since the
	 * subvolume is mounted as the root, the path is also tried without it.
	 */
	const char *below = *path ? strchr(path + 1, '/') : NULL;
	for (size_t i = 0; i < 2 * ARRAY_SIZE(tops); i++) {
		const char *name = i < ARRAY_SIZE(tops) ? path : below;
		const char *full =
			name ? arena_printf(&g->arena, "%s/%s", tops[i % ARRAY_SIZE(tops)], name)
			     : NULL;
		int fd = full ? path_open(g->root, full, O_RDONLY | O_NONBLOCK) : -ENOENT;
		struct stat st;
		if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
			return fd;
		fd_close(&fd);
		err_clear();
	}
	return -ENOENT;
}

static int open_kernel(struct finder *f, const struct boot_entry *e)
{
	return e->kernel ? open_named(f->g, e->kernel) : -ENOENT;
}

/*
 * Reads the configuration of a boot loader from the file `path`. Returns a descriptor of the kernel
 * that it names, or -ENOENT.
 */
static int try_file(struct finder *f, const char *path,
	void (*parse)(struct arena *a, const char *text, struct boot_entry *ret),
	struct boot_entry *ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};

	*ret = (struct boot_entry){0};
	if (system_read(f->g, path, &text, CONFIG_MAX) < 0) {
		err_clear();
		return -ENOENT;
	}
	parse(&f->g->arena, strbuf_str(&text), ret);
	return open_kernel(f, ret);
}

/*
 * Looks for a kernel in the entries of the boot loader specification, the entry with the newest
 * version first.
 */
static int try_bls(struct finder *f, struct boot_entry *ret)
{
	static const char *const dirs[] = {
		"/boot/loader/entries", "/efi/loader/entries", "/boot/efi/loader/entries"};
	int fd = -ENOENT;

	for (size_t i = 0; i < ARRAY_SIZE(dirs) && fd < 0; i++) {
		struct dirent **list;
		_cleanup_fd_ int dir = path_open(f->g->root, dirs[i], O_RDONLY | O_DIRECTORY);
		int n = dir < 0 ? -1 : scandirat(dir, ".", &list, NULL, versionsort);
		err_clear();
		for (int k = n - 1; k >= 0; k--) {
			const char *name = list[k]->d_name, *dot = strrchr(name, '.');
			const char *path = arena_printf(&f->g->arena, "%s/%s", dirs[i], name);
			if (fd < 0 && dot && streq(dot, ".conf") && !strstr(name, "rescue") && path)
				fd = try_file(f, path, boot_parse_bls, ret);
			free(list[k]);
		}
		if (n >= 0)
			free(list);
	}
	return fd;
}

/* Takes the newest kernel in /boot, and the initramfs in /boot whose name has the same version. */
static int try_newest(struct finder *f, struct boot_entry *ret)
{
	static const char *const kinds[] = {"vmlinuz-", "vmlinux-", "bzImage-"};
	static const char *const initrds[] = {"/boot/initrd.img-%s", "/boot/initramfs-%s.img",
		"/boot/initramfs-%s", "/boot/initrd-%s"};
	_cleanup_fd_ int dir = path_open(f->g->root, "/boot", O_RDONLY | O_DIRECTORY);
	struct dirent **list;
	int fd = -ENOENT, n = dir < 0 ? -1 : scandirat(dir, ".", &list, NULL, versionsort);
	const char *version = NULL;

	err_clear();
	*ret = (struct boot_entry){0};
	for (int k = n - 1; k >= 0; k--) {
		const char *name = list[k]->d_name;
		for (size_t i = 0; i < ARRAY_SIZE(kinds) && fd < 0; i++) {
			if (!str_starts(name, kinds[i]) || strstr(name, "rescue"))
				continue;
			version = arena_strdup(&f->g->arena, name + strlen(kinds[i]));
			ret->kernel = arena_printf(&f->g->arena, "/boot/%s", name);
			fd = open_kernel(f, ret);
		}
		free(list[k]);
	}
	if (n >= 0)
		free(list);
	for (size_t i = 0; version && fd >= 0 && i < ARRAY_SIZE(initrds) && !ret->ninitrds; i++) {
		_cleanup_strbuf_ struct strbuf path = {0};
		const char *at = strchr(initrds[i], '%');
		if (strbuf_addf(&path, "%.*s%s%s", (int)(at - initrds[i]), initrds[i], version,
			    at + 2) < 0)
			continue;
		_cleanup_fd_ int there = open_named(f->g, strbuf_str(&path));
		if (there >= 0)
			ret->initrds[ret->ninitrds++] =
				arena_strdup(&f->g->arena, strbuf_str(&path));
	}
	return fd;
}

static int find_entry(struct finder *f, struct boot_entry *ret)
{
	static const char *const grub[] = {"/boot/grub/grub.cfg", "/boot/grub2/grub.cfg",
		"/boot/efi/EFI/debian/grub.cfg", "/boot/efi/EFI/BOOT/grub.cfg"};
	static const char *const extlinux[] = {"/boot/extlinux.conf",
		"/boot/extlinux/extlinux.conf", "/boot/syslinux/syslinux.cfg"};
	int fd = try_bls(f, ret);

	for (size_t i = 0; i < ARRAY_SIZE(grub) && fd < 0; i++)
		fd = try_file(f, grub[i], boot_parse_grub, ret);
	for (size_t i = 0; i < ARRAY_SIZE(extlinux) && fd < 0; i++)
		fd = try_file(f, extlinux[i], boot_parse_extlinux, ret);
	return fd >= 0 ? fd : try_newest(f, ret);
}

/* --- writing the files that are sent to the host --- */

/*
 * Appends a file of the disk to the file `name` in the directory WORK, at a multiple of four bytes,
 * as the kernel expects it of several initramfs files.
 */
static int gather(struct finder *f, int from, const char *name)
{
	_cleanup_fd_ int to =
		openat(f->work, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	struct stat st;
	char buf[65536];
	ssize_t n;

	if (to < 0 || fstat(to, &st) < 0)
		return err_sys("create %s", name);
	int r = fd_write_all(to, "\0\0\0", (size_t)(-st.st_size & 3));
	while (r >= 0 && (n = read(from, buf, sizeof(buf))) != 0)
		r = n < 0 ? -errno : fd_write_all(to, buf, (size_t)n);
	return r < 0 ? err_set(-r, "take the disk's %s: %s%s", name, err_text(-r),
			       r == -ENOSPC ? ": give the microVM that looks into the disk more "
					      "memory"
					    : "")
		     : 0;
}

static int gather_initrds(struct finder *f, const struct boot_entry *e)
{
	for (size_t i = 0; i < e->ninitrds; i++) {
		_cleanup_fd_ int fd = open_named(f->g, e->initrds[i]);
		char name[256];
		str_clean(name, sizeof(name), e->initrds[i], strlen(e->initrds[i]));
		if (fd < 0)
			return err_set(ENXIO,
				"the disk's boot loader names the initramfs %s, which is not there",
				name);
		int r = gather(f, fd, BOOT_INITRD);
		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * Returns the value of the variable kernelopts in GRUB's environment file, because Fedora's boot
 * loader entries refer to that variable.
 */
static const char *grub_options(struct inside_guest *g)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	const char *value = system_read(g, "/boot/grub2/grubenv", &text, CONFIG_MAX) < 0
				    ? NULL
				    : system_variable(&g->arena, strbuf_str(&text), "kernelopts");

	err_clear();
	return value ? value : "";
}

/*
 * Writes the kernel's command line: the words of the boot loader's entry, except for words with
 * variables that only the boot loader knows, and the word root= if the entry has none.
 */
static int write_cmdline(struct finder *f, const struct boot_entry *e, const struct device *root,
	const char *root_options)
{
	_cleanup_strbuf_ struct strbuf line = {0};
	char *words = arena_strdup(&f->g->arena, e->options ? e->options : ""), *word;
	bool has_root = false;
	int r = words ? 0 : -ENOMEM;

	while (r >= 0 && (word = boot_cut_word(&words))) {
		if (streq(word, "$kernelopts"))
			word = (char *)grub_options(f->g);
		else if (strchr(word, '$') || str_starts(word, "BOOT_IMAGE="))
			continue;
		has_root |= strstr(word, "root=") == word || strstr(word, " root=");
		if (*word)
			r = strbuf_addf(&line, "%s%s", line.len ? " " : "", word);
	}
	if (r >= 0 && !has_root)
		r = strbuf_addf(&line, "%sroot=UUID=%s ro%s%s", line.len ? " " : "", root->uuid,
			root_options ? " rootflags=" : "", root_options ? root_options : "");
	for (size_t i = 0; r >= 0 && i < line.len; i++)
		if (line.s[i] < ' ' || line.s[i] > '~')
			line.s[i] = '?';
	return r < 0 ? r
		     : fd_write_new_file(f->work, BOOT_CMDLINE, strbuf_str(&line), line.len, 0600);
}

/*
 * Writes the name of the user to whom cloud-init gives the ssh keys: system_info.default_user.name
 * in the disk's cloud.cfg.
 */
static int write_user(struct finder *f)
{
	static const char *const name[] = {"name:", NULL};
	_cleanup_strbuf_ struct strbuf text = {0};
	const char *user = NULL;

	if (system_read(f->g, "/etc/cloud/cloud.cfg", &text, CONFIG_MAX) < 0) {
		err_clear();
		return 0;
	}
	for (const char *at = strstr(strbuf_str(&text), "default_user:"); at && *at && !user;
		at = boot_next_line(at)) {
		char *line = boot_take_line(&f->g->arena, at),
		     *value = line ? boot_value_of(line, name) : NULL;
		user = value ? boot_cut_word(&value) : NULL;
	}
	return user ? fd_write_new_file(f->work, BOOT_USER, user, strlen(user), 0600) : 0;
}

static const char *system_title(struct inside_guest *g)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	const char *title = NULL;

	if (system_read(g, "/etc/os-release", &text, 64u << 10) >= 0)
		title = system_variable(&g->arena, strbuf_str(&text), "PRETTY_NAME");
	err_clear();
	return title ? title : "an operating system";
}

static int try_system(
	void *data, struct inside_guest *g, const struct device *root, const char *options)
{
	struct finder *f = data;
	struct boot_entry e;

	if (f->found)
		return 0;
	/*
	 * The file systems that fstab names are mounted, because /boot may be one of them. An error
	 * is dropped, because the other file systems do not matter for booting.
	 */
	if (mounts_fstab(g) < 0)
		err_clear();
	_cleanup_fd_ int kernel = find_entry(f, &e);
	f->seen = system_title(g);
	if (kernel < 0)
		return 0;
	f->found = true;
	int r = gather(f, kernel, BOOT_KERNEL);
	if (r >= 0)
		r = gather_initrds(f, &e);
	if (r >= 0)
		r = write_cmdline(f, &e, root, options);
	return r < 0 ? r : write_user(f);
}

static int send_files(const struct finder *f)
{
	static const char *const names[] = {BOOT_KERNEL, BOOT_INITRD, BOOT_CMDLINE, BOOT_USER};
	struct pack *p = NULL;
	int r = pack_start(&p, STDOUT_FILENO);

	for (size_t i = 0; i < ARRAY_SIZE(names) && r >= 0; i++)
		if (faccessat(f->work, names[i], F_OK, 0) == 0)
			r = pack_add(p, f->work, names[i], NULL);
	if (r >= 0)
		r = pack_finish(p);
	pack_free(p);
	return r;
}

int guest_boot(struct inside_guest *g, int argc, char **argv)
{
	struct finder f = {.g = g};
	char title[256];

	if (mkdir(WORK, 0700) < 0)
		return err_sys("create " WORK);
	_cleanup_fd_ int work = open(WORK, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f.work = work;
	int r = work < 0 ? err_sys("open " WORK) : systems_each(g, try_system, &f);
	if (r < 0)
		return r;
	if (f.found)
		return send_files(&f);
	if (!f.seen)
		return mounts_err_list(g, "--disk: found no operating system on the disk: %s");
	str_clean(title, sizeof(title), f.seen, strlen(f.seen));
	return err_set(ENXIO,
		"--disk: found %s, but no kernel that it boots: there is none in /boot, and none "
		"that a loader entry, grub.cfg or extlinux.conf names: give one with --kernel FILE "
		"and --initrd FILE",
		title);
}
