/* SPDX-License-Identifier: Apache-2.0 */
/* Tests seccomp filters by loading them in a forked child and making system calls there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <linux/capability.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "filter/filter.h"
#include "step/caps.h"
#include "step/step.h"
#include "unit/rig/child.h"
#include "unit/rig/seccomp.h"

/* Loads the profile into this process, as the container's first process does. */
static int load(const struct spec_seccomp *s, struct step_ctx *c, struct step step)
{
	int fd = seccomp_compile(s, -EBADF);

	CHECK(fd >= 0);
	c->slots = &fd;
	step.slot = 0;
	step.seccomp.seccomp = s;
	return step_seccomp(c, &step);
}

static void effects(void)
{
	const struct spec_seccomp_rule rules[] = {
		{.names = NAMES("mkdir", "mkdirat"), .action = SCMP_ACT_ERRNO(EDOM)},
		{.names = NAMES("getpgid"), .action = SCMP_ACT_KILL_PROCESS},
	};
	struct spec_seccomp s = PROFILE(SCMP_ACT_ALLOW, rules);
	struct step_ctx c = {0};

	s.flags = SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW |
		  SECCOMP_FILTER_FLAG_TSYNC;
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(load(&s, &c, (struct step){0}) == 0);
	CHECK(mkdir("/tmp/caisson-never", 0700) < 0 && errno == EDOM);
	CHECK(getppid() > 0);
	getpgid(0);
	_exit(3);
}

static void test_effects(void **state)
{
	int status = child_status(effects);

	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
}

static void load_errors(void)
{
	struct spec_seccomp s = {.default_action = SCMP_ACT_ALLOW};
	struct step_ctx c = {0};
	struct cap_sets none = {0};
	struct step no_slot = {.slot = -1, .seccomp = {.seccomp = &s}};

	CHECK(step_seccomp(&c, &no_slot) == -EINVAL);
	CHECK_MSG("was not handed over");
	CHECK(cap_sets_write(&none) == 0);
	CHECK(load(&s, &c, (struct step){0}) == -EACCES);
	CHECK_MSG("needs CAP_SYS_ADMIN in the container's user namespace, or "
		  "process.noNewPrivileges");
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	int fd = open("/dev/null", O_RDONLY);
	c.slots = &fd;
	struct step empty = {.slot = 0, .seccomp = {.seccomp = &s}};
	CHECK(step_seccomp(&c, &empty) == -EINVAL);
	CHECK_MSG("is 0 bytes long");
	CHECK(load(&s, &c, (struct step){0}) == 0);
}

static void test_load_errors(void **state)
{
	needs_root();
	in_child(load_errors);
}

static void drops_what_was_kept(void)
{
	const uint64_t chown_bit = 1 << CAP_CHOWN, admin_bit = 1 << CAP_SYS_ADMIN;
	const struct spec_capabilities caps = {
		.bounding = chown_bit, .effective = chown_bit, .permitted = chown_bit};
	struct spec_seccomp s = {.default_action = SCMP_ACT_ALLOW};
	struct step step = {.caps = {.caps = &caps, .keep_sys_admin = true}};
	struct step_ctx c = {0};
	struct cap_sets sets;

	CHECK(step_capabilities(&c, &step) == 0);
	CHECK(cap_sets_read(&sets) == 0 && sets.permitted == (chown_bit | admin_bit));
	CHECK(load(&s, &c, (struct step){.seccomp = {.final_caps = &caps, .drop_caps = true}}) ==
		0);
	CHECK(cap_sets_read(&sets) == 0);
	CHECK(sets.permitted == chown_bit && sets.effective == chown_bit);
	/*
	 * If the step names no final capabilities, the process must have no capability left after
	 * it has loaded the filter.
	 */
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(load(&s, &c, (struct step){.seccomp = {.drop_caps = true}}) == 0);
	CHECK(cap_sets_read(&sets) == 0 && sets.permitted == 0 && sets.effective == 0);
}

/*
 * Checks that a filter that denies capset(2) can be loaded. execve(2) then drops the capabilities,
 * because the process cannot do so itself.
 */
static void drop_is_denied(void)
{
	const uint64_t chown_bit = 1 << CAP_CHOWN;
	const struct spec_capabilities caps = {
		.bounding = chown_bit, .effective = chown_bit, .permitted = chown_bit};
	const struct spec_seccomp_rule rules[] = {
		{.names = NAMES("capset"), .action = SCMP_ACT_ERRNO(EPERM)}};
	struct spec_seccomp s = PROFILE(SCMP_ACT_ALLOW, rules);
	struct step step = {.caps = {.caps = &caps, .keep_sys_admin = true}};
	struct step_ctx c = {0};

	CHECK(step_capabilities(&c, &step) == 0);
	CHECK(load(&s, &c, (struct step){.seccomp = {.final_caps = &caps, .drop_caps = true}}) ==
		0);
	execl("/bin/sh", "sh", "-c",
		"while read k v; do case $k in CapPrm:|CapEff:) [ $v = 0000000000000001 ] || exit "
		"4;; "
		"esac; done </proc/self/status; exit 0",
		NULL);
	_exit(5);
}

static void test_drop(void **state)
{
	needs_root();
	in_child(drops_what_was_kept);
	in_child(drop_is_denied);
}

static int send_over(void *data, const char *what, int fd)
{
	return fd_send(*(int *)data, what, strlen(what), fd);
}

static void ask_the_agent(int sock)
{
	/*
	 * The process must be able to send the filter's listener to the seccomp agent with
	 * sendmsg(2), although the filter asks the agent about this call too.
	 */
	const struct spec_seccomp_rule rules[] = {
		{.names = NAMES("getppid", "sendmsg"), .action = SCMP_ACT_NOTIFY}};
	struct spec_seccomp s = PROFILE(SCMP_ACT_ALLOW, rules);
	struct step_ctx c = {.peer = {.data = &sock, .send_fd = send_over}};

	s.notify = true;
	/*
	 * The kernel does not allow TSYNC together with a listener, so the profile's flag must not
	 * be passed on.
	 */
	s.flags = SECCOMP_FILTER_FLAG_TSYNC;
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(load(&s, &c, (struct step){0}) == 0);
	CHECK(syscall(SYS_getppid) == 4242);
	/*
	 * The kernel allows only one seccomp listener in a process, so loading a second filter with
	 * a listener must be an error.
	 */
	CHECK(load(&s, &c, (struct step){0}) == -EBUSY);
	CHECK_MSG("under a filter with a listener already");
}

static void test_notify(void **state)
{
	_cleanup_fd_ int listener = -EBADF;
	struct seccomp_notif ask = {0};
	char what[16] = "";
	int socks[2], status;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks), 0);
	pid_t pid = fork();
	if (pid == 0) {
		alarm(30);
		ask_the_agent(socks[1]);
		_exit(0);
	}
	close(socks[1]);
	assert_int_equal(fd_recv(socks[0], what, sizeof(what) - 1, &listener), 7);
	assert_string_equal(what, "seccomp");
	assert_true(listener >= 0);
	assert_int_equal(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &ask), 0);
	assert_int_equal(ask.data.nr, SYS_getppid);
	struct seccomp_notif_resp answer = {.id = ask.id, .val = 4242};
	assert_int_equal(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(socks[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_effects),
		cmocka_unit_test(test_load_errors),
		cmocka_unit_test(test_drop),
		cmocka_unit_test(test_notify),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
