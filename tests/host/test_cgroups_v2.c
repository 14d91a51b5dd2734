/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests cgroups/ on a machine where cgroup v2 has all controllers. The tests check every property
 * of linux.resources in the kernel's files, and its effect if the effect can be seen. They run on
 * the test host (tests/host/run); elsewhere each test skips itself and says what is missing.
 */
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>

#include "host/v2_fixture.h"

static void test_memory(void **state)
{
	struct fixture *f = fixture_need(state, "memory.max");
	struct cg_resources res = {.memory.limit = given(64 * MB),
		.memory.reservation = given(8 * MB),
		.memory.swap = given(80 * MB)};

	fixture_apply(f, &res);
	fixture_expect(f, "memory.max", "67108864");
	fixture_expect(f, "memory.low", "8388608");
	fixture_expect(f, "memory.swap.max", "16777216");
	/*
	 * This update sets only the swap limit, as `update --memory-swap` does. The swap limit
	 * counts memory too, so caisson must subtract the memory limit that the cgroup has already.
	 */
	res = (struct cg_resources){.memory.swap = given(64 * MB)};
	fixture_apply(f, &res);
	fixture_expect(f, "memory.swap.max", "0");
	res.memory.swap = given(-1);
	fixture_apply(f, &res);
	fixture_expect(f, "memory.swap.max", "max");
	fixture_expect(f, "memory.max", "67108864");
	res = (struct cg_resources){.memory.limit = given(-1)};
	fixture_apply(f, &res);
	fixture_expect(f, "memory.max", "max");
	res = (struct cg_resources){.memory.limit = given(0)};
	fixture_apply(f, &res);
	fixture_expect(f, "memory.max", "max");
	res = (struct cg_resources){.memory.limit = given(2 * MB), .memory.swap = given(MB)};
	assert_int_equal(cg_apply(&f->cg, &res), -EINVAL);
	assert_non_null(strstr(err_msg(), "linux.resources.memory.swap"));
	fixture_expect(f, "memory.max", "max");
}

/*
 * Checks that a program is killed when it reaches its memory limit, and that the cgroup counts the
 * kill.
 */
static void test_memory_effect(void **state)
{
	struct fixture *f = fixture_need(state, "memory.max");
	struct cg_resources res = {.memory.limit = given(16 * MB), .memory.swap = given(16 * MB)};
	size_t little = 4 * MB, much = 64 * MB;
	struct cg_events ev;

	fixture_apply(f, &res);
	assert_int_equal(fixture_run(f, use_memory, &little), 0);
	OK(cg_events_open(&f->cg, &ev));
	pid_t pid = fixture_spawn(f, use_memory, &much);
	int status = fixture_wait(f, pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGKILL);
	struct pollfd p = {.fd = ev.fd, .events = POLLIN};
	assert_int_equal(poll(&p, 1, 5000), 1);
	int bits = cg_events_read(&f->cg, &ev);
	assert_true(bits & CG_EVENT_OOM);
	assert_int_equal(ev.oom_kill, 1);
	cg_events_close(&ev);
}

static int hold(void *arg)
{
	size_t size = 24 * MB;
	char c = (char)use_memory(&size);

	if (write(*(int *)arg, &c, 1) != 1)
		return 1;
	return sleep_for_ever(NULL);
}

