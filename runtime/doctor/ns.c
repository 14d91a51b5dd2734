/* SPDX-License-Identifier: Apache-2.0 */
/* Checks whether the host has what containers in namespaces need. */
#include <linux/seccomp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/subids.h"
#include "base/sys.h"
#include "cgroups/cgroup.h"
#include "doctor/doctor.h"

#define NEED_MAJOR 5
#define NEED_MINOR 14
#define SMALL_FILE 65536
#define SUBID_MAX (1024 * 1024)
#define MODULES_DEP_MAX (8 * 1024 * 1024)

static int check_kernel(struct doctor_ctx *c)
{
	struct utsname uts;
	int major, minor;

	if (uname(&uts) < 0 || sscanf(uts.release, "%d.%d", &major, &minor) != 2)
		return doctor_report(c, DOCTOR_WARNING, "kernel",
			"of unknown version: %d.%d or later is needed", NEED_MAJOR, NEED_MINOR);
	if (major > NEED_MAJOR || (major == NEED_MAJOR && minor >= NEED_MINOR))
		return doctor_report(c, DOCTOR_OK, "kernel", "Linux %s", uts.release);
	return doctor_report(c, DOCTOR_NO, "kernel",
		"Linux %s is too old: install %d.%d or later (clone3, the mount API, cgroup.kill)",
		uts.release, NEED_MAJOR, NEED_MINOR);
}

/*
 * Tries unshare(2) with these flags in a child process. Returns 0 if the call works, else its
 * errno.
 */
static int try_unshare(int flags)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return errno;
	if (pid == 0)
		_exit(unshare(flags) < 0 ? errno : 0);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
}

/*
 * Finds the sysctl that forbids user namespaces to ordinary users on this host. Returns the command
 * that changes the sysctl, or NULL if no sysctl forbids them.
 */
static const char *who_forbids(void)
{
	static const struct {
		const char *path, *closed, *advice;
	} switches[] = {
		{"/proc/sys/user/max_user_namespaces", "0\n",
			"sysctl user.max_user_namespaces=15000"},
		{"/proc/sys/kernel/unprivileged_userns_clone", "0\n",
			"sysctl kernel.unprivileged_userns_clone=1"},
		{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n",
			"sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor "
			"profile for caisson"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(switches); i++) {
		_cleanup_strbuf_ struct strbuf text = {0};

		if (fd_read_file(AT_FDCWD, switches[i].path, &text, SMALL_FILE) == 0 &&
			streq(strbuf_str(&text), switches[i].closed))
			return switches[i].advice;
	}
	return NULL;
}

static int check_namespaces(struct doctor_ctx *c)
{
	const int all = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET |
			CLONE_NEWCGROUP;
	const char *advice = who_forbids();
	int user = try_unshare(CLONE_NEWUSER), r;

	if (user == 0 && !advice)
		r = doctor_report(c, DOCTOR_OK, "user-namespaces", "they can be made");
	else if (user == 0)
		r = doctor_report(
			c, DOCTOR_WARNING, "user-namespaces", "not for ordinary users: %s", advice);
	else
		r = doctor_report(c, geteuid() == 0 ? DOCTOR_WARNING : DOCTOR_NO, "user-namespaces",
			"%s: %s%s", strerror(user),
			advice ? advice : "a kernel with CONFIG_USER_NS, outside of a container",
			geteuid() == 0 ? "; root can do without them" : ", or run as root");
	if (r < 0)
		return r;
	int rest = try_unshare(geteuid() == 0 ? all : all | CLONE_NEWUSER);
	if (rest == 0)
		return doctor_report(c, DOCTOR_OK, "namespaces",
			"mount, pid, network, ipc, uts and cgroup namespaces can be made");
	return doctor_report(c, DOCTOR_NO, "namespaces",
		"mount, pid, network, ipc, uts and cgroup namespaces can't be made here: %s; "
		"inside a container, start that with --privileged",
		strerror(rest));
}

static int check_tree_namespace(struct doctor_ctx *c)
{
	const char *text = "made for each container as a copy of the host's, because this kernel "
			   "lacks OPEN_TREE_NAMESPACE (Linux 7.0)";

	if (sys_has_tree_namespace())
		text = "made of a container's root alone (OPEN_TREE_NAMESPACE)";
	else if (geteuid() != 0)
		text = "made for each container as a copy of the host's";
	return doctor_report(c, DOCTOR_OK, "mount-namespace", "%s", text);
}

static int check_cgroup(struct doctor_ctx *c)
{
	struct cg_survey s;
	struct cgroup cg;

	if (cg_survey(c->arena, &s) < 0)
		return doctor_report(c, DOCTOR_WARNING, "cgroup", "%s", err_msg());
	int r = doctor_report(c, DOCTOR_OK, "cgroup", "version 2, at %s", s.mount);
	if (r == 0 && !*s.missing)
		r = doctor_report(c, DOCTOR_OK, "controllers", "%s", s.controllers);
	else if (r == 0)
		r = doctor_report(c, DOCTOR_WARNING, "controllers",
			"%s; limits of these are refused: %s%s",
			*s.controllers ? s.controllers : "none", s.missing,
			s.on_v1 ? ": boot with systemd.unified_cgroup_hierarchy=1, or without "
				  "systemd with cgroup_no_v1=all"
				: "");
	if (r < 0 || geteuid() == 0)
		return r;
	/*
	 * cg_resolve() makes no cgroup. It is called only to find out whether this user may make
	 * one.
	 */
	r = cg_resolve(c->arena, &(struct cg_options){.id = "doctor", .rootless = true}, &cg);
	if (r < 0 || cg.refused)
		return doctor_report(c, DOCTOR_WARNING, "delegation",
			"no limits for this user's containers: %s; run it beneath a cgroup that is "
			"delegated (systemd-run --user --scope -p Delegate=yes), or use "
			"--systemd-cgroup",
			r < 0 ? err_msg() : cg.refused);
	return doctor_report(c, DOCTOR_OK, "delegation", "this user may make cgroups");
}

static int check_seccomp(struct doctor_ctx *c)
{
	uint32_t action = SECCOMP_RET_ERRNO, notify = SECCOMP_RET_USER_NOTIF;

	if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) < 0)
		return doctor_report(c, DOCTOR_WARNING, "seccomp",
			"not in this kernel (%s): config.json's linux.seccomp is refused; "
			"CONFIG_SECCOMP_FILTER is needed",
			strerror(errno));
	return doctor_report(c, DOCTOR_OK, "seccomp", "filters%s",
		syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &notify) == 0
			? ", with notification"
			: "");
}

