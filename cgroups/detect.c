/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds where cgroup2 is mounted, which cgroup a process is in, and what holds a controller.
 *
 * statfs(2) of the two places where every distribution mounts cgroup2 answers in a microsecond. The
 * kernel takes longer to make mountinfo, because that may list hundreds of mounts, so mountinfo is
 * read only if both calls fail or an error is to be explained.
 */
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/vfs.h>

#include "base/sys.h"
#include "cgroups/cg_internal.h"

#define MOUNTINFO_MAX (16 * 1024 * 1024)
#define PROC_TEXT_MAX 65536

static bool is_cgroup2(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC;
}

bool cg_list_has(const char *list, const char *name, size_t len)
{
	while (*list) {
		size_t n = strcspn(list, " \n,");
		if (n == len && memcmp(list, name, len) == 0)
			return true;
		list += n;
		list += strspn(list, " \n,");
	}
	return false;
}

bool cg_list_covers(const char *list, const char *wanted)
{
	while (*wanted) {
		size_t n = strcspn(wanted, " \n");
		if (n > 0 && !cg_list_has(list, wanted, n))
			return false;
		wanted += n;
		wanted += strspn(wanted, " \n");
	}
	return true;
}

/* Returns a copy of a mount point with the plain bytes in place of the kernel's escapes. */
static char *unescape(struct arena *a, const char *s, size_t len)
{
	char *out = arena_strndup(a, s, len);

	if (out)
		str_unescape(out);
	return out;
}

struct mount_line {
	const char *point, *type, *super;
	size_t point_len, type_len, super_len;
};

static size_t next_word(const char **p, const char **ret)
{
	*p += strspn(*p, " ");
	*ret = *p;
	size_t n = strcspn(*p, " \n");
	*p += n;
	return n;
}

/*
 * Parses a mountinfo line such as "36 35 98:0 /root /mnt rw,noatime shared:1 - ext4 /dev/sda rw":
 * the mount point is field 5; the type is the first and the options are the third field after the
 * dash. Returns false if the line is malformed.
 */
static bool parse_line(const char *line, struct mount_line *m)
{
	const char *end = line + strcspn(line, "\n");
	const char *dash = strstr(line, " - ");
	const char *p = line, *skip;

	if (!dash || dash > end)
		return false;
	for (int i = 0; i < 4; i++)
		next_word(&p, &skip);
	m->point_len = next_word(&p, &m->point);
	p = dash + 3;
	m->type_len = next_word(&p, &m->type);
	next_word(&p, &skip);
	m->super_len = next_word(&p, &m->super);
	return m->point_len > 0 && m->type_len > 0;
}

static bool is_type(const struct mount_line *m, const char *type)
{
	return m->type_len == strlen(type) && memcmp(m->type, type, m->type_len) == 0;
}

static const char *next_line(const char *line)
{
	line += strcspn(line, "\n");
	return *line ? line + 1 : line;
}

int cg_mount_from_text(struct arena *a, const char *mountinfo, const char **ret)
{
	struct mount_line m;

	*ret = NULL;
	/*
	 * Uses the last cgroup2 mount in the list, because it may be mounted over the earlier ones.
	 */
	for (const char *line = mountinfo; *line; line = next_line(line)) {
		if (!parse_line(line, &m) || !is_type(&m, "cgroup2"))
			continue;
		*ret = unescape(a, m.point, m.point_len);
		if (!*ret)
			return -ENOMEM;
	}
	return 0;
}

int cg_v1_holder(struct arena *a, const char *mountinfo, const char *controller, const char **ret)
{
	struct mount_line m;

	*ret = NULL;
	if (streq(controller, "io"))
		controller = "blkio";
	for (const char *line = mountinfo; *line; line = next_line(line)) {
		if (!parse_line(line, &m) || !is_type(&m, "cgroup"))
			continue;
		_cleanup_free_ char *options = strndup(m.super, m.super_len);
		if (!options)
			return err_set(ENOMEM, "out of memory");
		if (!cg_list_has(options, controller, strlen(controller)))
			continue;
		*ret = unescape(a, m.point, m.point_len);
		return *ret ? 0 : -ENOMEM;
	}
	return 0;
}

int cg_find_mount(struct arena *a, const char **ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};

	if (is_cgroup2("/sys/fs/cgroup")) {
		*ret = "/sys/fs/cgroup";
		return 0;
	}
	if (is_cgroup2("/sys/fs/cgroup/unified")) {
		*ret = "/sys/fs/cgroup/unified";
		return 0;
	}
	int r = fd_read_file(AT_FDCWD, "/proc/self/mountinfo", &text, MOUNTINFO_MAX);
	if (r < 0)
		return r;
	r = cg_mount_from_text(a, strbuf_str(&text), ret);
	if (r < 0)
		return r;
	if (!*ret)
		return err_set(ENOENT,
			"cgroup v2 is not mounted (cgroup v1 alone is not supported): run "
			"\"mount -t cgroup2 none /sys/fs/cgroup\", boot with "
			"systemd.unified_cgroup_hierarchy=1, or use --cgroup-manager disabled");
	return 0;
}

int cg_of_process(struct arena *a, pid_t pid, const char **ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	char file[64];

	if (pid > 0)
		snprintf(file, sizeof(file), "/proc/%d/cgroup", pid);
	else
		snprintf(file, sizeof(file), "/proc/self/cgroup");
	int r = fd_read_file(AT_FDCWD, file, &text, PROC_TEXT_MAX);
	if (r == -ENOENT || r == -ESRCH)
		return err_set(ESRCH, "process %d is gone: no such process", pid);
	if (r < 0)
		return r;
	for (const char *line = strbuf_str(&text); *line; line = next_line(line)) {
		if (!str_starts(line, "0::/"))
			continue;
		const char *deleted = " (deleted)";
		size_t len = strcspn(line + 3, "\n"), cut = strlen(deleted);
		if (len > cut && memcmp(line + 3 + len - cut, deleted, cut) == 0)
			len -= cut;
		*ret = arena_strndup(a, line + 3, len);
		return *ret ? 0 : -ENOMEM;
	}
	return err_set(ENOENT, "%s has no cgroup v2 line (\"0::/...\"): is cgroup2 mounted?", file);
}

bool cg_in_user_namespace(void)
{
	return geteuid() != 0 || sys_in_userns();
}
