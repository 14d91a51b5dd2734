/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps device programs from one container to the next, because the kernel's verifier needs more
 * time for one program than all other work on a cgroup takes, and most containers have the same
 * program.
 *
 * Theory of operation. A program is pinned in the BPF file system, which systemd mounts at
 * /sys/fs/bpf. Its file name is a hash of its instructions. The directory belongs to root and is
 * closed to others, and caisson uses a file in it only if the file is a device program that root
 * has loaded under caisson's name. Only root of the host can load programs, and root could do
 * everything that a forged program could. On a host without the BPF file system each container
 * loads its program anew. At most PINS_MAX programs are kept; each takes some kilobytes of memory
 * until the next boot.
 */
#include <dirent.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "cgroups/cg_internal.h"

#define BPF_MOUNT "/sys/fs/bpf"
#define PIN_DIR BPF_MOUNT "/caisson"
#define PINS_MAX 16

static uint64_t hash(const void *data, size_t len, uint64_t h)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < len; i++)
		/* multiplies by the prime of the FNV-1a hash function */
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	return h;
}

/*
 * Opens the directory of pinned programs; if `make` is set, makes the directory if it is missing.
 * Returns -errno without a message if the host has no BPF file system.
 */
static int open_pins(bool make)
{
	struct statfs fs;
	struct stat st;

	if (geteuid() != 0 || statfs(BPF_MOUNT, &fs) < 0 ||
		(unsigned long)fs.f_type != BPF_FS_MAGIC)
		return -EOPNOTSUPP;
	if (make && mkdir(PIN_DIR, 0700) < 0 && errno != EEXIST)
		return -errno;
	_cleanup_fd_ int dir = open(PIN_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || fstat(dir, &st) < 0)
		return -errno;
	if (st.st_uid != 0 || (st.st_mode & 077))
		return -EPERM;
	return take_fd(&dir);
}

static bool has_room(int dir)
{
	int n = 0;
	int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = again < 0 ? NULL : fdopendir(again);

	if (!d) {
		fd_close(&again);
		return false;
	}
	while (readdir(d))
		n++;
	closedir(d);
	return n < PINS_MAX + 2; /* the link count includes "." and ".." */
}

static void name_pin(const struct bpf_insn *insns, size_t n, char *ret, size_t size)
{
	uint64_t a = hash(insns, n * sizeof(*insns), UINT64_C(0xcbf29ce484222325));
	uint64_t b = hash(insns, n * sizeof(*insns), a);

	snprintf(ret, size, PIN_DIR "/dev_%016llx%016llx", (unsigned long long)a,
		(unsigned long long)b);
}

int cg_pin_find(const struct bpf_insn *insns, size_t n)
{
	char path[80];
	union bpf_attr attr = {.pathname = (uint64_t)(uintptr_t)path};
	_cleanup_fd_ int dir = open_pins(false);

	if (dir < 0)
		return dir;
	name_pin(insns, n, path, sizeof(path));
	_cleanup_fd_ int fd = cg_bpf(BPF_OBJ_GET, &attr);
	if (fd >= 0 && !cg_bpf_is_ours(fd, NULL))
		return -EEXIST;
	return fd < 0 ? fd : take_fd(&fd);
}

void cg_pin_keep(const struct bpf_insn *insns, size_t n, int fd)
{
	char path[80];
	union bpf_attr attr = {.pathname = (uint64_t)(uintptr_t)path, .bpf_fd = (uint32_t)fd};
	_cleanup_fd_ int dir = open_pins(true);

	if (dir < 0 || !has_room(dir))
		return;
	name_pin(insns, n, path, sizeof(path));
	(void)cg_bpf(BPF_OBJ_PIN, &attr);
}
