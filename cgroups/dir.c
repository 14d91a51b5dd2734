/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens the directories of cgroups, and reads and writes control files. A cgroup is opened beneath
 * the descriptor of the mount with openat2(2), which follows no symbolic links and does not leave
 * the file system. The control files are opened relative to the cgroup's descriptor.
 */
#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/clock.h"
#include "base/sys.h"
#include "cgroups/cg_internal.h"

#define EVENTS_MAX 256

int cg_open_mount(const struct cgroup *cg)
{
	int fd = open(cg->mount, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? err_set(errno, "open the cgroup2 mount %s: %s", cg->mount,
				cg_strerror(errno))
		      : fd;
}

int cg_open_dir(int mount, const char *path, int flags)
{
	const uint64_t resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
	int fd = sys_openat2(mount, path[1] ? path + 1 : ".",
		(uint64_t)flags | O_DIRECTORY | O_CLOEXEC, 0, resolve);

	if (fd < 0)
		return err_set(errno, "open cgroup %s: %s", path, cg_strerror(errno));
	return fd;
}

bool cg_is_gone(int r)
{
	return r == -ENOENT || r == -ENODEV;
}

const char *cg_strerror(int code)
{
	switch (code) {
	case ENOENT:
		return "there is none (ENOENT)";
	case ENODEV:
		return "the cgroup was removed, or there is no such device (ENODEV)";
	default:
		return strerror(code);
	}
}

int cg_read(int dir, const char *file, char *buf, size_t size)
{
	_cleanup_fd_ int fd = openat(dir, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n = -1;

	if (fd >= 0)
		n = read(fd, buf, size - 1);
	if (n < 0 && (errno == ENOENT || errno == ENODEV))
		return -errno;
	if (n < 0)
		return err_set(errno, "read cgroup file %s: %s", file, cg_strerror(errno));
	if ((size_t)n == size - 1)
		return err_set(EFBIG, "cgroup file %s is longer than %zu bytes", file, size - 2);
	if (n > 0 && buf[n - 1] == '\n')
		n--;
	buf[n] = '\0';
	return 0;
}

int cg_read_u64(int dir, const char *file, uint64_t *ret)
{
	char text[64];
	int r = cg_read(dir, file, text, sizeof(text));

	if (r < 0)
		return r;
	if (streq(text, "max")) {
		*ret = UINT64_MAX;
		return 0;
	}
	r = str_to_u64(text, ret);
	return r < 0 ? err_set(-r, "cgroup file %s: expected a number, found \"%s\"", file, text)
		     : 0;
}

int cg_find_key(const char *text, const char *key, uint64_t *ret)
{
	size_t len = strlen(key);

	for (const char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n') {
		if (strncmp(p, key, len) != 0 || p[len] != ' ')
			continue;
		*ret = strtoull(p + len + 1, NULL, 10);
		return 0;
	}
	return -ENOENT;
}

int cg_write(int dir, const char *file, const char *text)
{
	_cleanup_fd_ int fd = openat(dir, file, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return -errno;
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

int cg_err_file(int r, const char *field, const char *file, const char *value, const char *path)
{
	return err_set(-r, "%s%swrite \"%s\" to %s of cgroup %s: %s%s", field ? field : "",
		field ? ": " : "", value, file, path,
		r == -ENOENT ? "the kernel offers no such control file here" : cg_strerror(-r),
		r == -EROFS ? " (the cgroup file system is mounted read-only)" : "");
}

int cg_wait_event(int dir, const char *key, uint64_t value, int timeout_ms)
{
	_cleanup_fd_ int fd = openat(dir, "cgroup.events", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	int64_t deadline = clock_ms() + timeout_ms;
	char text[EVENTS_MAX];
	uint64_t v;

	if (fd < 0 && (errno == ENOENT || errno == ENODEV))
		return -errno;
	if (fd < 0)
		return err_set(errno, "open cgroup.events: %s", cg_strerror(errno));
	for (;;) {
		ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
		if (n < 0 && errno == ENODEV)
			return -ENODEV;
		if (n < 0)
			return err_set(errno, "read cgroup.events: %s", cg_strerror(errno));
		text[n] = '\0';
		if (cg_find_key(text, key, &v) == 0 && v == value)
			return 0;
		int64_t left = deadline - clock_ms();
		if (left <= 0)
			return -ETIMEDOUT;
		/*
		 * Polls for POLLPRI, which the kernel reports for a cgroup's file when its content
		 * has changed.
		 */
		struct pollfd p = {.fd = fd, .events = POLLPRI};
		if (poll(&p, 1, (int)left) < 0 && errno != EINTR)
			return err_sys("poll cgroup.events");
	}
}

int cg_open(const struct cgroup *cg)
{
	if (!cg->path)
		return err_set(ENOENT, "the container has no cgroup");
	_cleanup_fd_ int mount = cg_open_mount(cg);
	return mount < 0 ? mount : cg_open_dir(mount, cg->path, O_RDONLY);
}

/*
 * Name of the extended attribute by which caisson marks a cgroup. Linux 5.7 and later store such
 * attributes of cgroups, even those that ordinary users set.
 */
#define MADE_XATTR "user.caisson.made"

void cg_mark_made(int mount, const char *path)
{
	_cleanup_fd_ int dir = cg_open_dir(mount, path, O_RDONLY);

	if (dir < 0 || fsetxattr(dir, MADE_XATTR, "1", 1, 0) < 0)
		err_clear();
}

static bool is_marked_made(int mount, const char *path)
{
	_cleanup_fd_ int dir = cg_open_dir(mount, path, O_RDONLY);

	if (dir < 0)
		err_clear();
	return dir >= 0 && fgetxattr(dir, MADE_XATTR, NULL, 0) >= 0;
}

void cg_remove_made(int mount, const char *path, size_t from)
{
	char prefix[PATH_MAX];

	snprintf(prefix, sizeof(prefix), "%s", path);
	while (*prefix && (strlen(prefix) > from || is_marked_made(mount, prefix)) &&
		unlinkat(mount, prefix + 1, AT_REMOVEDIR) == 0)
		*strrchr(prefix, '/') = '\0';
}

/*
 * Returns whether the cgroup `dir` has no cgroups beneath it. The kernel counts the links of a
 * cgroup's directory: two of its own, and one for each cgroup beneath it. The link count saves
 * listing the directory of most cgroups, which has many control files.
 */
static bool is_leaf(int dir)
{
	struct stat st;

	return fstat(dir, &st) == 0 && st.st_nlink == 2;
}

/*
 * One level of a walk through a tree of cgroups: a cgroup on the path from where the walk began to
 * the current cgroup.
 */
struct level {
	/* names of the cgroups beneath this level's cgroup, each with its NUL */
	struct strbuf names;
	size_t next; /* offset in `names` of the next name to visit */
};

/*
 * Lists the names of the cgroups beneath dir. If dir has been removed meanwhile, the list is empty.
 */
static int list_children(int dir, struct strbuf *ret)
{
	if (is_leaf(dir))
		return 0;
	int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = again < 0 ? NULL : fdopendir(again);
	int r = 0;

	if (!d) {
		int code = errno;
		fd_close(&again);
		return cg_is_gone(-code) ? 0 : err_set(code, "list cgroups: %s", cg_strerror(code));
	}
	for (struct dirent *e; r >= 0 && (e = readdir(d));)
		if (e->d_type == DT_DIR && e->d_name[0] != '.')
			r = strbuf_add(ret, e->d_name, strlen(e->d_name) + 1);
	closedir(d);
	return r;
}

static int push_level(struct strbuf *levels, int dir)
{
	struct level l = {0};
	int r = list_children(dir, &l.names);

	if (r >= 0)
		r = strbuf_add(levels, &l, sizeof(l));
	if (r < 0)
		strbuf_release(&l.names);
	return r;
}

static struct level *last_level(struct strbuf *levels)
{
	return (struct level *)(levels->s + levels->len) - 1;
}

static void pop_level(struct strbuf *levels)
{
	strbuf_release(&last_level(levels)->names);
	levels->len -= sizeof(struct level);
}

/*
 * Replaces *dir by the next unvisited cgroup beneath it. Returns 1, or 0 if all cgroups beneath
 * *dir have been visited.
 */
static int descend(struct strbuf *levels, int *dir)
{
	struct level *l = last_level(levels);

	while (l->next < l->names.len) {
		const char *name = l->names.s + l->next;
		l->next += strlen(name) + 1;
		_cleanup_fd_ int sub =
			openat(*dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (sub < 0 && cg_is_gone(-errno))
			continue;
		if (sub < 0)
			return err_sys("open cgroup %s", name);
		int r = push_level(levels, sub);
		if (r < 0)
			return r;
		fd_close(dir);
		*dir = take_fd(&sub);
		return 1;
	}
	return 0;
}

static int ascend(int *dir)
{
	_cleanup_fd_ int above = openat(*dir, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (above < 0)
		return err_set(errno, "open the cgroup above: %s", cg_strerror(errno));
	fd_close(dir);
	*dir = take_fd(&above);
	return 0;
}

/*
 * Walks a tree of cgroups. The walk keeps only a few descriptors open, however deep the cgroups are
 * nested, because a container may nest its own as deep as it likes. The walk climbs by "..", which
 * is safe because the kernel moves no cgroup of v2 to another place.
 */
int cg_walk(int dir, cg_visit_fn *visit, void *arg)
{
	_cleanup_strbuf_ struct strbuf levels = {0};
	_cleanup_fd_ int at = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (at < 0)
		return cg_is_gone(-errno) ? 0
					  : err_set(errno, "list cgroups: %s", cg_strerror(errno));
	int r = push_level(&levels, at);
	while (r >= 0 && levels.len) {
		r = descend(&levels, &at);
		if (r != 0)
			continue;
		r = visit(at, arg);
		pop_level(&levels);
		if (r >= 0 && levels.len)
			r = ascend(&at);
	}
	while (levels.len)
		pop_level(&levels);
	return r < 0 ? r : 0;
}
