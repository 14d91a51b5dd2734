/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the effect of limits on programs that reach them; test_cgroups_v2.c tests the kernel's
 * files. The tests run only on the test host, because they change the swap, the huge pages and the
 * devices of the machine.
 */
#include <rdma/ib_user_verbs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>

#include "host/v2_fixture.h"

#define CHUNK (64 * 1024)

static int setup_host(void **state)
{
	if (!getenv("CAISSON_TEST_HOST")) {
		fprintf(stderr, "these tests change the machine: run them in tests/host/run\n");
		return -1;
	}
	return open_fixture(state, CG_CGROUPFS);
}

static void run_command(const char *command)
{
	if (system(command) != 0)
		fail_msg("%s", command);
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void burn_ms(int ms)
{
	int64_t end = now_ms() + ms;

	while (now_ms() < end)
		;
}

/*
 * Writes 1.5 MB with O_DIRECT, so that the cgroup's write limit slows the writes down at once,
 * which the page cache would prevent.
 */
static int write_direct(void *arg)
{
	char *p = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = open(arg, O_WRONLY | O_CREAT | O_DIRECT, 0600);

	if (p == MAP_FAILED || fd < 0)
		return 1;
	for (int i = 0; i < 24; i++)
		if (write(fd, p, CHUNK) != CHUNK)
			return 2;
	return 0;
}

static void test_throttle(void **state)
{
	struct fixture *f = fixture_need(state, "io.max");
	char path[] = "/scratch/throttle";
	struct stat st;
	struct cg_device_value v = {.value = 1 * MB};
	struct cg_resources res = {.block_io.throttle_write_bps = {&v, 1}};

	assert_int_equal(stat("/scratch", &st), 0);
	v.major = major(st.st_dev);
	v.minor = minor(st.st_dev);
	int64_t began = now_ms();
	assert_int_equal(fixture_run(f, write_direct, path), 0);
	int64_t freely = now_ms() - began;
	fixture_apply(f, &res);
	began = now_ms();
	assert_int_equal(fixture_run(f, write_direct, path), 0);
	int64_t limited = now_ms() - began;
	unlink(path);
	if (limited < 1200 || limited < freely * 2)
		fail_msg("1.5 MB at 1 MB/s took %d ms, %d without a limit", (int)limited,
			(int)freely);
}

/*
 * Uses the CPU, in competition with the processes of the other cgroups, until one second after all
 * of these processes have started.
 */
static int compete(int go)
{
	int64_t end;

	if (read(go, &end, sizeof(end)) != sizeof(end))
		return 1;
	while (now_ms() < end)
		;
	return 0;
}

static uint64_t usage_of(struct fixture *f)
{
	uint64_t v;

	OK(cg_find_key(fixture_read(f, "cpu.stat"), "usage_usec", &v));
	return v;
}

/*
 * Checks the shares of three cgroups that compete for one CPU: an idle cgroup gets what the others
 * leave, and cpu.shares of 512 and 2048 become weights of 59 and 174.
 */
static void test_shares_and_idle(void **state)
{
	static const struct cg_resources limits[] = {{.cpu.idle = {true, 1}, .cpu.cpus = "0"},
		{.cpu.shares = {true, 512}, .cpu.cpus = "0"},
		{.cpu.shares = {true, 2048}, .cpu.cpus = "0"}};
	struct fixture *f = fixture_need(state, "cpu.idle");
	struct cgroup top = f->cg, groups[3];
	uint64_t used[3];
	int go[2];

	assert_int_equal(pipe(go), 0);
	for (size_t i = 0; i < 3; i++) {
		groups[i] = top;
		groups[i].path = arena_printf(&f->arena, "%s/%zu", top.path, i);
		OK(cg_create(&groups[i], NULL));
		OK(cg_apply(&groups[i], &limits[i]));
		f->cg = groups[i];
		pid_t pid = fork();
		if (pid == 0)
			_exit(compete(go[0]));
		f->children[f->nchildren++] = pid;
		OK(cg_attach(&f->arena, &f->cg, &f->opt, NULL, pid));
	}
	int64_t end[] = {now_ms() + 1000, now_ms() + 1000, now_ms() + 1000};
	assert_int_equal(write(go[1], end, sizeof(end)), sizeof(end));
	while (f->nchildren)
		assert_int_equal(fixture_wait(f, f->children[0]), 0);
	for (size_t i = 0; i < 3; i++) {
		f->cg = groups[i];
		used[i] = usage_of(f);
	}
	f->cg = top;
	if (used[2] * 2 < used[1] * 3 || used[1] < used[0] * 3)
		fail_msg("microseconds: idle %u, 512 shares %u, 2048 shares %u", (unsigned)used[0],
			(unsigned)used[1], (unsigned)used[2]);
}

/*
 * Sleeps, so that the cgroup saves time that it may use beyond its quota afterwards, and then uses
 * the CPU.
 */
static int save_and_burn(void *arg)
{
	for (int i = 0; i < 3; i++) {
		nanosleep(&(struct timespec){.tv_nsec = 250000000}, NULL);
		burn_ms(40);
	}
	return 0;
}

static void test_burst(void **state)
{
	struct fixture *f = fixture_need(state, "cpu.max.burst");
	struct cg_resources res = {.cpu.quota = given(20000), .cpu.period = given_u(100000)};
	uint64_t bursts;

	fixture_apply(f, &res);
	assert_int_equal(fixture_run(f, save_and_burn, NULL), 0);
	OK(cg_find_key(fixture_read(f, "cpu.stat"), "nr_bursts", &bursts));
	assert_int_equal(bursts, 0);
	res = (struct cg_resources){.cpu.burst = given_u(20000)};
	fixture_apply(f, &res);
	assert_int_equal(fixture_run(f, save_and_burn, NULL), 0);
	OK(cg_find_key(fixture_read(f, "cpu.stat"), "nr_bursts", &bursts));
	assert_true(bursts > 0);
}

/* Maps the number of huge pages that arg points to and writes to them. Returns 0 or the errno. */
static int map_huge(void *arg)
{
	size_t size = *(size_t *)arg * 2 * MB;
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);

	if (p == MAP_FAILED)
		return errno;
	memset(p, 1, size);
	return 0;
}