static void test_check_before_update(void **state)
{
	struct fixture *f = fixture_need(state, "memory.max");
	struct cg_resources res = {
		.memory.limit = given(8 * MB), .memory.check_before_update = {true, true}};
	int ready[2];
	char c;

	assert_int_equal(pipe(ready), 0);
	fixture_spawn(f, hold, &ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	assert_int_equal(cg_apply(&f->cg, &res), -EBUSY);
	assert_non_null(strstr(err_msg(), "checkBeforeUpdate"));
	fixture_expect(f, "memory.max", "max");
	res.memory.limit = given(256 * MB);
	fixture_apply(f, &res);
	fixture_expect(f, "memory.max", "268435456");
}

static void test_cpu(void **state)
{
	struct fixture *f = fixture_need(state, "cpu.max");
	struct cg_resources res = {.cpu.shares = given_u(2048),
		.cpu.quota = given(20000),
		.cpu.period = given_u(50000),
		.cpu.burst = given_u(10000)};

	fixture_apply(f, &res);
	fixture_expect(f, "cpu.weight", "174");
	fixture_expect(f, "cpu.max", "20000 50000");
	fixture_expect(f, "cpu.max.burst", "10000");
	/*
	 * The first update raises both quota and burst, so caisson must write the quota first,
	 * because the new burst is too large for the old quota. The second update lowers both, so
	 * caisson must write the burst first.
	 */
	res = (struct cg_resources){.cpu.quota = given(90000), .cpu.burst = given_u(80000)};
	fixture_apply(f, &res);
	fixture_expect(f, "cpu.max", "90000 50000");
	fixture_expect(f, "cpu.max.burst", "80000");
	res = (struct cg_resources){.cpu.quota = given(10000), .cpu.burst = given_u(0)};
	fixture_apply(f, &res);
	fixture_expect(f, "cpu.max", "10000 50000");
	fixture_expect(f, "cpu.max.burst", "0");
	res = (struct cg_resources){.cpu.period = given_u(40000)};
	fixture_apply(f, &res);
	fixture_expect(f, "cpu.max", "10000 40000");
	res = (struct cg_resources){.cpu.quota = given(-1)};
	fixture_apply(f, &res);
	fixture_expect(f, "cpu.max", "max 40000");
	/*
	 * Checks that an update can set cpu.idle together with a weight, and that a later one can
	 * clear cpu.idle and set another weight.
	 */
	res = (struct cg_resources){.cpu.shares = given_u(512), .cpu.idle = given(1)};
	fixture_apply(f, &res);
	fixture_expect(f, "cpu.idle", "1");
	res = (struct cg_resources){.cpu.shares = given_u(1024), .cpu.idle = given(0)};
	fixture_apply(f, &res);
	fixture_expect(f, "cpu.idle", "0");
	fixture_expect(f, "cpu.weight", "100");
	res = (struct cg_resources){.cpu.quota = given(1)};
	assert_int_equal(cg_apply(&f->cg, &res), -EINVAL);
	assert_non_null(
		strstr(err_msg(), "linux.resources.cpu.quota: write \"1\" to cpu.max of cgroup /"));
	assert_non_null(strstr(err_msg(), "Invalid argument"));
	res = (struct cg_resources){.cpu.idle = given(2)};
	assert_int_equal(cg_apply(&f->cg, &res), -EINVAL);
}

static int burn(void *arg)
{
	struct timespec t0, t;

	clock_gettime(CLOCK_MONOTONIC, &t0);
	do
		clock_gettime(CLOCK_MONOTONIC, &t);
	while (t.tv_sec * 1000 + t.tv_nsec / 1000000 <
		t0.tv_sec * 1000 + t0.tv_nsec / 1000000 + 1000);
	return 0;
}

static void test_cpu_effect(void **state)
{
	struct fixture *f = fixture_need(state, "cpu.max");
	struct cg_resources res = {.cpu.quota = given(10000), .cpu.period = given_u(100000)};
	uint64_t usage, throttled;

	fixture_apply(f, &res);
	assert_int_equal(fixture_run(f, burn, NULL), 0);
	const char *text = fixture_read(f, "cpu.stat");
	OK(cg_find_key(text, "usage_usec", &usage));
	OK(cg_find_key(text, "nr_throttled", &throttled));
	/*
	 * The limit is a tenth of a CPU, so the program may use only 0.1 s of CPU time in a second.
	 * Without the limit it would use more than 0.3 s.
	 */
	assert_true(usage < 300000);
	assert_true(throttled > 3);
}

static int cpus_of_self(void *arg)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) < 0 ? 99 : CPU_COUNT(&set);
}

static void test_cpuset(void **state)
{
	struct fixture *f = fixture_need(state, "cpuset.cpus");
	struct cg_resources res = {.cpu.cpus = "0", .cpu.mems = "0"};

	fixture_apply(f, &res);
	fixture_expect(f, "cpuset.cpus", "0");
	fixture_expect(f, "cpuset.mems", "0");
	assert_int_equal(fixture_run(f, cpus_of_self, NULL), 1);
	res.cpu.cpus = "0-x";
	assert_true(cg_apply(&f->cg, &res) < 0);
	assert_non_null(strstr(err_msg(), "linux.resources.cpu.cpus: expected a list of"));
	assert_non_null(strstr(err_msg(), "found \"0-x\""));
}

static int try_fork(void *arg)
{
	pid_t pid = fork();

	if (pid < 0)
		return errno;
	if (pid == 0)
		_exit(0);
	waitpid(pid, NULL, 0);
	return 0;
}

static void test_pids(void **state)
{
	struct fixture *f = fixture_need(state, "pids.max");
	struct cg_resources res = {.pids_limit = given(7)};

	fixture_apply(f, &res);
	fixture_expect(f, "pids.max", "7");
	assert_int_equal(fixture_run(f, try_fork, NULL), 0);
	res.pids_limit = given(0);
	fixture_apply(f, &res);
	fixture_expect(f, "pids.max", "1");
	assert_int_equal(fixture_run(f, try_fork, NULL), EAGAIN);
	res.pids_limit = given(-1);
	fixture_apply(f, &res);
	fixture_expect(f, "pids.max", "max");
	assert_int_equal(fixture_run(f, try_fork, NULL), 0);
}

