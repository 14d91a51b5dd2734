/* SPDX-License-Identifier: Apache-2.0 */
/* Tests the effects of step/process.c and step/kernel.c in forked children. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "base/path.h"
#include "step/caps.h"
#include "step/step.h"
#include "unit/rig/child.h"

static struct step_ctx context(void)
{
	struct step_ctx c = {.root = -EBADF, .console = -EBADF, .proc = path_open_proc()};

	CHECK(c.proc >= 0);
	return c;
}

static void drop_cap(int cap)
{
	struct cap_sets sets;

	CHECK(cap_sets_read(&sets) == 0);
	sets.effective &= ~(UINT64_C(1) << cap);
	sets.permitted &= ~(UINT64_C(1) << cap);
	CHECK(cap_sets_write(&sets) == 0);
}

static void proc_text(const char *path, char *buf, size_t size)
{
	_cleanup_strbuf_ struct strbuf b = {0};

	CHECK(fd_read_file(AT_FDCWD, path, &b, size - 1) == 0);
	memcpy(buf, strbuf_str(&b), b.len + 1);
	buf[strcspn(buf, "\n")] = '\0';
}

static void run_rlimits(void)
{
	const struct spec_rlimit limits[] = {
		{RLIMIT_NOFILE, "RLIMIT_NOFILE", 64, 128},
		{RLIMIT_CORE, "RLIMIT_CORE", 0, 0},
	};
	const struct spec_rlimit raise[] = {limits[1], {RLIMIT_NOFILE, "RLIMIT_NOFILE", 64, 256}};
	const struct spec_rlimit upside_down[] = {{RLIMIT_NOFILE, "RLIMIT_NOFILE", 65, 64}};
	struct spec_process p = {.rlimits = limits, .nrlimits = 2};
	struct step s = {.process = &p};
	struct step_ctx c = context();
	struct rlimit now;

	CHECK(step_rlimits(&c, &s) == 0);
	CHECK(getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_cur == 64 && now.rlim_max == 128);
	CHECK(getrlimit(RLIMIT_CORE, &now) == 0 && now.rlim_cur == 0 && now.rlim_max == 0);
	drop_cap(CAP_SYS_RESOURCE);
	p.rlimits = raise;
	CHECK(step_rlimits(&c, &s) == -EPERM);
	CHECK_MSG("entry 1, RLIMIT_NOFILE");
	CHECK_MSG("from 128 to 256 needs CAP_SYS_RESOURCE");
	p.rlimits = upside_down;
	p.nrlimits = 1;
	CHECK(step_rlimits(&c, &s) == -EINVAL);
	CHECK_MSG("soft (65) is above hard (64)");
}

static void run_rlimits_of_another(void)
{
	const struct spec_rlimit limits[] = {{RLIMIT_NOFILE, "RLIMIT_NOFILE", 77, 99}};
	struct spec_process p = {.rlimits = limits, .nrlimits = 1, .oom_score_adj = {true, 321}};
	struct step_ctx c = context();
	struct rlimit now;
	char path[64], text[32];
	int status;

	pid_t pid = fork();
	if (pid == 0) {
		pause();
		_exit(0);
	}
	CHECK(process_set_rlimits(&p, pid) == 0);
	CHECK(prlimit(pid, RLIMIT_NOFILE, NULL, &now) == 0);
	CHECK(now.rlim_cur == 77 && now.rlim_max == 99);
	CHECK(process_set_oom_score(&p, c.proc, pid) == 0);
	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", pid);
	proc_text(path, text, sizeof(text));
	CHECK(streq(text, "321"));
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
}

static void run_oom_score(void)
{
	struct spec_process p = {.oom_score_adj = {true, 500}};
	struct step s = {.process = &p};
	struct step_ctx c = context();
	char text[32];

	CHECK(step_oom_score(&c, &s) == 0);
	proc_text("/proc/self/oom_score_adj", text, sizeof(text));
	CHECK(streq(text, "500"));
	drop_cap(CAP_SYS_RESOURCE);
	p.oom_score_adj.v = -1000;
	CHECK(step_oom_score(&c, &s) == -EACCES);
	CHECK_MSG("-1000: lowering the OOM score adjustment needs CAP_SYS_RESOURCE");
	p.oom_score_adj.v = 500;
	CHECK(step_oom_score(&c, &s) == 0);
}

static void run_scheduler(void)
{
	struct spec_scheduler sched = {.policy = SCHED_BATCH, .nice = 5};
	struct spec_process p = {.scheduler = &sched};
	struct step s = {.process = &p};
	struct step_ctx c = context();

	CHECK(step_scheduler(&c, &s) == 0);
	CHECK(sched_getscheduler(0) == SCHED_BATCH);
	CHECK(getpriority(PRIO_PROCESS, 0) == 5);
	sched = (struct spec_scheduler){.policy = SCHED_OTHER, .priority = 3};
	CHECK(step_scheduler(&c, &s) == -EINVAL);
	CHECK_MSG("a priority of 1 to 99 for SCHED_FIFO");
	drop_cap(CAP_SYS_NICE);
	sched = (struct spec_scheduler){.policy = SCHED_FIFO, .priority = 3};
	CHECK(step_scheduler(&c, &s) == -EPERM);
	CHECK_MSG("CAP_SYS_NICE");
}

static void run_io_priority(void)
{
	struct spec_process p = {.io_priority = {true, 2 << 13 | 6}};
	struct step s = {.process = &p};
	struct step_ctx c = context();

	CHECK(step_io_priority(&c, &s) == 0);
	CHECK(syscall(SYS_ioprio_get, 1, 0) == (2 << 13 | 6));
	drop_cap(CAP_SYS_ADMIN);
	drop_cap(CAP_SYS_NICE);
	p.io_priority.v = 1 << 13;
	CHECK(step_io_priority(&c, &s) == -EPERM);
	CHECK_MSG("class 1, priority 0: the real-time class");
}

static void run_affinity(void)
{
	struct step s = {.text = "0"};
	struct step_ctx c = context();
	cpu_set_t set;

	CHECK(step_affinity(&c, &s) == 0);
	CHECK(sched_getaffinity(0, sizeof(set), &set) == 0);
	CHECK(CPU_COUNT(&set) == 1 && CPU_ISSET(0, &set));
	s.text = NULL;
	CHECK(step_affinity(&c, &s) == 0);
	CHECK(sched_getaffinity(0, sizeof(set), &set) == 0);
	CHECK(CPU_COUNT(&set) == sysconf(_SC_NPROCESSORS_ONLN));
	s.text = "8000-8100";
	CHECK(step_affinity(&c, &s) == -EINVAL);
	CHECK_MSG("none of these CPUs is online");
	s.text = "0-";
	CHECK(step_affinity(&c, &s) == -EINVAL);
	s.text = "9000";
	CHECK(step_affinity(&c, &s) == -ERANGE);
}

static void run_memory_policy(void)
{
	struct spec_memory_policy m = {.mode = MPOL_BIND, .nodes = "0"};
	struct step s = {.mempolicy = &m};
	struct step_ctx c = context();
	unsigned long mask[16] = {0};
	int mode = -1;

	if (syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, 0) < 0 && errno == ENOSYS) {
		CHECK(step_memory_policy(&c, &s) == -ENOSYS);
		CHECK_MSG("no NUMA support");
		return;
	}
	CHECK(step_memory_policy(&c, &s) == 0);
	CHECK(syscall(SYS_get_mempolicy, &mode, mask, 8 * sizeof(mask), NULL, 0) == 0);
	CHECK(mode == MPOL_BIND && mask[0] == 1);
	m = (struct spec_memory_policy){.mode = MPOL_DEFAULT};
	CHECK(step_memory_policy(&c, &s) == 0);
	CHECK(syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, 0) == 0 && mode == MPOL_DEFAULT);
	m = (struct spec_memory_policy){.mode = MPOL_BIND, .nodes = "1000"};
	CHECK(step_memory_policy(&c, &s) == -EINVAL);
	CHECK_MSG("nodes \"1000\"");
}

static void run_execution_domain(void)
{
	struct step s = {.number = PER_LINUX32};
	struct step_ctx c = context();

	CHECK(step_personality(&c, &s) == 0);
	CHECK(personality(0xffffffff) == PER_LINUX32);
}

static long session_keyring(void)
{
	return syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0);
}

static void run_keyring(void)
{
	struct step s = {.text = NULL};
	struct step_ctx c = context();
	char text[256] = "";
	unsigned perm = 0;

	long before = session_keyring();
	if (before < 0 && errno == ENOSYS)
		_exit(CHILD_SKIPPED);
	CHECK(step_keyring(&c, &s) == 0);
	long anonymous = session_keyring();
	CHECK(anonymous > 0 && anonymous != before);
	s.text = "_ses.caisson-test";
	CHECK(step_keyring(&c, &s) == 0);
	long named = session_keyring();
	CHECK(named > 0 && named != anonymous);
	CHECK(syscall(SYS_keyctl, KEYCTL_DESCRIBE, named, text, sizeof(text)) > 0);
	CHECK(sscanf(text, "keyring;%*d;%*d;%x;", &perm) == 1);
	CHECK(perm & 0x80000);
	CHECK(strstr(text, "_ses.caisson-test"));
}

static void run_exec_label(void)
{
	struct spec_process p = {.apparmor_profile = "caisson-no-such-profile"};
	struct step s = {.process = &p};
	struct step_ctx c = context();

	CHECK(step_exec_label(&c, &s) < 0);
	CHECK_MSG("\"caisson-no-such-profile\": ");
	/*
	 * The error about the AppArmor profile must not contain "no such file", whether AppArmor is
	 * there or not, because engines would take these words to mean that the program is missing.
	 */
	CHECK(!strcasestr(err_msg(), "no such file"));
	p = (struct spec_process){.selinux_label = "a:b:c:s0"};
	CHECK(step_exec_label(&c, &s) < 0);
	CHECK_MSG("\"a:b:c:s0\"");
	CHECK_MSG("SELinux");
}

