/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests step/ids.c: user, groups and the five capability sets, which forked children read back from
 * the kernel.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/path.h"
#include "step/caps.h"
#include "step/step.h"
#include "unit/rig/child.h"

#define BIT(cap) (UINT64_C(1) << (cap))

static struct step_ctx context(void)
{
	struct step_ctx c = {.root = -EBADF, .console = -EBADF, .proc = path_open_proc()};

	CHECK(c.proc >= 0);
	return c;
}

/*
 * Checks the process's five capability sets: bounding, effective, inheritable, permitted and
 * ambient.
 */
static void check_sets(uint64_t b, uint64_t e, uint64_t i, uint64_t p, uint64_t a)
{
	CHECK(status_number(getpid(), "CapBnd:") == b);
	CHECK(status_number(getpid(), "CapEff:") == e);
	CHECK(status_number(getpid(), "CapInh:") == i);
	CHECK(status_number(getpid(), "CapPrm:") == p);
	CHECK(status_number(getpid(), "CapAmb:") == a);
}

static void run_user(void)
{
	const uint32_t gids[] = {5, 6, 70000};
	struct spec_process p = {
		.user = {.uid = 1000,
			.gid = 1001,
			.umask = {true, 027},
			.additional_gids = gids,
			.nadditional_gids = 3},
	};
	struct step s = {.process = &p};
	struct step_ctx c = context();
	uid_t r, e, sv;
	gid_t groups[8];
	uint64_t permitted = status_number(getpid(), "CapPrm:");

	CHECK(step_user(&c, &s) == 0);
	CHECK(getresuid(&r, &e, &sv) == 0 && r == 1000 && e == 1000 && sv == 1000);
	CHECK(getresgid(&r, &e, &sv) == 0 && r == 1001 && e == 1001 && sv == 1001);
	CHECK(getgroups(8, groups) == 3);
	CHECK(groups[0] == 5 && groups[1] == 6 && groups[2] == 70000);
	CHECK(umask(0) == 027);
	CHECK(status_number(getpid(), "CapPrm:") == permitted && permitted != 0);
	CHECK(status_number(getpid(), "CapEff:") == 0);
	CHECK(prctl(PR_GET_KEEPCAPS, 0, 0, 0, 0) == 0);
}

static void run_user_defaults(void)
{
	struct spec_process p = {0};
	struct step s = {.process = &p};
	struct step_ctx c = context();
	const gid_t before[] = {4};

	CHECK(setgroups(1, before) == 0);
	CHECK(step_user(&c, &s) == 0);
	CHECK(getuid() == 0 && getgroups(0, NULL) == 0);
	CHECK(umask(0) == 022);
}

static void run_groups_are_kept(void)
{
	const uint32_t gids[] = {5};
	struct spec_process p = {
		.user = {.uid = 1000, .gid = 1001, .additional_gids = gids, .nadditional_gids = 1},
	};
	struct step s = {.user = {.process = &p, .keep_groups = true}};
	struct step_ctx c = context();
	const gid_t before[] = {4, 70000};
	gid_t groups[8];

	CHECK(setgroups(2, before) == 0);
	CHECK(step_mapped_root(&c, &s) == 0);
	CHECK(step_user(&c, &s) == 0);
	CHECK(getgid() == 1001 && getgroups(8, groups) == 2);
	CHECK(groups[0] == 4 && groups[1] == 70000);
}

/*
 * Checks that the process becomes the owner of its standard pipes, because it must be able to open
 * /dev/stderr again. /dev/null must stay root's.
 */
static void run_stdio_is_owned(void)
{
	struct spec_process p = {.user = {.uid = 1234, .gid = 1234}};
	struct step s = {.process = &p};
	struct step_ctx c = context();
	struct stat null_before, st;
	int pipes[2];

	CHECK(pipe(pipes) == 0 && dup2(pipes[1], 1) == 1);
	int null = open("/dev/null", O_RDWR);
	CHECK(dup2(null, 0) == 0 && fstat(0, &null_before) == 0);
	CHECK(step_user(&c, &s) == 0);
	CHECK(fstat(1, &st) == 0 && st.st_uid == 1234);
	CHECK(fstat(0, &st) == 0 && st.st_uid == null_before.st_uid);
	CHECK(open("/proc/self/fd/1", O_WRONLY) >= 0 || errno == EACCES);
}

