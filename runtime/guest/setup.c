/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The kernel starts process 1 on its first root file system, the unpacked
 * initramfs. Every container needs pivot_root(2), which the kernel refuses on that root file
 * system. So caisson-guest mounts a tmpfs over it and makes the tmpfs the root. No file is copied
 * to the tmpfs, because caisson-guest is linked statically and needs no other file. Each module
 * file is removed after it is loaded, because the initramfs takes up memory that the container
 * could use.
 */
#include "guest/setup.h"

#include <fcntl.h>
#include <linux/module.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"

#define CONSOLE_WAIT_MS 1000
#define LIST_MAX 65536 /* how much of /modules.list is read, in bytes */
#define NEW_ROOT "/.root"

static int make_mount(const char *type, const char *where, unsigned long flags, const char *data)
{
	if (mkdir(where, 0755) < 0 && errno != EEXIST)
		return err_sys("create %s", where);
	if (mount(type, where, type, flags, data) < 0)
		return err_sys("mount %s on %s", type, where);
	return 0;
}

/*
 * Makes fd the standard input, output and error, whatever descriptors the kernel has opened for
 * process 1. If there is no console (fd < 0), uses /dev/null.
 */
static int set_streams(int fd)
{
	int r = fd_set_streams(fd, fd, fd);

	if (fd > STDERR_FILENO)
		close(fd);
	return r;
}

int setup_console(void)
{
	int r = make_mount("devtmpfs", "/dev", MS_NOSUID, "mode=0755");

	return r < 0 ? r : set_streams(open("/dev/console", O_RDWR | O_NOCTTY));
}

void setup_late_console(void)
{
	int fd = -1;

	for (int ms = 0; ms < CONSOLE_WAIT_MS && fd < 0; ms += 10) {
		fd = open("/dev/console", O_RDWR | O_NOCTTY);
		if (fd < 0)
			nanosleep(&(struct timespec){.tv_nsec = 10 * 1000000}, NULL);
	}
	if (fd >= 0)
		(void)set_streams(fd);
}

static int load_module(const char *path)
{
	const char *suffix = strrchr(path, '.');
	int flags = suffix && !streq(suffix, ".ko") ? MODULE_INIT_COMPRESSED_FILE : 0;
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_sys("open the module %s", path);
	if (syscall(SYS_finit_module, fd, "", flags) < 0 && errno != EEXIST)
		return err_sys("load the module %s", path);
	unlink(path);
	return 0;
}

int setup_modules(void)
{
	_cleanup_strbuf_ struct strbuf list = {0};
	char *save = NULL;

	if (access("/modules.list", F_OK) < 0)
		return 0; /* If /modules.list is missing, the kernel has all drivers built in. */
	int r = fd_read_file(AT_FDCWD, "/modules.list", &list, LIST_MAX);
	if (r < 0)
		return r;
	for (char *path = list.s ? strtok_r(list.s, "\n", &save) : NULL; path;
		path = strtok_r(NULL, "\n", &save))
		if (load_module(path) < 0)
			log_warn("%s", err_msg());
	err_clear();
	return 0;
}

void setup_memory(void)
{
	/* The kernel has no such file if it cannot take further memory. */
	if (fd_write_file(AT_FDCWD, "/sys/devices/system/memory/auto_online_blocks",
		    "online_movable") < 0)
		err_clear();
}

static int enter_new_root(void)
{
	int r = make_mount("tmpfs", NEW_ROOT, 0, "mode=0755");

	if (r < 0)
		return r;
	if (mkdir(NEW_ROOT "/dev", 0755) < 0)
		return err_sys("create /dev");
	if (mount("/dev", NEW_ROOT "/dev", NULL, MS_MOVE, NULL) < 0)
		return err_sys("move /dev to the new root");
	if (chdir(NEW_ROOT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
		chdir("/") < 0)
		return err_sys("enter the new root");
	return 0;
}

int setup_root(void)
{
	static const struct {
		const char *type, *where;
		unsigned long flags;
		const char *data;
	} mounts[] = {
		{"proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
		{"sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
		{"devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=0620,gid=5,ptmxmode=0666"},
		{"tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755"},
		{"cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
	};

	int r = enter_new_root();
	for (size_t i = 0; i < ARRAY_SIZE(mounts) && r >= 0; i++)
		r = make_mount(mounts[i].type, mounts[i].where, mounts[i].flags, mounts[i].data);
	return r;
}

/*
 * Sets the same limits as systemd. fs.nr_open must be raised, because the kernel would refuse a
 * limit of open files in config.json that is above fs.nr_open.
 */
void setup_limits(void)
{
	static const char *const sysctls[][2] = {
		{"/proc/sys/fs/nr_open", "1073741816"},
		{"/proc/sys/fs/file-max", "9223372036854775807"},
		{"/proc/sys/kernel/pid_max", "4194304"},
	};
	const struct rlimit files = {.rlim_cur = 1024, .rlim_max = 524288},
			    core = {.rlim_cur = 0, .rlim_max = RLIM_INFINITY};

	for (size_t i = 0; i < ARRAY_SIZE(sysctls); i++)
		if (fd_write_file(AT_FDCWD, sysctls[i][0], sysctls[i][1]) < 0)
			log_warn("%s", err_msg());
	if (setrlimit(RLIMIT_NOFILE, &files) < 0 || setrlimit(RLIMIT_CORE, &core) < 0)
		log_warn("set resource limits: %s", strerror(errno));
	err_clear();
}
