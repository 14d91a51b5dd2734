/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A hostile guest attacks the program that reads its virtio rings: the threads of the monitor, or
 * QEMU. So before the guest's first instruction the monitor gives up everything that it needed to
 * build the machine. In its jail it has an empty read-only root directory, no capability and no way
 * to get one, a user of its own that owns nothing, and the container's network namespace and
 * cgroup. Each thread may only make the system calls of its list (calls.c). If the kernel has
 * Landlock, a ruleset also forbids opening files, as a second barrier, and keeps the monitor from
 * connecting to anything.
 *
 * The monitor can open nothing by name in its jail. Therefore it cannot undo at the end that the
 * network interfaces are redirected to their taps. The taps end with their descriptors. The
 * redirection ends with the network namespace, or the next microVM in that namespace replaces it
 * (netsetup/net_tap.h).
 *
 * At the end the monitor kills its children. Without CAP_KILL it may kill only processes of its own
 * user. Therefore the file server, whose effective user is root, has the monitor's user as its real
 * one.
 *
 * An ordinary user's monitor is in a user namespace that caisson or podman made, and its rights are
 * those of that namespace only. All the same it gives them up. Its user is one of the ids of
 * /etc/subuid that the namespace maps. If none is mapped, it stays the user who called caisson, who
 * could send signals to the monitor in any case; the monitor can send none, because its list of
 * system calls allows them only to its children.
 */
#include "jail/jail.h"

#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <linux/securebits.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "base/sys.h"

/*
 * first user id of the range of jails' ids; a jail's id is this one plus the monitor's pid, and
 * stays below 2^31, because pids are below 2^22
 */
#define ID_BASE 0x70000000u
/*
 * limit of the monitor's descriptors: enough for 1024 streams, 64 commands with their descriptors,
 * and the devices
 */
#define FILES_MAX 4096
/* limit of the text of an id map that is read, in bytes; the kernel takes up to 340 lines */
#define MAP_MAX (64 * 1024)

uid_t jail_choose_id(const char *uid_map, pid_t monitor)
{
	const uid_t usual = ID_BASE + (uid_t)monitor;
	unsigned first, outer, count, best = 0, most = 1;
	int len = 0;

	for (const char *at = uid_map; sscanf(at, "%u %u %u%n", &first, &outer, &count, &len) == 3;
		at += len) {
		if (usual >= first && usual - first < count)
			return usual;
		if (count <= most)
			continue;
		most = count;
		best = first;
	}
	if (most < 2)
		return usual;
	return best + (most - 1) - (unsigned)monitor % (most / 2);
}

uid_t jail_id(pid_t monitor)
{
	_cleanup_strbuf_ struct strbuf map = {0};

	if (fd_read_file(AT_FDCWD, "/proc/self/uid_map", &map, MAP_MAX) < 0) {
		err_clear();
		return ID_BASE + (uid_t)monitor;
	}
	return jail_choose_id(strbuf_str(&map), monitor);
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
	/*
	 * EPERM is ignored, because a user namespace can forbid setgroups(2). EINVAL from
	 * setresgid(2) and setresuid(2) is ignored too, because a user namespace may not map the
	 * id.
	 */
	if (setgroups(0, NULL) < 0 && errno != EPERM)
		return err_sys("drop the supplementary groups");
	if (setresgid(id, id, id) < 0 && errno != EINVAL)
		return err_sys("become group %u", (unsigned)id);
	if (setresuid(id, id, id) < 0 && errno != EINVAL)
		return err_sys("become user %u", (unsigned)id);
	if (syscall(SYS_capset, &head, none) < 0)
		return err_sys("drop capabilities");
	/*
	 * The process becomes non-dumpable, because then only root may trace it or read its memory.
	 */
	if (prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_sys("forbid new privileges");
	return 0;
}

int jail_attach_root(int root)
{
	if (unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP) < 0)
		return err_sys("make new namespaces");
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

int jail_empty_root(void)
{
	_cleanup_fd_ int root = make_empty_root();
	int r = root < 0 ? root : jail_attach_root(root);

	return r < 0 ? r : path_pivot(root);
}

int jail_limit(unsigned files)
{
	const struct rlimit less = {files, files}, none = {0, 0};
	struct rlimit now;

	if (getrlimit(RLIMIT_NOFILE, &now) < 0)
		return err_sys("read the limit of open files");
	if (now.rlim_max > files && setrlimit(RLIMIT_NOFILE, &less) < 0)
		return err_sys("limit open files");
	/*
	 * The limit of core dumps is 0, because a core dump would contain the guest's memory. The
	 * limit of locked memory is 0, because the monitor needs no locked memory.
	 */
	if (setrlimit(RLIMIT_CORE, &none) < 0 || setrlimit(RLIMIT_MEMLOCK, &none) < 0)
		return err_sys("forbid core dumps and locked memory");
	return 0;
}

/*
 * The kernel's struct landlock_ruleset_attr as of ABI 6. It is declared here, because Debian 12's
 * header has an older and shorter one.
 */
struct landlock_rules {
	uint64_t fs, net, scoped;
};
#define LANDLOCK_NET_ALL 3 /* the flags of a Landlock ruleset for bind(2) and connect(2) by TCP */
/*
 * the flag of a Landlock ruleset that forbids connecting to abstract Unix sockets of other
 * processes. The flag that forbids signals to other processes is not used, because the monitor must
 * still kill its children, which are outside of its Landlock domain.
 */
#define LANDLOCK_SCOPE_ABSTRACT_UNIX 1

/*
 * Applies a Landlock ruleset that has no rules. Such a ruleset forbids everything that it handles.
 */
int jail_landlock(bool files)
{
	static const unsigned char fs_bits[] = {0, 13, 14, 15, 15, 16};
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	if (abi < 1 || (files && abi < 4))
		/*
		 * The kernel lacks Landlock, or Landlock was switched off at boot. Without it the
		 * jail lacks only its second barrier.
		 */
		return 0;
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
	 * The C library reads some files only when it first needs them: for the time zone, and, if
	 * it is glibc, for the number of processors, from which it computes the number of heaps. In
	 * the jail the C library could not open these files. So the time zone is read now, and the
	 * number of heaps is set to one.
	 */
	tzset();
#ifdef M_ARENA_MAX
	mallopt(M_ARENA_MAX, 1);
#endif
	const uid_t id = jail_id(getpid());
	int r = jail_compile(ret, children, n);
	if (r >= 0)
		r = jail_limit(FILES_MAX);
	if (r >= 0)
		r = jail_empty_root();
	if (r >= 0)
		r = jail_drop_rights(id);
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
