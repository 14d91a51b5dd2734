/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The /init of the guest in test_guest_kernel.py: it loads the modules that /modules.list names,
 * prints what the kernel can do then, and ends. It is a static program; its standard output is the
 * console.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/reboot.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void load_modules(void)
{
	char line[256];
	FILE *f = fopen("/modules.list", "re");

	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		int fd = open(line, O_RDONLY | O_CLOEXEC);
		long r = fd < 0 ? -1 : syscall(SYS_finit_module, fd, "", 0);
		printf("module %s %s\n", line, r < 0 ? strerror(errno) : "loaded");
		close(fd);
	}
	if (f)
		fclose(f);
}

static void list(const char *what, const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.')
			printf("%s %s\n", what, e->d_name);
	if (d)
		closedir(d);
}

static void print_file(const char *what, const char *path)
{
	char line[512];
	FILE *f = fopen(path, "re");

	while (f && fgets(line, sizeof(line), f))
		printf("%s %s%s", what, line, strchr(line, '\n') ? "" : "\n");
	if (f)
		fclose(f);
}

static void list_bound(void)
{
	char path[300], target[256];
	DIR *d = opendir("/sys/bus/virtio/devices");
	struct dirent *e;

	while (d && (e = readdir(d))) {
		snprintf(path, sizeof(path), "/sys/bus/virtio/devices/%s/driver", e->d_name);
		ssize_t n = readlink(path, target, sizeof(target) - 1);
		if (n > 0) {
			target[n] = '\0';
			printf("bound %s\n", strrchr(target, '/') + 1);
		}
	}
	if (d)
		closedir(d);
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, NULL);
	print_file("uptime", "/proc/uptime");
	load_modules();
	list("driver", "/sys/bus/virtio/drivers");
	list_bound();
	list("namespace", "/proc/self/ns");
	print_file("filesystem", "/proc/filesystems");
	print_file("controllers", "/sys/fs/cgroup/cgroup.controllers");
	print_file("release", "/proc/sys/kernel/osrelease");
	print_file("pid_max", "/proc/sys/kernel/pid_max");
	printf("done\n");
	syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_RESTART,
		NULL);
	return 1;
}