static void test_io(void **state)
{
	struct fixture *f = fixture_need(state, "io.max");
	unsigned major, minor;
	char want[128];

	if (!find_disk(&major, &minor)) {
		fprintf(stderr, "skipped: no disk to limit\n");
		skip();
	}
	struct cg_device_value v[] = {{major, minor, 1 * MB}, {major, minor, 2 * MB},
		{major, minor, 100}, {major, minor, 200}, {major, minor, 0}, {9999, 1, 1}};
	struct cg_resources res = {.block_io = {.throttle_read_bps = {&v[0], 1},
					   .throttle_write_bps = {&v[1], 1},
					   .throttle_read_iops = {&v[2], 1},
					   .throttle_write_iops = {&v[3], 1}}};
	fixture_apply(f, &res);
	snprintf(want, sizeof(want), "%u:%u rbps=1048576 wbps=2097152 riops=100 wiops=200", major,
		minor);
	fixture_expect(f, "io.max", want);
	res = (struct cg_resources){.block_io.throttle_read_bps = {&v[4], 1}};
	fixture_apply(f, &res);
	snprintf(want, sizeof(want), "%u:%u rbps=max wbps=2097152 riops=100 wiops=200", major,
		minor);
	fixture_expect(f, "io.max", want);
	res.block_io.throttle_read_bps.v = &v[5];
	assert_int_equal(cg_apply(&f->cg, &res), -ENODEV);
	assert_non_null(strstr(
		err_msg(), "blockIO.throttleReadBpsDevice: write \"9999:1 rbps=1\" to io.max"));
}

static void test_io_weight(void **state)
{
	struct fixture *f = fixture_need(state, "io.max");
	bool bfq = fixture_has(f, "io.bfq.weight");
	struct cg_resources res = {.block_io.weight = given_u(500)};
	struct cg_device_value v = {.value = 300};
	unsigned major, minor;
	char want[64];

	/* the test host must have the I/O scheduler BFQ, so that this test cannot skip BFQ there */
	assert_true(bfq || !getenv("CAISSON_TEST_HOST"));
	if (!bfq && !fixture_has(f, "io.weight")) {
		assert_int_equal(cg_apply(&f->cg, &res), -EOPNOTSUPP);
		assert_non_null(strstr(err_msg(), "io.bfq.weight"));
		return;
	}
	fixture_apply(f, &res);
	fixture_expect(
		f, bfq ? "io.bfq.weight" : "io.weight", bfq ? "default 500" : "default 4950");
	res.block_io.weight = given_u(5);
	assert_int_equal(cg_apply(&f->cg, &res), -EINVAL);
	assert_non_null(strstr(err_msg(), "from 10 to 1000"));
	if (!bfq || !find_disk(&major, &minor))
		return;
	v.major = major;
	v.minor = minor;
	res = (struct cg_resources){.block_io.weight_device = {&v, 1}};
	fixture_apply(f, &res);
	snprintf(want, sizeof(want), "default 500\n%u:%u 300", major, minor);
	fixture_expect(f, "io.bfq.weight", want);
}

static void test_hugetlb(void **state)
{
	struct fixture *f = fixture_need(state, "hugetlb.2MB.max");
	struct cg_hugepage_limit h = {"2MB", 4 * MB};
	struct cg_resources res = {.hugepages = &h, .nhugepages = 1};

	fixture_apply(f, &res);
	fixture_expect(f, "hugetlb.2MB.max", "4194304");
	fixture_expect(f, "hugetlb.2MB.rsvd.max", "4194304");
	h.page_size = "3MB";
	assert_int_equal(cg_apply(&f->cg, &res), -EINVAL);
	assert_non_null(strstr(err_msg(), "no huge pages of that size"));
	h.page_size = "../x";
	assert_int_equal(cg_apply(&f->cg, &res), -EINVAL);
}

static void test_rdma(void **state)
{
	struct fixture *f = fixture_need(state, "rdma.max");
	struct cg_rdma_limit d = {.device = "nosuch0", .hca_handles = given_u(3)};
	struct cg_resources res = {.rdma = &d, .nrdma = 1};

	/*
	 * The machine has no RDMA device of this name, so cg_apply() must fail with the error that
	 * the kernel gives for the name.
	 */
	assert_true(cg_apply(&f->cg, &res) < 0);
	assert_non_null(strstr(
		err_msg(), "linux.resources.rdma: write \"nosuch0 hca_handle=3\" to rdma.max"));
}

