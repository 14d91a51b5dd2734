/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Intel RDT through resctrl (kernel: Documentation/arch/x86/resctrl.rst; runtime-spec
 * config-linux.md "IntelRdt"). A class of service is a directory of the resctrl file system;
 * monitoring is a directory in its mon_groups.
 */
#include "launch/rdt.h"

#include <dirent.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/fd.h"

#define RESCTRL "/sys/fs/resctrl"

static int open_resctrl(void)
{
	struct statfs fs;

	_cleanup_fd_ int fd = open(RESCTRL, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstatfs(fd, &fs) < 0 || fs.f_type != 0x7655821)
		return err_set(ENODEV, "the resctrl file system is not mounted on " RESCTRL
				       ": the CPU or the kernel lacks RDT, or it has to be "
				       "mounted: `mount -t resctrl resctrl " RESCTRL "`");
	return take_fd(&fd);
}

/*
 * Returns the name of the directory of the container's class of service in resctrl. If config.json
 * names the class "/", it is the root class. If config.json names no class, the container's ID is
 * the name.
 */
static const char *class_of(const struct spec_intel_rdt *rdt, const char *id)
{
	return rdt->clos_id ? rdt->clos_id : id;
}

static bool has_schema(const struct spec_intel_rdt *rdt)
{
	return rdt->l3_cache_schema || rdt->mem_bw_schema || rdt->schemata.n;
}

static int open_class(int resctrl, const struct spec_intel_rdt *rdt, const char *id)
{
	const char *name = class_of(rdt, id);

	if (streq(name, "/"))
		name = ".";
	else if (mkdirat(resctrl, name, 0755) < 0 && errno != EEXIST)
		return errno == ENOSPC
			       ? err_set(ENOSPC,
					 "closID \"%s\": the hardware has no free class of service",
					 name)
			       : err_sys("closID \"%s\": make the class", name);
	/*
	 * If config.json names a class but no schema, the OCI specification requires that the class
	 * already exists, so the class is not made.
	 */
	int fd = openat(resctrl, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? err_sys("open resctrl class \"%s\"", name) : fd;
}

static int write_schema(int class, const char *line)
{
	_cleanup_strbuf_ struct strbuf text = {0};

	int r = strbuf_addf(&text, "%s\n", line);
	return r < 0 ? r : fd_write_file(class, "schemata", strbuf_str(&text));
}

static int write_schemata(int class, const struct spec_intel_rdt *rdt)
{
	int r = 0;

	if (rdt->l3_cache_schema)
		r = write_schema(class, rdt->l3_cache_schema);
	if (r >= 0 && rdt->mem_bw_schema)
		r = write_schema(class, rdt->mem_bw_schema);
	for (size_t i = 0; i < rdt->schemata.n && r >= 0; i++)
		r = write_schema(class, rdt->schemata.v[i]);
	return r;
}

static int add_task(int dir, pid_t pid)
{
	char text[32];

	snprintf(text, sizeof(text), "%d", pid);
	return fd_write_file(dir, "tasks", text);
}

int rdt_assign(const struct spec_intel_rdt *rdt, const char *id, pid_t pid)
{
	_cleanup_fd_ int resctrl = open_resctrl();

	if (resctrl < 0)
		return resctrl;
	if (rdt->clos_id && !has_schema(rdt) && !streq(rdt->clos_id, "/") &&
		faccessat(resctrl, rdt->clos_id, F_OK, 0) < 0)
		return err_set(EINVAL,
			"closID \"%s\" does not exist, and no schema is given to make it with",
			rdt->clos_id);
	_cleanup_fd_ int class = open_class(resctrl, rdt, id);
	if (class < 0)
		return class;
	int r = write_schemata(class, rdt);
	if (r >= 0)
		r = add_task(class, pid);
	if (r < 0 || !rdt->enable_monitoring)
		return r;
	_cleanup_fd_ int groups = openat(class, "mon_groups", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (groups < 0 || (mkdirat(groups, id, 0755) < 0 && errno != EEXIST))
		return err_sys("enableMonitoring: make a monitoring group");
	_cleanup_fd_ int mon = openat(groups, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return mon < 0 ? err_sys("enableMonitoring: open the group") : add_task(mon, pid);
}

/*
 * Removes only those directories of resctrl whose names are the container's own ID. A class that
 * config.json names is shared with other containers and stays.
 */
int rdt_remove(const char *id, const struct spec_intel_rdt *rdt)
{
	_cleanup_fd_ int resctrl = open_resctrl();
	char path[4096];

	if (resctrl < 0)
		return 0;
	const char *class = class_of(rdt, id);
	if (rdt->enable_monitoring) {
		snprintf(path, sizeof(path), "%s/mon_groups/%s", streq(class, "/") ? "." : class,
			id);
		if (unlinkat(resctrl, path, AT_REMOVEDIR) < 0 && errno != ENOENT)
			return err_sys("remove resctrl group %s", path);
	}
	if (!rdt->clos_id && unlinkat(resctrl, id, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return err_sys("remove resctrl group %s", id);
	return 0;
}