static void run_names(void)
{
	char long_name[80];
	struct step s = {.text = "box-1"};
	struct step_ctx c = context();
	struct utsname u;

	CHECK(unshare(CLONE_NEWUTS) == 0);
	CHECK(step_hostname(&c, &s) == 0);
	s.text = "example.org";
	CHECK(step_domainname(&c, &s) == 0);
	CHECK(uname(&u) == 0);
	CHECK(streq(u.nodename, "box-1") && streq(u.domainname, "example.org"));
	memset(long_name, 'a', sizeof(long_name));
	long_name[sizeof(long_name) - 1] = '\0';
	s.text = long_name;
	CHECK(step_hostname(&c, &s) == -EINVAL);
	CHECK_MSG("is 79 bytes long: the kernel takes at most 64");
	drop_cap(CAP_SYS_ADMIN);
	s.text = "other";
	CHECK(step_hostname(&c, &s) == -EPERM);
	CHECK_MSG("{\"type\": \"uts\"}");
}

static void run_sysctl(void)
{
	struct step s = {.pair = {"net.ipv4.ip_forward", "1"}};
	struct step_ctx c = context();
	char text[64];

	CHECK(unshare(CLONE_NEWNET | CLONE_NEWIPC) == 0);
	CHECK(step_sysctl(&c, &s) == 0);
	proc_text("/proc/sys/net/ipv4/ip_forward", text, sizeof(text));
	CHECK(streq(text, "1"));
	s.pair = (struct spec_pair){"kernel/shmmni", "777"};
	CHECK(step_sysctl(&c, &s) == 0);
	proc_text("/proc/sys/kernel/shmmni", text, sizeof(text));
	CHECK(streq(text, "777"));
	/*
	 * The sysctl of an interface that has a dot in its name can be written in two ways, and
	 * both must work.
	 */
	CHECK(system("ip link add name v.9 type dummy 2>/dev/null || ip link add name v.9 type "
		     "bridge") == 0);
	s.pair = (struct spec_pair){"net/ipv4/conf/v.9/forwarding", "0"};
	CHECK(step_sysctl(&c, &s) == 0);
	proc_text("/proc/sys/net/ipv4/conf/v.9/forwarding", text, sizeof(text));
	CHECK(streq(text, "0"));
	s.pair = (struct spec_pair){"net.ipv4.conf.v/9.forwarding", "1"};
	CHECK(step_sysctl(&c, &s) == 0);
	proc_text("/proc/sys/net/ipv4/conf/v.9/forwarding", text, sizeof(text));
	CHECK(streq(text, "1"));

	s.pair = (struct spec_pair){"net.nope", "1"};
	CHECK(step_sysctl(&c, &s) == -ENOENT);
	CHECK_MSG("\"net.nope\": the kernel has no such parameter");
	CHECK(!strcasestr(err_msg(), "no such file"));
	s.pair = (struct spec_pair){"net.ipv4.ip_forward", "many"};
	CHECK(step_sysctl(&c, &s) == -EINVAL);
	CHECK_MSG("does not take the value \"many\"");
	static const char *const bad[] = {
		"", ".", "..", "net/../../self/mem", "/net/x", "net..x", "net.x.", "net/./x"};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		s.pair = (struct spec_pair){bad[i], "1"};
		CHECK(step_sysctl(&c, &s) == -EINVAL);
		CHECK_MSG("is not the name of a kernel parameter");
	}
}

ROOT_CHILD_TEST(rlimits)
ROOT_CHILD_TEST(rlimits_of_another)
ROOT_CHILD_TEST(oom_score)
ROOT_CHILD_TEST(scheduler)
ROOT_CHILD_TEST(io_priority)
ROOT_CHILD_TEST(affinity)
ROOT_CHILD_TEST(memory_policy)
ROOT_CHILD_TEST(execution_domain)
ROOT_CHILD_TEST(keyring)
ROOT_CHILD_TEST(exec_label)
ROOT_CHILD_TEST(names)
ROOT_CHILD_TEST(sysctl)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rlimits),
		cmocka_unit_test(test_rlimits_of_another),
		cmocka_unit_test(test_oom_score),
		cmocka_unit_test(test_scheduler),
		cmocka_unit_test(test_io_priority),
		cmocka_unit_test(test_affinity),
		cmocka_unit_test(test_memory_policy),
		cmocka_unit_test(test_execution_domain),
		cmocka_unit_test(test_keyring),
		cmocka_unit_test(test_exec_label),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_sysctl),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