static void test_unified(void **state)
{
	struct fixture *f = fixture_need(state, "memory.high");
	struct cg_unified u[] = {{"memory.high", "33554432"}, {"memory.oom.group", "1"},
		{"cgroup.max.depth", "3"}, {"pids.max", "55"}};
	struct cg_resources res = {.pids_limit = given(7), .unified = u, .nunified = ARRAY_SIZE(u)};

	fixture_apply(f, &res);
	fixture_expect(f, "memory.high", "33554432");
	fixture_expect(f, "memory.oom.group", "1");
	fixture_expect(f, "cgroup.max.depth", "3");
	fixture_expect(f, "pids.max", "55");
	/*
	 * A value of 0 for pids.max must become 1, because with 0 the kernel would refuse even the
	 * container's first process.
	 */
	u[3].value = "0";
	fixture_apply(f, &res);
	fixture_expect(f, "pids.max", "1");
	u[0] = (struct cg_unified){"memory.nosuch", "1"};
	res.nunified = 1;
	assert_int_equal(cg_apply(&f->cg, &res), -ENOENT);
	assert_non_null(strstr(err_msg(), "unified[\"memory.nosuch\"]"));
	assert_null(strstr(err_msg(), "No such file"));
	u[0] = (struct cg_unified){"../memory.high", "1"};
	assert_int_equal(cg_apply(&f->cg, &res), -EINVAL);
}

/*
 * Checks a cgroup beneath a cgroup that holds processes, which therefore gets no memory controller
 * from the kernel. A memory limit must be an error that names one of these processes; without a
 * limit there must be no error.
 */
static void test_internal_processes(void **state)
{
	struct fixture *f = fixture_need(state, "memory.max");
	struct cg_resources res = {.memory.limit = given(64 * MB)}, none = {0};
	struct cgroup sub = f->cg;
	pid_t pid = fixture_spawn(f, sleep_for_ever, NULL);
	char number[16];

	sub.path = arena_printf(&f->arena, "%s/sub", f->cg.path);
	OK(cg_create(&sub, &none));
	assert_int_equal(cg_apply(&sub, &res), -EBUSY);
	snprintf(number, sizeof(number), "%d", pid);
	assert_non_null(strstr(err_msg(), number));
	assert_non_null(strstr(err_msg(), "linux.resources.memory.limit: cgroup /"));
	/*
	 * A limit of pids alone must also fail, because caisson would have to enable the controller
	 * pids, which would turn the upper cgroup into a threaded domain. The failure must leave
	 * the upper cgroup as it is, and a process must still be able to enter the lower one.
	 */
	res = (struct cg_resources){.pids_limit = given(5)};
	assert_int_equal(cg_apply(&sub, &res), -EBUSY);
	fixture_expect(f, "cgroup.type", "domain");
	struct cgroup top = f->cg;
	f->cg = sub;
	fixture_spawn(f, sleep_for_ever, NULL);
	f->cg = top;
	sub.lenient = true;
	OK(cg_apply(&sub, &res));
}

static void test_stats(void **state)
{
	struct fixture *f = fixture_need(state, "memory.max");
	struct cg_resources res = {.memory.limit = given(64 * MB),
		.memory.swap = given(80 * MB),
		.pids_limit = given(9)};
	_cleanup_json_out_ struct json_out o;
	const char *text;
	struct json *j;
	uint64_t v;
	size_t len;
	int ready[2];
	char c;

	fixture_apply(f, &res);
	assert_int_equal(pipe(ready), 0);
	fixture_spawn(f, hold, &ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	OK(json_out_init(&o, false));
	json_out_object(&o, NULL);
	OK(cg_stats(&f->cg, &o));
	json_out_end_object(&o);
	OK(json_out_text(&o, &text, &len));
	OK(json_parse(&f->arena, text, len, "stats", &j));
	const struct json *memory = json_get(j, "memory");
	OK(json_get_u64(json_get(memory, "usage"), "limit", &v));
	assert_int_equal(v, 64 * MB);
	OK(json_get_u64(json_get(memory, "swap"), "limit", &v));
	assert_int_equal(v, 80 * MB);
	OK(json_get_u64(json_get(memory, "usage"), "usage", &v));
	assert_true(v >= 24 * MB && v < 64 * MB);
	OK(json_get_u64(json_get(memory, "raw"), "anon", &v));
	OK(json_get_u64(json_get(j, "pids"), "limit", &v));
	assert_int_equal(v, 9);
	assert_non_null(json_get(json_get(memory, "psi"), "full"));
	assert_non_null(json_get(json_get(j, "hugetlb"), "2MB"));
}

/* Runs all tests, or the one that the argument names. */
#define V2(t) cmocka_unit_test_setup_teardown(t, v2_setup, v2_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		V2(test_memory),
		V2(test_memory_effect),
		V2(test_check_before_update),
		V2(test_cpu),
		V2(test_cpu_effect),
		V2(test_cpuset),
		V2(test_pids),
		V2(test_io),
		V2(test_io_weight),
		V2(test_hugetlb),
		V2(test_rdma),
		V2(test_unified),
		V2(test_internal_processes),
		V2(test_stats),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