static void run_capabilities_of_a_user(void)
{
	const struct spec_capabilities caps = {
		.bounding = BIT(CAP_CHOWN) | BIT(CAP_KILL) | BIT(CAP_NET_BIND_SERVICE),
		.effective = BIT(CAP_KILL),
		.inheritable = BIT(CAP_CHOWN) | BIT(CAP_NET_BIND_SERVICE),
		.permitted = BIT(CAP_CHOWN) | BIT(CAP_KILL) | BIT(CAP_NET_BIND_SERVICE),
		.ambient = BIT(CAP_NET_BIND_SERVICE),
	};
	struct spec_process p = {.user = {.uid = 1000, .gid = 1000}};
	struct step u = {.process = &p}, s = {.caps = {.caps = &caps}};
	struct step_ctx c = context();

	CHECK(step_user(&c, &u) == 0);
	CHECK(step_capabilities(&c, &s) == 0);
	check_sets(caps.bounding, caps.effective, caps.inheritable, caps.permitted, caps.ambient);
	CHECK(step_no_new_privs(&c, &s) == 0);
	CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
}

static void run_capabilities_of_root(void)
{
	const struct spec_capabilities caps = {
		.bounding = BIT(CAP_CHOWN) | BIT(CAP_SETUID),
		.effective = BIT(CAP_CHOWN),
		.permitted = BIT(CAP_CHOWN),
	};
	struct step s = {.caps = {.caps = &caps}};
	struct step_ctx c = context();

	CHECK(step_capabilities(&c, &s) == 0);
	check_sets(caps.bounding, caps.effective, 0, caps.permitted, 0);
}

/*
 * Checks that the inheritable and ambient capabilities of caisson's caller do not reach the
 * container's process (CVE-2022-29162).
 */
static void run_inherited_capabilities(void)
{
	const struct spec_capabilities caps = {
		.bounding = BIT(CAP_KILL), .effective = BIT(CAP_KILL), .permitted = BIT(CAP_KILL)};
	struct step s = {.caps = {.caps = &caps}};
	struct step_ctx c = context();
	struct cap_sets sets;

	CHECK(cap_sets_read(&sets) == 0);
	sets.inheritable = BIT(CAP_CHOWN) | BIT(CAP_KILL);
	CHECK(cap_sets_write(&sets) == 0);
	CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0) == 0);
	CHECK(step_capabilities(&c, &s) == 0);
	check_sets(BIT(CAP_KILL), BIT(CAP_KILL), 0, BIT(CAP_KILL), 0);
}

static void run_no_capabilities(void)
{
	struct step s = {0};
	struct step_ctx c = context();

	CHECK(step_capabilities(&c, &s) == 0);
	check_sets(0, 0, 0, 0, 0);
	/*
	 * The process has no rights left when step_capabilities() runs a second time, so the
	 * function must find that it has nothing to do.
	 */
	CHECK(step_capabilities(&c, &s) == 0);
}

static void run_inheritable_beyond_bounding(void)
{
	const struct spec_capabilities caps = {.bounding = BIT(CAP_KILL),
		.permitted = BIT(CAP_KILL),
		.inheritable = BIT(CAP_CHOWN)};
	struct step s = {.caps = {.caps = &caps}};
	struct step_ctx c = context();

	CHECK(step_capabilities(&c, &s) == 0);
	check_sets(BIT(CAP_KILL), 0, BIT(CAP_CHOWN), BIT(CAP_KILL), 0);
}

