/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests cgroups/ with a real systemd as process 1: scopes of the system's systemd and of a user's.
 * The tests run on the test host (tests/host/run --systemd); elsewhere each test skips itself and
 * says what is missing.
 */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "host/v2_fixture.h"

static int setup_systemd(void **state)
{
	struct stat st;

	*state = NULL;
	if (lstat("/run/systemd/system", &st) < 0) {
		fprintf(stderr, "skipped: systemd is not process 1 here\n");
		return 0;
	}
	return open_fixture(state, CG_SYSTEMD);
}

/*
 * Checks that systemd has each of these lines "PROPERTY=VALUE" for the container's scope. The
 * function reads all properties with one call of systemctl.
 */
static void expect_unit(struct fixture *f, const char *lines)
{
	static char text[65536];
	char command[400], line[128];

	snprintf(command, sizeof(command), "systemctl show %s", f->cg.scope);
	FILE *p = popen(command, "re");
	assert_non_null(p);
	text[0] = '\n';
	size_t n = 1 + fread(text + 1, 1, sizeof(text) - 2, p);
	text[n] = '\0';
	pclose(p);
	for (; *lines; lines += strcspn(lines, "\n"), lines += *lines == '\n') {
		int len =
			snprintf(line, sizeof(line), "\n%.*s\n", (int)strcspn(lines, "\n"), lines);
		const char *found = strstr(text, line);
		/* the assertion fails, and its message shows the value that systemd has */
		if (!found) {
			line[strcspn(line, "=") + 1] = '\0';
			found = strstr(text, line);
			fail_msg("%.*s: systemd says %.*s", (int)strcspn(lines, "\n"), lines,
				found ? (int)strcspn(found + 1, "\n") : 7,
				found ? found + 1 : "nothing");
		}
		assert_true(len < (int)sizeof(line));
	}
}

static pid_t start_scope(struct fixture *f, const struct cg_resources *res)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(sleep_for_ever(NULL));
	f->children[f->nchildren++] = pid;
	OK(cg_attach(&f->arena, &f->cg, &f->opt, res, pid));
	return pid;
}

static void test_scope(void **state)
{
	struct fixture *f = *state;
	static const struct cg_unified properties[] = {{"TimeoutStopSec", "uint64 7"},
		{"CollectMode", "'inactive-or-failed'"},
		{"After", "['basic.target', 'local-fs.target']"}};
	const struct cg_device_rule deny = {false, 'a', -1, -1, "rwm"};
	struct cg_resources res = {.memory.limit = given(64 * MB),
		.memory.swap = given(64 * MB),
		.cpu.shares = given_u(2048),
		.cpu.quota = given(25000),
		.cpu.period = given_u(50000),
		.cpu.cpus = "0",
		.pids_limit = given(9),
		.devices = &deny,
		.ndevices = 1};
	struct cg_hugepage_limit h = {"2MB", 4 * MB};

	if (!f)
		skip();
	f->opt.cgroups_path = arena_printf(&f->arena, "caisson-test.slice:box:%s", f->opt.id);
	f->opt.systemd_properties = properties;
	f->opt.nsystemd_properties = ARRAY_SIZE(properties);
	/* systemd does not know the controller hugetlb, so caisson must enable hugetlb itself */
	res.hugepages = &h;
	res.nhugepages = 1;
	OK(cg_resolve(&f->arena, &f->opt, &f->cg));
	assert_null(f->cg.path);
	assert_false(cg_clone_into(&f->cg));
	start_scope(f, &res);
	assert_non_null(strstr(f->cg.path, "/caisson.slice/caisson-test.slice/box-"));
	OK(cg_apply(&f->cg, &res));
	expect_unit(f, "MemoryMax=67108864\nCPUWeight=174\nCPUQuotaPerSecUSec=500ms\nTasksMax=9\n"
		       "AllowedCPUs=0\nDelegate=yes\nTimeoutStopUSec=7s\n"
		       "CollectMode=inactive-or-failed\nSlice=caisson-test.slice");
	fixture_expect(f, "memory.max", "67108864");
	fixture_expect(f, "memory.swap.max", "0");
	fixture_expect(f, "cpu.max", "25000 50000");
	fixture_expect(f, "pids.max", "9");
	fixture_expect(f, "hugetlb.2MB.max", "4194304");
	/*
	 * A second process enters the container's running scope by a write to cgroup.procs. The
	 * update of limits after that must still reach both systemd and the kernel.
	 */
	fixture_spawn(f, sleep_for_ever, NULL);
	f->cg.unit_current = false;
	res = (struct cg_resources){.memory.limit = given(128 * MB), .pids_limit = given(-1)};
	OK(cg_apply(&f->cg, &res));
	expect_unit(f, "MemoryMax=134217728");
	fixture_expect(f, "memory.max", "134217728");
	fixture_expect(f, "pids.max", "max");
	OK(cg_freeze(&f->cg, true));
	OK(cg_destroy(&f->cg));
	expect_unit(f, "LoadState=not-found");
	assert_int_equal(cg_open(&f->cg), -ENOENT);
	OK(cg_destroy(&f->cg));
}

