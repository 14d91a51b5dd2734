/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The guest attacks whoever reads its rings: the threads of this process, or QEMU. So before the
 * first of its instructions runs, this process loses what it needed to build the machine. It has a
 * root directory that is empty and can't be written to, no capability and no way to get one, a user
 * of its own that owns nothing, the container's network namespace and cgroup, and each of its
 * threads a list of system calls (jail_calls.c). Landlock says the same of files once more, where
 * the kernel has it, and keeps it from connecting to anybody.
 *
 * It opens nothing by name any more. What that costs: the redirection of the network interfaces to
 * their taps can't be taken back at the end. The taps go with their descriptors, the redirection
 * with the network namespace or with the next microVM in it, see net_tap.h.
 *
 * Children are killed at the end, which without CAP_KILL takes a user in common: so the file
 * server, whose effective user is root, has ours as its real one.
 */
#include "jail/jail.h"

#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <linux/securebits.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

#include "base/path.h"
#include "base/sys.h"

#define ID_BASE 0x70000000u /* to 0x7fffffff; pids are below 2^22 */
#define FILES_MAX 4096      /* 1024 streams, 64 commands with their descriptors, the devices' */

int jail_leave_streams(int errors)
{
	_cleanup_fd_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 ||
		dup2(errors < 0 ? null : errors, 2) < 0)
		return err_sys("redirect its standard streams");
	return 0;
}

uid_t jail_id(pid_t monitor)
{
	return ID_BASE + (uid_t)monitor;
}

static int lock_securebits(void)
{
	return prctl(PR_SET_SECUREBITS,
		SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
			SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
			SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED);
}

int jail_drop_rights(uid_t id)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {0};

	if (lock_securebits() < 0)
		return err_sys("lock the securebits");
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return err_sys("clear the ambient capabilities");
	for (unsigned long cap = 0; cap < 64; cap++)
		if (prctl(PR_CAPBSET_DROP, cap) < 0 && errno != EINVAL)
			return err_sys("drop capability %lu", cap);
	/* EPERM: a user namespace that forbids it; EINVAL: one without the number. */
	if (setgroups(0, NULL) < 0 && errno != EPERM)
		return err_sys("drop the supplementary groups");
	if ((setresgid(id, id, id) < 0 || setresuid(id, id, id) < 0) && errno != EINVAL)
		return err_sys("become user %u", (unsigned)id);
	if (syscall(SYS_capset, &head, none) < 0)
		return err_sys("drop capabilities");
	/* Nobody but root may look into this process. */
	if (prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_sys("no new privileges");
	return 0;
}

int jail_attach_root(int root)
{
	if (unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP) < 0)
		return err_sys("new namespaces");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_sys("make the mounts private");
	if (move_mount(root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_sys("mount the new root");
	return 0;
}

static int make_empty_root(void)
{
	_cleanup_fd_ int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);

	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0555", 0) < 0 ||
		fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", "1", 0) < 0 ||
		fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return err_sys("make an empty root");
	int root = fsmount(fs, FSMOUNT_CLOEXEC,
		MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	return root < 0 ? err_sys("mount an empty root") : root;
}

int jail_limit(unsigned files)
{
	const struct rlimit less = {files, files}, none = {0, 0};
	struct rlimit now;

	if (getrlimit(RLIMIT_NOFILE, &now) < 0)
		return err_sys("read the limit of open files");
	if (now.rlim_max > files && setrlimit(RLIMIT_NOFILE, &less) < 0)
		return err_sys("limit open files");
	/* A core would hold the guest's memory, and have nowhere to go. */
	if (setrlimit(RLIMIT_CORE, &none) < 0 || setrlimit(RLIMIT_MEMLOCK, &none) < 0)
		return err_sys("no core dumps, no locked memory");
	return 0;
}

/* As the kernel has it from its ABI 6 on; Debian 12's header is older. */
struct landlock_rules {
	uint64_t fs, net, scoped;
};
#define LANDLOCK_NET_ALL 3             /* bind and connect by TCP */
#define LANDLOCK_SCOPE_ABSTRACT_UNIX 1 /* not signals: our children are outside */

/* A ruleset without a rule: of all that it handles nothing is allowed. */
int jail_landlock(bool files)
{
	static const unsigned char fs_bits[] = {0, 13, 14, 15, 15, 16};
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	if (abi < 1 || (files && abi < 4))
		return 0; /* a kernel without it, or switched off at boot */
	unsigned bits = fs_bits[(size_t)abi < sizeof(fs_bits) ? (size_t)abi : sizeof(fs_bits) - 1];
	const struct landlock_rules r = {.fs = files ? 0 : (UINT64_C(1) << bits) - 1,
		.net = abi >= 4 ? LANDLOCK_NET_ALL : 0,
		.scoped = abi >= 6 ? LANDLOCK_SCOPE_ABSTRACT_UNIX : 0};
	_cleanup_fd_ int fd = (int)syscall(SYS_landlock_create_ruleset, &r, sizeof(r), 0);
	if (fd < 0)
		return err_sys("make a Landlock ruleset (ABI %ld)", abi);
	return syscall(SYS_landlock_restrict_self, fd, 0) < 0 ? err_sys("enter Landlock") : 0;
}

int jail_enter(struct jail *ret, const pid_t *children, size_t n)
{
	/*
	 * What the C library would later look for in files: the time zone; the number of
	 * processors, for as many heaps, of which one will do.
	 */
	tzset();
	mallopt(M_ARENA_MAX, 1);
	int r = jail_compile(ret, children, n);
	if (r >= 0)
		r = jail_limit(FILES_MAX);
	_cleanup_fd_ int root = r < 0 ? -EBADF : make_empty_root();
	if (r >= 0)
		r = root < 0 ? root : jail_attach_root(root);
	if (r >= 0)
		r = path_pivot(root);
	if (r >= 0)
		r = jail_drop_rights(jail_id(getpid()));
	if (r >= 0)
		r = jail_landlock(false);
	return r < 0 ? err_ctx(r, "the monitor's jail") : 0;
}

void jail_release(struct jail *j)
{
	for (size_t i = 0; i < JAIL_THREADS; i++)
		free(j->filters[i].filter);
	*j = (struct jail){0};
}
