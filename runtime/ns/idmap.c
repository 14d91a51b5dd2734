/* SPDX-License-Identifier: Apache-2.0 */
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/subids.h"
#include "ns/ns.h"

int ns_open(enum spec_ns type, const char *path)
{
	struct statfs fs;

	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return err_set(errno == ENOENT ? ENXIO : errno,
			"cannot open the %s namespace %s: %s", plan_ns_name(type), path,
			errno == ENOENT ? "it does not exist" : strerror(errno));
	if (fstatfs(fd, &fs) < 0)
		return err_sys("stat %s", path);
	if (fs.f_type != NSFS_MAGIC)
		return err_set(EINVAL,
			"%s is not a namespace: expected a file such as /proc/PID/ns/%s", path,
			plan_ns_name(type));
	int found = ioctl(fd, NS_GET_NSTYPE);
	if (found < 0)
		return err_sys("get the type of namespace %s", path);
	if ((uint64_t)(unsigned)found != plan_ns_flag(type))
		return err_set(EINVAL, "%s is not a %s namespace", path, plan_ns_name(type));
	return take_fd(&fd);
}

bool ns_is_own(enum spec_ns type, int fd)
{
	static const char *const files[SPEC_NS_COUNT] = {
		"user", "pid", "net", "mnt", "ipc", "uts", "cgroup", "time"};
	struct stat own, other;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/ns/%s", files[type]);
	return stat(path, &own) == 0 && fstat(fd, &other) == 0 && own.st_dev == other.st_dev &&
	       own.st_ino == other.st_ino;
}

static int write_map(pid_t pid, const char *file, const struct spec_id_maps *m)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	char path[64];

	int r = spec_id_maps_text(m, &text);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	_cleanup_fd_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return err_sys("open %s", path);
	if (write(fd, strbuf_str(&text), text.len) < 0)
		return -errno;
	return 0;
}

static int deny_setgroups(pid_t pid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/setgroups", pid);
	return fd_write_file(AT_FDCWD, path, "deny");
}

/* Executes newuidmap or newgidmap, which check the ranges against /etc/subuid and /etc/subgid. */
static int run_helper(const char *helper, pid_t pid, const struct spec_id_maps *m)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	int r = spec_id_maps_text(m, &text);

	return r < 0 ? r : subids_write_map(helper, pid, strbuf_str(&text));
}

static bool is_own_id(const struct spec_id_maps *m, uint32_t id)
{
	return m->n == 1 && m->v[0].size == 1 && m->v[0].host_id == id;
}

static int map_error(int r, const char *field, const struct spec_id_maps *m)
{
	errno = -r;
	return err_sys("%s: the kernel refused the map of %zu entries (overlapping ranges, more "
		       "than 340 of them, or "
		       "ids that this user namespace does not have)",
		field, m->n);
}

int ns_id_map(pid_t pid, const struct spec_id_maps *uid, const struct spec_id_maps *gid)
{
	bool root = geteuid() == 0;
	int r;

	if (root || is_own_id(uid, geteuid())) {
		r = write_map(pid, "uid_map", uid);
		if (r < 0)
			return map_error(r, "linux.uidMappings", uid);
	} else {
		r = run_helper("newuidmap", pid, uid);
		if (r < 0)
			return r;
	}
	if (root || is_own_id(gid, getegid())) {
		/*
		 * An ordinary user may write a group map only after giving up setgroups(2) in the
		 * user namespace (CVE-2014-8989).
		 */
		r = root ? 0 : deny_setgroups(pid);
		if (r >= 0)
			r = write_map(pid, "gid_map", gid);
		return r < 0 ? map_error(r, "linux.gidMappings", gid) : 0;
	}
	return run_helper("newgidmap", pid, gid);
}