static void run_keep_sys_admin(void)
{
	const struct spec_capabilities caps = {
		.bounding = BIT(CAP_KILL), .effective = BIT(CAP_KILL), .permitted = BIT(CAP_KILL)};
	struct spec_process p = {.user = {.uid = 1000, .gid = 1000}};
	struct step u = {.process = &p}, s = {.caps = {.caps = &caps, .keep_sys_admin = true}};
	struct step_ctx c = context();
	const uint64_t kept = BIT(CAP_KILL) | BIT(CAP_SYS_ADMIN);

	CHECK(step_user(&c, &u) == 0);
	CHECK(step_capabilities(&c, &s) == 0);
	check_sets(BIT(CAP_KILL), kept, 0, kept, 0);
}

/*
 * Checks that step_capabilities() leaves out capabilities that it cannot grant, and that one
 * warning in the log names all of them.
 */
static void run_missing_capabilities(void)
{
	const struct spec_capabilities caps = {
		.bounding = BIT(CAP_KILL) | BIT(CAP_SYS_TIME),
		.effective = BIT(CAP_KILL) | BIT(CAP_SYS_TIME) | BIT(CAP_CHOWN),
		.permitted = BIT(CAP_KILL) | BIT(CAP_SYS_TIME),
		.ambient = BIT(CAP_KILL),
	};
	struct step s = {.caps = {.caps = &caps}};
	struct step_ctx c = context();
	struct cap_sets sets;
	char text[1024] = "";
	int pipes[2];

	CHECK(prctl(PR_CAPBSET_DROP, CAP_SYS_TIME, 0, 0, 0) == 0);
	CHECK(cap_sets_read(&sets) == 0);
	sets.effective = sets.permitted &= ~BIT(CAP_SYS_TIME);
	CHECK(cap_sets_write(&sets) == 0);
	CHECK(pipe(pipes) == 0);
	int saved = dup(2);
	CHECK(dup2(pipes[1], 2) == 2);
	int r = step_capabilities(&c, &s);
	CHECK(dup2(saved, 2) == 2);
	CHECK(r == 0);
	check_sets(BIT(CAP_KILL), BIT(CAP_KILL), 0, BIT(CAP_KILL), 0);
	CHECK(read(pipes[0], text, sizeof(text) - 1) > 0);
	CHECK(strstr(text, "granted here: CAP_CHOWN (effective), CAP_KILL (ambient), "
			   "CAP_SYS_TIME (bounding effective permitted)\n"));
	CHECK(strchr(text, '\n') == text + strlen(text) - 1);
}

/*
 * Runs f in a child process in a new user namespace. The calling process, which stays outside,
 * writes the namespace's id maps.
 */
