/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the operating systems on the disk, and reads files of an operating system that is mounted
 * on SYSROOT.
 */
#include <elf.h>
#include <endian.h>
#include <limits.h>

#include "base/path.h"
#include "inside/inside.h"

/*
 * Mount options of btrfs that select the subvolume in which a distribution has its root; NULL: the
 * default subvolume.
 */
static const char *const subvolumes[] = {
	NULL, "subvol=@", "subvol=root", "subvol=@rootfs", "subvol=@/.snapshots/1/snapshot"};

static bool is_there(const struct inside_guest *g, const char *path)
{
	_cleanup_fd_ int fd = path_open(g->root, path, O_PATH);

	err_clear();
	return fd >= 0;
}

bool system_is_here(const struct inside_guest *g)
{
	if (is_there(g, "/etc/os-release") || is_there(g, "/usr/lib/os-release"))
		return true;
	return is_there(g, "/etc/fstab") && is_there(g, "/etc/passwd") &&
	       (is_there(g, "/bin") || is_there(g, "/usr/bin"));
}

int systems_each(struct inside_guest *g,
	int (*f)(
		void *data, struct inside_guest *g, const struct device *root, const char *options),
	void *data)
{
	int r = 0;

	for (size_t i = 0; i < g->ndevices && r >= 0; i++) {
		const struct device *d = &g->devices[i];
		size_t n = streq(d->type, "btrfs") ? ARRAY_SIZE(subvolumes) : 1;
		bool found = false;
		if (!device_has_files(d))
			continue;
		for (size_t k = 0; k < n && r >= 0 && !found; k++) {
			/*
			 * A file system that cannot be mounted is skipped without an error, because
			 * caisson cannot find out whether it has an operating system.
			 */
			if (mounts_try(g, d, subvolumes[k]) < 0)
				err_clear();
			else if ((found = system_is_here(g)))
				r = f(data, g, d, subvolumes[k]);
			mounts_clear(g);
		}
	}
	return r;
}

int system_read(const struct inside_guest *g, const char *path, struct strbuf *ret, size_t max)
{
	_cleanup_fd_ int fd = path_open(g->root, path, O_RDONLY | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(EINVAL, "%s: expected a file", path);
	return fd_read_all(fd, ret, max, path);
}

const char *system_variable(struct arena *a, const char *text, const char *name)
{
	size_t len = strlen(name);

	for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
		if (strncmp(line, name, len) != 0 || line[len] != '=')
			continue;
		const char *value = line + len + 1;
		size_t n = strcspn(value, "\n");
		if (n >= 2 && (*value == '"' || *value == '\'') && value[n - 1] == *value) {
			value++;
			n -= 2;
		}
		return arena_strndup(a, value, n);
	}
	return NULL;
}

const char *system_arch(struct inside_guest *g)
{
	static const struct {
		uint16_t machine;
		const char *name;
	} names[] = {{EM_X86_64, "x86_64"}, {EM_386, "i386"}, {EM_AARCH64, "aarch64"},
		{EM_ARM, "arm"}, {EM_PPC64, "ppc64"}, {EM_RISCV, "riscv64"}, {EM_S390, "s390x"}};
	static const char *const programs[] = {
		"/bin/sh", "/bin/bash", "/bin/ls", "/bin/busybox", "/sbin/init", "/usr/bin/env"};
	Elf64_Ehdr h;

	for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
		_cleanup_fd_ int fd = path_open(g->root, programs[i], O_RDONLY | O_NONBLOCK);
		err_clear();
		if (fd < 0 || pread(fd, &h, sizeof(h), 0) != sizeof(h) ||
			memcmp(h.e_ident, ELFMAG, SELFMAG) != 0)
			continue;
		uint16_t machine = h.e_ident[EI_DATA] == ELFDATA2MSB ? be16toh(h.e_machine)
								     : le16toh(h.e_machine);
		for (size_t k = 0; k < ARRAY_SIZE(names); k++)
			if (names[k].machine == machine)
				return names[k].name;
	}
	return NULL;
}
