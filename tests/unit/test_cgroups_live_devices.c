/* SPDX-License-Identifier: Apache-2.0 */
/* The device program of a cgroup on this machine's kernel. Needs root and a cgroup2 mount. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>

#include "unit/rig/cgroup.h"
#include "unit/rig/cgroup_live.h"

struct device_test {
	const char *path;
	int flags;
};

/* Returns 0 if the device can be opened, or else the errno. */
static int try_open(void *arg)
{
	const struct device_test *t = arg;
	int fd = open(t->path, t->flags | O_NONBLOCK);

	return fd < 0 ? errno : 0;
}

static int try_mknod(void *arg)
{
	char path[64];

	snprintf(path, sizeof(path), "%s.made", (const char *)arg);
	int r = mknod(path, S_IFCHR | 0600, makedev(1, 11)) < 0 ? errno : 0;
	unlink(path);
	return r;
}

static void set_devices(struct fixture *f, const struct cg_device_rule *rules, size_t n)
{
	struct cg_resources res = {.devices = rules, .ndevices = n};

	OK(cg_apply(&f->cg, &res));
}

static uint32_t count_programs(struct fixture *f)
{
	uint32_t ids[64];
	int dir = cg_open(&f->cg);
	union bpf_attr attr = {.query = {.target_fd = (uint32_t)dir,
				       .attach_type = BPF_CGROUP_DEVICE,
				       .prog_ids = (uint64_t)(uintptr_t)ids,
				       .prog_cnt = 64}};

	OK(dir);
	assert_int_equal(syscall(SYS_bpf, BPF_PROG_QUERY, &attr, sizeof(attr)), 0);
	close(dir);
	return attr.query.prog_cnt;
}

static void test_devices(void **state)
{
	struct fixture *f = live_fixture(state);
	char node[] = "/tmp/caisson-unit-XXXXXX";
	struct device_test rd = {node, O_RDONLY}, wr = {node, O_WRONLY}, both = {node, O_RDWR},
			   null = {"/dev/null", O_RDWR};
	const struct cg_device_rule deny = {false, 'a', -1, -1, "rwm"},
				    one[] = {deny, {true, 'c', 1, 11, "r"}},
				    other[] = {deny, {true, 'c', 1, -1, "rw"},
					    {false, 'c', -1, 11, "r"}},
				    all[] = {deny, {true, 'a', -1, -1, "rwm"}};

	close(mkstemp(node));
	unlink(node);
	if (mknod(node, S_IFCHR | 0600, makedev(1, 11)) < 0 || try_open(&both)) { /* /dev/kmsg */
		unlink(node);
		fprintf(stderr, "device nodes can't be used in /tmp\n");
		skip();
	}
	assert_int_equal(fixture_run(f, try_open, &both), 0);
	set_devices(f, one, 1);
	assert_int_equal(count_programs(f), 1);
	assert_int_equal(fixture_run(f, try_open, &rd), EPERM);
	assert_int_equal(fixture_run(f, try_open, &wr), EPERM);
	assert_int_equal(fixture_run(f, try_open, &null), 0);
	assert_int_equal(fixture_run(f, try_mknod, node), 0);
	set_devices(f, one, 2);
	assert_int_equal(fixture_run(f, try_open, &rd), 0);
	assert_int_equal(fixture_run(f, try_open, &wr), EPERM);
	assert_int_equal(fixture_run(f, try_open, &both), EPERM);
	set_devices(f, other, 3);
	assert_int_equal(count_programs(f), 1);
	assert_int_equal(fixture_run(f, try_open, &rd), EPERM);
	assert_int_equal(fixture_run(f, try_open, &wr), 0);
	/*
	 * An update without rules leaves the present ones. A list that denies nothing leaves no
	 * program behind.
	 */
	set_devices(f, NULL, 0);
	assert_int_equal(count_programs(f), 1);
	set_devices(f, all, 2);
	assert_int_equal(count_programs(f), 0);
	assert_int_equal(fixture_run(f, try_open, &both), 0);
	unlink(node);
}

/*
 * Opens a denied device again and again while the test replaces the rules. No attempt may succeed.
 */
static int hammer(void *arg)
{
	struct timespec t0, t;

	clock_gettime(CLOCK_MONOTONIC, &t0);
	do {
		if (try_open(arg) == 0)
			return 1;
		clock_gettime(CLOCK_MONOTONIC, &t);
	} while (t.tv_sec * 1000 + t.tv_nsec / 1000000 <
		 t0.tv_sec * 1000 + t0.tv_nsec / 1000000 + 300);
	return 0;
}

static void test_devices_replaced_at_once(void **state)
{
	struct fixture *f = live_fixture(state);
	char node[] = "/tmp/caisson-unit-XXXXXX";
	struct device_test t = {node, O_RDONLY};
	const struct cg_device_rule rules[] = {
		{false, 'a', -1, -1, "rwm"}, {true, 'c', 10, 229, "r"}};
	int status;

	close(mkstemp(node));
	unlink(node);
	if (mknod(node, S_IFCHR | 0600, makedev(1, 11)) < 0)
		skip();
	set_devices(f, rules, 1);
	pid_t pid = fixture_spawn(f, hammer, &t);
	for (int i = 0; waitpid(pid, &status, WNOHANG) == 0; i++)
		set_devices(f, rules, 1 + i % 2);
	f->nchildren--;
	unlink(node);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(count_programs(f), 1);
}

#define LIVE(t) cmocka_unit_test_setup_teardown(t, live_setup, live_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LIVE(test_devices),
		LIVE(test_devices_replaced_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