static void in_user_ns(void (*f)(void), const char *map, bool deny_setgroups)
{
	int ready[2], go[2], status;
	char path[64], byte;

	CHECK(pipe(ready) == 0 && pipe(go) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		CHECK(unshare(CLONE_NEWUSER) == 0);
		CHECK(write(ready[1], "x", 1) == 1 && read(go[0], &byte, 1) == 1);
		f();
		_exit(0);
	}
	CHECK(read(ready[0], &byte, 1) == 1);
	if (deny_setgroups) {
		snprintf(path, sizeof(path), "/proc/%d/setgroups", pid);
		CHECK(fd_write_file(AT_FDCWD, path, "deny") == 0);
	}
	snprintf(path, sizeof(path), "/proc/%d/gid_map", pid);
	CHECK(fd_write_file(AT_FDCWD, path, map) == 0);
	snprintf(path, sizeof(path), "/proc/%d/uid_map", pid);
	CHECK(fd_write_file(AT_FDCWD, path, map) == 0);
	CHECK(write(go[1], "x", 1) == 1);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

static void become_mapped_root(void)
{
	struct step s = {0};
	struct step_ctx c = context();

	CHECK(getuid() == 65534);
	CHECK(step_mapped_root(&c, &s) == 0);
	CHECK(getuid() == 0 && geteuid() == 0 && getgid() == 0 && getgroups(0, NULL) == 0);
	CHECK(status_number(getpid(), "CapEff:") & BIT(CAP_SYS_ADMIN));
}

static void run_mapped_root(void)
{
	in_user_ns(become_mapped_root, "0 100000 65536", false);
}

static void fail_without_root(void)
{
	struct step s = {0};
	struct step_ctx c = context();

	CHECK(step_mapped_root(&c, &s) == -EINVAL);
	CHECK_MSG("linux.gidMappings has to map containerID 0");
}

static void run_root_is_not_mapped(void)
{
	in_user_ns(fail_without_root, "1 100000 10", false);
}

static void use_denied_setgroups(void)
{
	const uint32_t gids[] = {5};
	struct spec_process p = {.user = {.additional_gids = gids, .nadditional_gids = 1}};
	struct step s = {.process = &p};
	struct step_ctx c = context();

	CHECK(step_mapped_root(&c, &s) == 0);
	CHECK(step_user(&c, &s) == -EPERM);
	CHECK_MSG("additionalGids: this user namespace does not allow setgroups(2)");
	p.user.nadditional_gids = 0;
	CHECK(step_user(&c, &s) == 0);
}

static void run_denied_setgroups(void)
{
	in_user_ns(use_denied_setgroups, "0 100000 10", true);
}

static void use_unmapped_ids(void)
{
	const uint32_t gids[] = {5000};
	struct spec_process p = {.user = {.uid = 1000, .gid = 3}};
	struct step s = {.process = &p};
	struct step_ctx c = context();

	CHECK(step_mapped_root(&c, &s) == 0);
	p.user.additional_gids = gids;
	p.user.nadditional_gids = 1;
	CHECK(step_user(&c, &s) == -EINVAL);
	CHECK_MSG("additionalGids: a gid is not mapped by linux.gidMappings");
	p.user.nadditional_gids = 0;
	CHECK(step_user(&c, &s) == -EINVAL);
	CHECK_MSG("uid 1000 is not mapped by linux.uidMappings");
	p.user.gid = 1000;
	CHECK(step_user(&c, &s) == -EINVAL);
	CHECK_MSG("gid 1000 is not mapped by linux.gidMappings");
}

static void run_unmapped_ids(void)
{
	in_user_ns(use_unmapped_ids, "0 100000 10", false);
}

ROOT_CHILD_TEST(user)
ROOT_CHILD_TEST(user_defaults)
ROOT_CHILD_TEST(groups_are_kept)
ROOT_CHILD_TEST(stdio_is_owned)
ROOT_CHILD_TEST(capabilities_of_a_user)
ROOT_CHILD_TEST(capabilities_of_root)
ROOT_CHILD_TEST(inherited_capabilities)
ROOT_CHILD_TEST(no_capabilities)
ROOT_CHILD_TEST(inheritable_beyond_bounding)
ROOT_CHILD_TEST(keep_sys_admin)
ROOT_CHILD_TEST(missing_capabilities)
ROOT_CHILD_TEST(mapped_root)
ROOT_CHILD_TEST(root_is_not_mapped)
ROOT_CHILD_TEST(denied_setgroups)
ROOT_CHILD_TEST(unmapped_ids)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_user),
		cmocka_unit_test(test_user_defaults),
		cmocka_unit_test(test_groups_are_kept),
		cmocka_unit_test(test_stdio_is_owned),
		cmocka_unit_test(test_capabilities_of_a_user),
		cmocka_unit_test(test_capabilities_of_root),
		cmocka_unit_test(test_inherited_capabilities),
		cmocka_unit_test(test_no_capabilities),
		cmocka_unit_test(test_inheritable_beyond_bounding),
		cmocka_unit_test(test_keep_sys_admin),
		cmocka_unit_test(test_missing_capabilities),
		cmocka_unit_test(test_mapped_root),
		cmocka_unit_test(test_root_is_not_mapped),
		cmocka_unit_test(test_denied_setgroups),
		cmocka_unit_test(test_unmapped_ids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
