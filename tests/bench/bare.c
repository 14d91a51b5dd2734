/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bare ROOTFS [CGROUP2_DIR]: does only the kernel work that a container of the default config.json
 * cannot do without: clone3 into new namespaces, the same mounts, devices, masked and read-only
 * paths, pivot_root, execve of /bin/true, and wait. It reads no JSON, keeps no state and makes no
 * checks against hostile trees, so its time is the lower bound that `caisson run` is compared with.
 * If CGROUP2_DIR is given, it also makes a cgroup there, clones the process into it and removes it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(call) \
	do { \
		if ((call) < 0) { \
			fprintf(stderr, "bare: %s: %s\n", #call, strerror(errno)); \
			_exit(1); \
		} \
	} while (0)

static const struct {
	const char *type, *where, *data;
	unsigned long flags;
} mounts[] = {
	{"proc", "proc", NULL, 0},
	{"tmpfs", "dev", "mode=755,size=65536k", MS_NOSUID | MS_STRICTATIME},
	{"devpts", "dev/pts", "newinstance,ptmxmode=0666,mode=0620,gid=5", MS_NOSUID | MS_NOEXEC},
	{"tmpfs", "dev/shm", "mode=1777,size=65536k", MS_NOSUID | MS_NOEXEC | MS_NODEV},
	{"mqueue", "dev/mqueue", NULL, MS_NOSUID | MS_NOEXEC | MS_NODEV},
	{"sysfs", "sys", NULL, MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY},
	{"cgroup2", "sys/fs/cgroup", NULL,
		MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RELATIME | MS_RDONLY},
};

static const struct {
	const char *name;
	int minor, major;
} devices[] = {{"null", 3, 1}, {"zero", 5, 1}, {"full", 7, 1}, {"random", 8, 1}, {"urandom", 9, 1},
	{"tty", 0, 5}};

static const char *const masked[] = {"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys",
	"/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
	"/sys/firmware", "/proc/scsi"};
static const char *const readonly_paths[] = {
	"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};

static void make_dev(void)
{
	char path[64];

	for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
		snprintf(path, sizeof(path), "dev/%s", devices[i].name);
		CHECK(mknod(path, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor)));
		CHECK(chmod(path, 0666));
	}
	CHECK(symlink("/proc/self/fd", "dev/fd"));
	CHECK(symlink("/proc/self/fd/0", "dev/stdin"));
	CHECK(symlink("/proc/self/fd/1", "dev/stdout"));
	CHECK(symlink("/proc/self/fd/2", "dev/stderr"));
	CHECK(symlink("pts/ptmx", "dev/ptmx"));
}

static void hide(void)
{
	struct stat st;

	for (size_t i = 0; i < sizeof(masked) / sizeof(masked[0]); i++) {
		if (stat(masked[i], &st) < 0)
			continue;
		if (S_ISDIR(st.st_mode))
			CHECK(mount("tmpfs", masked[i], "tmpfs", MS_RDONLY, NULL));
		else
			CHECK(mount("/dev/null", masked[i], NULL, MS_BIND, NULL));
	}
	for (size_t i = 0; i < sizeof(readonly_paths) / sizeof(readonly_paths[0]); i++) {
		if (mount(readonly_paths[i], readonly_paths[i], NULL, MS_BIND | MS_REC, NULL) < 0)
			continue;
		CHECK(mount(NULL, readonly_paths[i], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL));
	}
}

static void child(const char *rootfs)
{
	char *args[] = {"/bin/true", NULL}, *env[] = {"PATH=/bin", NULL};

	CHECK(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL));
	CHECK(mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL));
	CHECK(chdir(rootfs));
	for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		mkdir(mounts[i].where, 0755);
		CHECK(mount(mounts[i].type, mounts[i].where, mounts[i].type, mounts[i].flags,
			mounts[i].data));
		if (i == 1)
			make_dev();
	}
	CHECK(syscall(SYS_pivot_root, ".", "."));
	CHECK(umount2(".", MNT_DETACH));
	CHECK(chdir("/"));
	hide();
	CHECK(mount(NULL, "/", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL));
	CHECK(sethostname("bare", 4));
	setsid();
	execve(args[0], args, env);
	CHECK(-1);
}

int main(int argc, char **argv)
{
	struct clone_args ca = {.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC |
					 CLONE_NEWUTS | CLONE_NEWCGROUP,
		.exit_signal = SIGCHLD};
	char cgroup[4096] = "";
	int status;
	long pid;

	if (argc < 2)
		return 2;
	if (argc > 2) {
		snprintf(cgroup, sizeof(cgroup), "%s/bare-%d", argv[2], getpid());
		CHECK(mkdir(cgroup, 0755));
		ca.flags |= CLONE_INTO_CGROUP;
		ca.cgroup = (uint64_t)open(cgroup, O_PATH | O_DIRECTORY | O_CLOEXEC);
	}
	CHECK(pid = syscall(SYS_clone3, &ca, sizeof(ca)));
	if (pid == 0)
		child(argv[1]);
	CHECK(waitpid((pid_t)pid, &status, 0));
	if (cgroup[0])
		CHECK(rmdir(cgroup));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