struct file_text {
	const char *file, *text;
};

static void expect_all(struct fixture *f, const struct file_text *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		fixture_expect(f, v[i].file, v[i].text);
}

/*
 * Checks that a limit that an update does not mention stays as it is, in the kernel's files and in
 * systemd, even after systemd has written the files again.
 */
static void test_scope_update(void **state)
{
	struct fixture *f = *state;
	struct cg_unified u[] = {{"memory.high", "33554432"}, {"memory.oom.group", "1"}};
	static const struct cg_unified policy = {"OOMPolicy", "'kill'"};
	struct cg_device_value device = {0, 0, 300};
	unsigned major, minor;

	if (!f)
		skip();
	assert_true(find_disk(&major, &minor));
	device.major = major;
	device.minor = minor;
	const struct cg_resources first = {.memory.limit = given(64 * MB),
		.memory.reservation = given(8 * MB),
		.memory.swap = given(96 * MB),
		.cpu.shares = given_u(2048),
		.cpu.quota = given(10000),
		.cpu.period = given_u(50000),
		.cpu.cpus = "0",
		.cpu.mems = "0",
		.pids_limit = given(9),
		.block_io = {.weight = given_u(500), .weight_device = {&device, 1}},
		.unified = u,
		.nunified = ARRAY_SIZE(u)};
	const struct cg_resources idle = {.cpu.idle = given(1)}, busy = {.cpu.idle = given(0)};
	const struct cg_resources odd = {.cpu.quota = given(12345)};
	const struct cg_resources partial[] = {{.memory.swap = given(80 * MB)},
		{.cpu.quota = given(20000)}, {.cpu.period = given_u(40000)},
		{.pids_limit = given(0)}, {.memory.reservation = given(4 * MB)}};
	const struct file_text after[] = {{"memory.max", "67108864"}, {"memory.low", "4194304"},
		{"memory.high", "33554432"}, {"memory.swap.max", "16777216"},
		{"cpu.max", "20000 40000"}, {"cpu.weight", "100"}, {"cpu.idle", "0"},
		{"memory.oom.group", "1"}, {"cpuset.cpus", "0"}, {"cpuset.mems", "0"},
		{"pids.max", "1"},
		{"io.bfq.weight", arena_printf(&f->arena, "default 500\n%u:%u 300", major, minor)}};

	/* OOMPolicy is systemd's property for memory.oom.group */
	f->opt.systemd_properties = &policy;
	f->opt.nsystemd_properties = 1;
	start_scope(f, &first);
	fixture_apply(f, &first);
	f->cg.unit_current = false;
	expect_unit(f, "MemoryLow=8388608\n"
		       "MemoryHigh=33554432\n"
		       "AllowedMemoryNodes=0\n"
		       "IOWeight=4500\n"
		       "CPUWeight=174");
	fixture_apply(f, &idle);
	fixture_expect(f, "cpu.idle", "1");
	expect_unit(f, "CPUWeight=idle");
	fixture_apply(f, &busy);
	fixture_apply(f, &odd);
	/*
	 * systemd rounds a quota to whole percents, so the exact value shows that caisson wrote the
	 * file again after systemd.
	 */
	fixture_expect(f, "cpu.max", "12345 50000");
	for (size_t i = 0; i < ARRAY_SIZE(partial); i++)
		fixture_apply(f, &partial[i]);
	expect_unit(f, "CPUQuotaPerSecUSec=500ms\n"
		       "TasksMax=1");
	expect_all(f, after, ARRAY_SIZE(after));
	assert_int_equal(system("systemctl daemon-reload"), 0);
	expect_all(f, after, ARRAY_SIZE(after));
}

/*
 * Checks that the scope of a container can be removed although caisson does not know the scope's
 * path. `delete --force` has to do so if caisson was killed after it had started the scope and
 * before it had stored the path.
 */
static void test_scope_without_path(void **state)
{
	struct fixture *f = *state;

	if (!f)
		skip();
	pid_t pid = start_scope(f, NULL);
	assert_non_null(strstr(f->cg.path, "/system.slice/caisson-v2-"));
	struct cgroup lost = f->cg;
	lost.path = NULL;
	OK(cg_destroy(&lost));
	assert_int_equal(WTERMSIG(fixture_wait(f, pid)), SIGKILL);
	expect_unit(f, "LoadState=not-found");
}

