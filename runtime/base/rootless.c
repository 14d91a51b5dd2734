/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. newuidmap(1) has to run in the parent user namespace, and unshare(2) moves
 * the whole process into the new one. So a child process is made first. The child waits until this
 * process has called unshare(2), runs newuidmap(1) and newgidmap(1) for this process, and ends. A
 * byte in a pipe tells the child to begin; if this process dies before, the child reads the end of
 * the pipe.
 */
#include "base/rootless.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/hash.h"
#include "base/process.h"
#include "base/subids.h"

#define MAP_MAX (64 * 1024) /* largest size in bytes of an id map's text */
#define ALL_IDS "0 0 4294967295\n"

static const char no_ranges[] =
	"this user has no range of ids in " SUBIDS_USERS " and " SUBIDS_GROUPS
	" (usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER)";
static const char no_ranges_elsewhere[] = SUBIDS_PROGRAM
	" of the package uidmap names no ranges of ids for this user (another source "
	"than files is named by \"subid\" in /etc/nsswitch.conf)";
static const char not_mapped[] =
	"newuidmap and newgidmap of the package uidmap did not map this user's ranges of ids";
static const char outer_has_one[] = "this user namespace maps one id only";

struct maps {
	struct strbuf users, groups;
};

static void release_maps(struct maps *m)
{
	strbuf_release(&m->users);
	strbuf_release(&m->groups);
}

/* Reads the maps that the ranges of the user allow. Returns 1, or 0 if the user has no ranges. */
static int find_ranges(struct maps *m)
{
	int r = strbuf_addf(&m->users, "0 %u 1\n", geteuid());
	size_t users = m->users.len;

	if (r >= 0)
		r = strbuf_addf(&m->groups, "0 %u 1\n", getegid());
	size_t groups = m->groups.len;
	if (r >= 0)
		r = subids_add(geteuid(), &m->users, &m->groups);
	return r < 0 ? r : m->users.len > users && m->groups.len > groups;
}

/* Runs in the child process: writes the maps of its parent when a byte comes from the pipe. */
static _Noreturn void write_maps(const struct maps *m, pid_t parent, int begin)
{
	char byte;
	ssize_t n;

	while ((n = read(begin, &byte, 1)) < 0 && errno == EINTR)
		;
	if (n != 1)
		_exit(1);
	int r = subids_write_map("newuidmap", parent, strbuf_str(&m->users));
	if (r >= 0)
		r = subids_write_map("newgidmap", parent, strbuf_str(&m->groups));
	_exit(r < 0 ? 1 : 0);
}

static int enter(void)
{
	return unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 ? err_sys("make a user namespace") : 0;
}

/* Enters a new user namespace with the maps. Returns 1, or 0 if the maps could not be written. */
static int enter_with_ranges(const struct maps *m)
{
	pid_t self = getpid();
	int ends[2], status;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys("make a pipe");
	_cleanup_fd_ int begin = ends[0], end = ends[1];
	pid_t pid = fork();
	if (pid < 0)
		return err_sys("make a process");
	if (pid == 0) {
		fd_close(&end);
		write_maps(m, self, begin);
	}
	fd_close(&begin);
	int r = enter();
	if (r >= 0 && write(end, "", 1) < 0)
		r = err_sys("write to a pipe");
	fd_close(&end);
	int waited = process_wait(pid, "newuidmap", &status);
	if (r < 0 || waited < 0)
		return r < 0 ? r : waited;
	return status == 0;
}

/*
 * Maps the user's own ids in the user namespace that this process has entered. If newgidmap(1)
 * failed, newuidmap(1) may have written the map of users already.
 */
static int map_one_id(uid_t uid, gid_t gid)
{
	char map[64];
	_cleanup_strbuf_ struct strbuf users = {0}, groups = {0};

	int r = fd_write_file(AT_FDCWD, "/proc/self/setgroups", "deny");
	snprintf(map, sizeof(map), "0 %u 1", gid);
	if (r >= 0)
		r = fd_write_file(AT_FDCWD, "/proc/self/gid_map", map);
	if (r >= 0)
		r = rootless_read_maps(&users, &groups);
	if (r < 0 || users.len)
		return r;
	snprintf(map, sizeof(map), "0 %u 1", uid);
	return fd_write_file(AT_FDCWD, "/proc/self/uid_map", map);
}

/* Says whether the text `map`, from rootless_read_maps(), maps one id only. */
static bool has_one_id(const struct strbuf *map)
{
	unsigned inside, outside, count;

	return sscanf(strbuf_str(map), "%u %u %u", &inside, &outside, &count) == 3 && count == 1 &&
	       !strchr(strbuf_str(map), '\n')[1];
}

/* Does what rootless_become_root() does, for a process with the user id 0. */
static int look_at_maps(struct rootless *ret)
{
	_cleanup_strbuf_ struct strbuf users = {0}, groups = {0};
	int r = rootless_read_maps(&users, &groups);

	if (r >= 0 && (has_one_id(&users) || has_one_id(&groups)))
		ret->one_id = outer_has_one;
	return r;
}

int rootless_become_root(struct rootless *ret)
{
	__attribute__((cleanup(release_maps))) struct maps maps = {0};
	uid_t uid = geteuid();
	gid_t gid = getegid();

	*ret = (struct rootless){.entered = uid != 0};
	if (uid == 0)
		return look_at_maps(ret);
	int ranges = find_ranges(&maps);
	int r = ranges > 0 ? enter_with_ranges(&maps) : ranges < 0 ? ranges : enter();
	if (r < 0 || (ranges && r > 0))
		return r < 0 ? r : 0;
	ret->one_id = ranges                   ? not_mapped
		      : subids_are_elsewhere() ? no_ranges_elsewhere
					       : no_ranges;
	return map_one_id(uid, gid);
}

static int read_map(const char *path, struct strbuf *ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	unsigned inside, outside, count;
	int used;
	int r = fd_read_file(AT_FDCWD, path, &text, MAP_MAX);

	for (const char *p = strbuf_str(&text);
		r >= 0 && sscanf(p, "%u %u %u%n", &inside, &outside, &count, &used) == 3; p += used)
		r = strbuf_addf(ret, "%u %u %u\n", inside, outside, count);
	return r < 0 ? r : 0;
}

int rootless_read_maps(struct strbuf *users, struct strbuf *groups)
{
	int r = read_map("/proc/self/uid_map", users);

	return r < 0 ? r : read_map("/proc/self/gid_map", groups);
}

int rootless_key(char ret[ROOTLESS_KEY_SIZE])
{
	_cleanup_strbuf_ struct strbuf users = {0}, groups = {0};
	int r = rootless_read_maps(&users, &groups);

	if (r < 0)
		return r;
	ret[0] = '\0';
	if (streq(strbuf_str(&users), ALL_IDS) && streq(strbuf_str(&groups), ALL_IDS))
		return 0;
	uint64_t hash = hash_add(HASH_START, strbuf_str(&users), users.len + 1);
	hash = hash_add(hash, strbuf_str(&groups), groups.len);
	snprintf(ret, ROOTLESS_KEY_SIZE, "%016" PRIx64, hash);
	return 0;
}