/* Checks whether the kernel has the overlay file system, or could load it as a module. */
static int check_overlay(struct doctor_ctx *c)
{
	_cleanup_strbuf_ struct strbuf known = {0}, dep = {0};
	struct utsname uts;
	char path[256];

	if (fd_read_file(AT_FDCWD, "/proc/filesystems", &known, SMALL_FILE) == 0 &&
		strstr(strbuf_str(&known), "\toverlay\n"))
		return doctor_report(c, DOCTOR_OK, "overlay", "in the kernel");
	if (uname(&uts) == 0) {
		snprintf(path, sizeof(path), "/lib/modules/%s/modules.dep", uts.release);
		if (fd_read_file(AT_FDCWD, path, &dep, MODULES_DEP_MAX) == 0 &&
			strstr(strbuf_str(&dep), "/overlay.ko"))
			return doctor_report(
				c, DOCTOR_OK, "overlay", "a module, loaded when it is mounted");
	}
	return doctor_report(c, DOCTOR_WARNING, "overlay",
		"not in this kernel: engines that stack images with it fail; modprobe overlay, or "
		"a kernel with CONFIG_OVERLAY_FS");
}

/* Says whether any user has ids in the file `path`, /etc/subuid or /etc/subgid. */
static bool names_ids(const char *path)
{
	_cleanup_strbuf_ struct strbuf text = {0};

	return fd_read_file(AT_FDCWD, path, &text, SUBID_MAX) >= 0 &&
	       strchr(strbuf_str(&text), ':');
}

/*
 * Says whether this user has ids or, if this user is root, whether any user has ids. If another
 * source than the files has the ids, the answer for root is yes, because no program lists the ids
 * of all users.
 */
static int has_ids(bool elsewhere)
{
	_cleanup_strbuf_ struct strbuf users = {0}, groups = {0};

	if (geteuid() == 0)
		return elsewhere || (names_ids(SUBIDS_USERS) && names_ids(SUBIDS_GROUPS));
	int r = subids_add(geteuid(), &users, &groups);
	return r < 0 ? r : users.len > 0 && groups.len > 0;
}

/* Reports whether `who` may map more than one id. */
static int check_ranges(struct doctor_ctx *c, const char *who)
{
	const bool elsewhere = subids_are_elsewhere();
	int r = has_ids(elsewhere);

	if (r < 0)
		return doctor_report(c, DOCTOR_WARNING, "rootless",
			"the ranges of %s are not known: %s", who, err_msg());
	if (r == 0)
		return doctor_report(c, DOCTOR_WARNING, "rootless", "%s can map one id only: %s",
			who,
			elsewhere ? SUBIDS_PROGRAM
				" of the package uidmap names no ranges, of the source that "
				"\"subid\" in /etc/nsswitch.conf names"
				  : "no range in /etc/subuid and /etc/subgid; usermod "
				    "--add-subuids 100000-165535 --add-subgids 100000-165535 USER");
	return doctor_report(c, DOCTOR_OK, "rootless", "newuidmap and newgidmap, and ranges %s",
		elsewhere ? "of the source that \"subid\" in /etc/nsswitch.conf names"
			  : "in /etc/subuid and /etc/subgid");
}

int doctor_rootless(struct doctor_ctx *c)
{
	const char *who = geteuid() == 0 ? "ordinary users" : "this user";
	const char *uidmap, *gidmap, *advice = who_forbids();
	int failed = try_unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET);

	if (c->mode != DOCTOR_NS && (failed || advice))
		return doctor_report(c, geteuid() == 0 ? DOCTOR_WARNING : DOCTOR_NO, "rootless",
			"no microVMs for %s, which need a user namespace%s%s: %s", who,
			failed ? ": " : "", failed ? strerror(failed) : "",
			advice ? advice : "a kernel with CONFIG_USER_NS, outside of a container");
	int r = doctor_find_program(c->arena, "newuidmap", &uidmap);

	if (r == 0)
		r = doctor_find_program(c->arena, "newgidmap", &gidmap);
	if (r < 0)
		return r;
	if (!uidmap || !gidmap)
		return doctor_report(c, DOCTOR_WARNING, "rootless",
			"%s can map one id only: newuidmap and newgidmap are not there; install "
			"the package uidmap (or shadow-utils)",
			who);
	return check_ranges(c, who);
}

int doctor_ns(struct doctor_ctx *c)
{
	static int (*const checks[])(struct doctor_ctx *) = {check_kernel, check_namespaces,
		check_tree_namespace, check_cgroup, check_seccomp, check_overlay, doctor_rootless};
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(checks); i++)
		r = checks[i](c);
	return r;
}