static void test_scope_errors(void **state)
{
	struct fixture *f = *state;
	struct cg_unified bad = {"NoSuchProperty", "5"}, text = {"TimeoutStopSec", "'x"};

	if (!f)
		skip();
	pid_t pid = start_scope(f, NULL);
	struct cgroup second = f->cg;
	second.path = NULL;
	assert_true(cg_attach(&f->arena, &second, &f->opt, NULL, pid) < 0);
	assert_non_null(strstr(err_msg(), "already"));
	struct cg_options opt = f->opt;
	opt.id = "other";
	opt.systemd_properties = &bad;
	opt.nsystemd_properties = 1;
	OK(cg_resolve(&f->arena, &opt, &second));
	assert_true(cg_attach(&f->arena, &second, &opt, NULL, pid) < 0);
	assert_non_null(strstr(err_msg(), "NoSuchProperty"));
	opt.systemd_properties = &text;
	assert_int_equal(cg_attach(&f->arena, &second, &opt, NULL, pid), -EINVAL);
	assert_non_null(strstr(err_msg(), "org.systemd.property.TimeoutStopSec"));
}

#define USER 65534

struct user_test {
	struct fixture *f;
	bool in_user_namespace;
	/* text that says what failed; the memory is shared by the test and its child process */
	char message[512];
};

static int user_fail(struct user_test *t, const char *what)
{
	snprintf(t->message, sizeof(t->message), "%s: %s", what, err_msg());
	return 1;
}

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		_exit(98);
	close(fd);
}

/*
 * Tests scopes as an ordinary user, with the user's systemd. The test calls this function twice,
 * the second time in a user namespace of which the user is root, because podman calls caisson so.
 */
static int as_user(struct user_test *t)
{
	struct fixture *f = t->f;
	struct cg_resources res = {.pids_limit = given(9)};
	struct cg_options opt = {.manager = CG_SYSTEMD,
		.id = t->in_user_namespace ? "ns" : "user",
		.rootless = true};
	char dir[64];

	snprintf(dir, sizeof(dir), "/run/user/%d", USER);
	setenv("XDG_RUNTIME_DIR", dir, 1);
	unsetenv("DBUS_SESSION_BUS_ADDRESS");
	if (setresgid(USER, USER, USER) < 0 || setresuid(USER, USER, USER) < 0)
		return user_fail(t, "setresuid");
	/*
	 * The change of the uid has made the process non-dumpable, which gives /proc/self to root.
	 * This call undoes that.
	 */
	prctl(PR_SET_DUMPABLE, 1);
	if (t->in_user_namespace) {
		if (unshare(CLONE_NEWUSER) < 0)
			return user_fail(t, "unshare");
		write_text("/proc/self/setgroups", "deny");
		snprintf(dir, sizeof(dir), "0 %d 1", USER);
		write_text("/proc/self/uid_map", dir);
		write_text("/proc/self/gid_map", dir);
	}
	pid_t first = fork();
	if (first == 0)
		_exit(sleep_for_ever(NULL));
	pid_t second = fork();
	if (second == 0)
		_exit(sleep_for_ever(NULL));
	if (cg_resolve(&f->arena, &opt, &f->cg) < 0 ||
		cg_attach(&f->arena, &f->cg, &opt, &res, first) < 0)
		return user_fail(t, "start");
	if (!strstr(f->cg.path, "/user@65534.service/user.slice/caisson-"))
		return user_fail(t, f->cg.path);
	if (cg_apply(&f->cg, &res) < 0 || !streq(fixture_read(f, "pids.max"), "9"))
		return user_fail(t, "limit");
	/*
	 * The second process is in a cgroup of the system, from which the kernel does not let an
	 * ordinary user move it. So cg_attach() must ask the user's systemd to move it.
	 */
	if (cg_attach(&f->arena, &f->cg, &opt, NULL, second) < 0)
		return user_fail(t, "second process");
	const char *path;
	if (cg_of_process(&f->arena, second, &path) < 0 || !streq(path, f->cg.path))
		return user_fail(t, "second process elsewhere");
	if (cg_destroy(&f->cg) < 0)
		return user_fail(t, "destroy");
	return cg_open(&f->cg) == -ENOENT ? 0 : user_fail(t, "still there");
}

static void test_scope_user(void **state)
{
	struct user_test *t =
		mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char command[128];
	int status;

	if (!*state || !getenv("CAISSON_TEST_HOST")) {
		fprintf(stderr,
			"skipped: starts a systemd for uid %d, for which a throw-away host is "
			"needed\n",
			USER);
		skip();
	}
	snprintf(command, sizeof(command), "systemctl start user@%d.service", USER);
	assert_int_equal(system(command), 0);
	t->f = *state;
	t->message[0] = '\0';
	for (int round = 0; round < 2; round++) {
		t->in_user_namespace = round == 1;
		pid_t pid = fork();
		if (pid == 0)
			_exit(as_user(t));
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (!WIFEXITED(status) || WEXITSTATUS(status))
			fail_msg("round %d: %#x %s", round, (unsigned)status, t->message);
	}
	snprintf(command, sizeof(command), "systemctl stop user@%d.service", USER);
	assert_int_equal(system(command), 0);
}

#define SCOPE(t) cmocka_unit_test_setup_teardown(t, setup_systemd, v2_teardown)

/* Runs all tests, or the one that the argument names. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		SCOPE(test_scope),
		SCOPE(test_scope_update),
		SCOPE(test_scope_without_path),
		SCOPE(test_scope_errors),
		SCOPE(test_scope_user),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