static void test_huge_pages(void **state)
{
	struct fixture *f = fixture_need(state, "hugetlb.2MB.max");
	struct cg_hugepage_limit h = {"2MB", 2 * MB};
	struct cg_resources res = {.hugepages = &h, .nhugepages = 1};
	size_t one = 1, two = 2;

	run_command("echo 4 >/proc/sys/vm/nr_hugepages");
	assert_int_equal(fixture_run(f, map_huge, &two), 0);
	fixture_apply(f, &res);
	assert_int_equal(fixture_run(f, map_huge, &one), 0);
	assert_int_equal(fixture_run(f, map_huge, &two), ENOMEM);
	run_command("echo 0 >/proc/sys/vm/nr_hugepages");
}

/*
 * Checks that a program that uses more memory than its limit survives if it has swap, and is killed
 * if it has none.
 */
static void test_swap(void **state)
{
	struct fixture *f = fixture_need(state, "memory.swap.max");
	struct cg_resources res = {.memory.limit = given(4 * MB), .memory.swap = given(10 * MB)};
	const char *file = "/scratch/swap";
	size_t much = 6 * MB;

	run_command("dd if=/dev/zero of=/scratch/swap bs=1M count=8 2>/dev/null && "
		    "chmod 600 /scratch/swap && mkswap /scratch/swap >/dev/null");
	assert_int_equal(swapon(file, 0), 0);
	fixture_apply(f, &res);
	assert_int_equal(fixture_run(f, use_memory, &much), 0);
	res.memory.swap = given(4 * MB);
	fixture_apply(f, &res);
	pid_t pid = fixture_spawn(f, use_memory, &much);
	int status = fixture_wait(f, pid);
	assert_int_equal(swapoff(file), 0);
	unlink(file);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGKILL);
}

/* Opens a context of the RDMA device, which counts as one handle of the device. */
static int rdma_context(void *arg)
{
	struct ib_uverbs_get_context_resp response;
	struct {
		struct ib_uverbs_cmd_hdr header;
		struct ib_uverbs_get_context command;
	} request = {.header = {.command = IB_USER_VERBS_CMD_GET_CONTEXT,
			     .in_words = sizeof(request) / 4,
			     .out_words = sizeof(response) / 4},
		.command.response = (uintptr_t)&response};
	int fd = open(arg, O_RDWR);

	return fd < 0 || write(fd, &request, sizeof(request)) < 0 ? errno : 0;
}

static void test_rdma_device(void **state)
{
	struct fixture *f = fixture_need(state, "rdma.max");
	struct cg_rdma_limit d = {
		.device = "rxe0", .hca_handles = given_u(3), .hca_objects = given_u(5)};
	struct cg_resources res = {.rdma = &d, .nrdma = 1};
	char node[] = "/dev/infiniband/uverbs0";

	/*
	 * The test does not remove the RDMA device that it may add here, because Linux 6.1 crashes
	 * if a device is removed after a removed cgroup had limits for it.
	 */
	run_command("modprobe -a ib_uverbs rdma_rxe; test -e /sys/class/infiniband/rxe0 || "
		    "rdma link add rxe0 type rxe netdev lo");
	fixture_apply(f, &res);
	fixture_expect(
		/*
		 * The kernel writes a blank at the end of the line in rdma.max, so the expected
		 * text has one too.
		 */
		f, "rdma.max", "rxe0 hca_handle=3 hca_object=5 ");
	assert_int_equal(fixture_run(f, rdma_context, node), 0);
	d.hca_handles = given_u(0);
	fixture_apply(f, &res);
	assert_int_equal(fixture_run(f, rdma_context, node), EAGAIN);
}

#define HOST(t) cmocka_unit_test_setup_teardown(t, setup_host, v2_teardown)

/* Runs all tests, or the one that the argument names. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		HOST(test_throttle),
		HOST(test_shares_and_idle),
		HOST(test_burst),
		HOST(test_huge_pages),
		HOST(test_swap),
		HOST(test_rdma_device),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
