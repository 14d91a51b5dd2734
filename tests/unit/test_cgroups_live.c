/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests cgroups/ on this machine's kernel with a cgroup2 mount that has no controllers, so that the
 * tests run on hybrid hosts too. The tests need root and a cgroup2 mount, and are skipped
 * otherwise. The tests that need controllers are in tests/host/.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>

#include "unit/rig/cgroup.h"
#include "unit/rig/cgroup_live.h"

static void test_create(void **state)
{
	struct fixture *f = live_fixture(state);
	struct cgroup cg = f->cg;

	/*
	 * Checks that cg_create() takes an existing cgroup if the cgroup is empty, refuses one that
	 * is in use or frozen, and makes all missing parents.
	 */
	OK(cg_create(&cg, NULL));
	pid_t pid = fixture_spawn(f, sleep_for_ever, NULL);
	assert_int_equal(cg_create(&cg, NULL), -EBUSY);
	assert_non_null(strstr(err_msg(), cg.path));
	OK(cg_kill(&cg, SIGKILL));
	fixture_wait(f, pid);
	OK(cg_freeze(&cg, true));
	assert_int_equal(cg_create(&cg, NULL), -EBUSY);
	assert_non_null(strstr(err_msg(), "frozen"));
	OK(cg_freeze(&cg, false));
	cg.path = arena_printf(&f->arena, "%s/a/b/c", f->cg.path);
	OK(cg_create(&cg, NULL));
	int fd = cg_open(&cg);
	OK(fd);
	close(fd);
	struct cgroup child;
	OK(cg_child(&f->arena, &f->cg, "a/b", &child));
	assert_int_equal(cg_child(&f->arena, &f->cg, "a/x", &child), -ENOENT);
	assert_null(strstr(err_msg(), "No such file"));
	assert_int_equal(cg_child(&f->arena, &f->cg, "../..", &child), -EINVAL);
}

/* Checks that a failed cg_create() removes the directories that it has made. */
static void test_create_failure(void **state)
{
	struct fixture *f = live_fixture(state);
	int dir = cg_open(&f->cg);

	OK(dir);
	OK(cg_write(dir, "cgroup.max.depth", "2"));
	struct cgroup cg = f->cg;
	cg.path = arena_printf(&f->arena, "%s/a/b/c/d", f->cg.path);
	assert_int_equal(cg_create(&cg, NULL), -EAGAIN);
	assert_non_null(strstr(err_msg(), "cgroup.max.depth"));
	assert_int_equal(faccessat(dir, "a", F_OK, 0), -1);
	assert_int_equal(mkdirat(dir, "a", 0755), 0);
	assert_int_equal(cg_create(&cg, NULL), -EAGAIN);
	assert_int_equal(faccessat(dir, "a/b", F_OK, 0), -1);
	assert_int_equal(faccessat(dir, "a", F_OK, 0), 0);
	close(dir);
}

static void test_pids_and_attach(void **state)
{
	struct fixture *f = live_fixture(state);
	struct cgroup at;
	pid_t *pids, one = fixture_spawn(f, sleep_for_ever, NULL);
	size_t n;

	OK(cg_pids(&f->arena, &f->cg, &pids, &n));
	assert_int_equal(n, 1);
	assert_int_equal(pids[0], one);
	struct cgroup top = f->cg, sub = f->cg;
	f->cg.path = sub.path = arena_printf(&f->arena, "%s/sub", top.path);
	OK(cg_create(&sub, NULL));
	pid_t two = fixture_spawn(f, sleep_for_ever, NULL);
	f->cg = top;
	OK(cg_pids(&f->arena, &f->cg, &pids, &n));
	assert_int_equal(n, 2);
	OK(cg_at_process(&f->arena, &f->cg, two, &at));
	assert_string_equal(at.path, sub.path);
	assert_int_equal(cg_at_process(&f->arena, &f->cg, getpid(), &at), -EINVAL);
	assert_int_equal(cg_attach(&f->arena, &f->cg, &f->opt, NULL, 0x3ffffff), -ESRCH);
}

static int has_usr1(void *arg)
{
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (write(*(int *)arg, "r", 1) != 1)
		return 1;
	sigwait(&set, &sig);
	return sig == SIGUSR1 ? 42 : 1;
}

static void test_kill(void **state)
{
	struct fixture *f = live_fixture(state);
	int ready[2];
	char c;

	assert_int_equal(pipe(ready), 0);
	pid_t one = fixture_spawn(f, has_usr1, &ready[1]),
	      two = fixture_spawn(f, has_usr1, &ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	assert_int_equal(read(ready[0], &c, 1), 1);
	OK(cg_kill(&f->cg, SIGUSR1));
	assert_int_equal(WEXITSTATUS(fixture_wait(f, one)), 42);
	assert_int_equal(WEXITSTATUS(fixture_wait(f, two)), 42);
	assert_int_equal(cg_is_frozen(&f->cg), 0);
	/* Checks that SIGKILL also ends the processes of a frozen cgroup. */
	one = fixture_spawn(f, sleep_for_ever, NULL);
	OK(cg_freeze(&f->cg, true));
	assert_int_equal(cg_is_frozen(&f->cg), 1);
	OK(cg_kill(&f->cg, SIGKILL));
	assert_int_equal(WTERMSIG(fixture_wait(f, one)), SIGKILL);
	struct cgroup gone = f->cg;
	gone.path = "/caisson-unit-none";
	OK(cg_kill(&gone, SIGKILL));
	OK(cg_destroy(&gone));
	close(ready[0]);
	close(ready[1]);
}

static int count_up(void *arg)
{
	volatile uint64_t *counter = arg;

	while (++*counter)
		;
	return 0;
}

static void test_freeze(void **state)
{
	struct fixture *f = live_fixture(state);
	volatile uint64_t *counter = mmap(
		NULL, sizeof(*counter), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct timespec t = {.tv_nsec = 30000000};

	assert_true(counter != MAP_FAILED);
	fixture_spawn(f, count_up, (void *)counter);
	while (!*counter)
		nanosleep(&t, NULL);
	OK(cg_freeze(&f->cg, true));
	uint64_t frozen = *counter;
	nanosleep(&t, NULL);
	assert_true(*counter == frozen);
	OK(cg_freeze(&f->cg, false));
	nanosleep(&t, NULL);
	assert_true(*counter > frozen);
	munmap((void *)counter, sizeof(*counter));
}

/* Checks that cg_destroy() removes a cgroup that is frozen and has processes and child cgroups. */
static void test_destroy(void **state)
{
	struct fixture *f = live_fixture(state);
	struct cgroup top = f->cg;

	fixture_spawn(f, sleep_for_ever, NULL);
	f->cg.path = arena_printf(&f->arena, "%s/x/y", top.path);
	OK(cg_create(&f->cg, NULL));
	fixture_spawn(f, sleep_for_ever, NULL);
	f->cg = top;
	OK(cg_freeze(&top, true));
	OK(cg_destroy(&top));
	assert_int_equal(cg_open(&top), -ENOENT);
	assert_int_equal(cg_freeze(&top, true), -ENOENT);
	OK(cg_destroy(&top));
}

static void test_events(void **state)
{
	struct fixture *f = live_fixture(state);
	struct cg_events ev;
	pid_t pid = fixture_spawn(f, sleep_for_ever, NULL);

	OK(cg_events_open(&f->cg, &ev));
	assert_true(ev.populated);
	assert_int_equal(cg_events_read(&f->cg, &ev), 0);
	kill(pid, SIGKILL);
	fixture_wait(f, pid);
	struct pollfd p = {.fd = ev.fd, .events = POLLIN};
	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(cg_events_read(&f->cg, &ev), CG_EVENT_EMPTY);
	assert_int_equal(cg_events_read(&f->cg, &ev), 0);
	cg_events_close(&ev);
	/* Checks that the events of a cgroup which was removed report an empty cgroup. */
	pid = fixture_spawn(f, sleep_for_ever, NULL);
	OK(cg_events_open(&f->cg, &ev));
	OK(cg_destroy(&f->cg));
	assert_int_equal(cg_events_read(&f->cg, &ev), CG_EVENT_EMPTY);
	cg_events_close(&ev);
}

static void test_stats(void **state)
{
	struct fixture *f = live_fixture(state);
	_cleanup_json_out_ struct json_out o;
	static const char *const sections[] = {
		"cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt", "cgroup2"};
	const char *text;
	struct json *j;
	uint64_t v;
	size_t len;

	fixture_spawn(f, sleep_for_ever, NULL);
	OK(json_out_init(&o, false));
	json_out_object(&o, NULL);
	OK(cg_stats(&f->cg, &o));
	json_out_end_object(&o);
	OK(json_out_text(&o, &text, &len));
	OK(json_parse(&f->arena, text, len, "stats", &j));
	for (size_t i = 0; i < ARRAY_SIZE(sections); i++) {
		assert_non_null(json_get(j, sections[i]));
		assert_int_equal(json_get(j, sections[i])->type, JSON_OBJECT);
	}
	assert_non_null(json_get(j, "network_interfaces"));
	OK(json_get_u64(json_get(j, "pids"), "current", &v));
	assert_int_equal(v, 1);
	OK(json_get_u64(json_get(json_get(j, "cpu"), "usage"), "total", &v));
	OK(json_get_u64(json_get(json_get(j, "cpu"), "throttling"), "throttledTime", &v));
	OK(json_get_u64(json_get(json_get(j, "memory"), "swap"), "failcnt", &v));
	OK(json_get_u64(json_get(json_get(j, "cgroup2"), "cgroup.events"), "populated", &v));
	assert_int_equal(v, 1);
	if (fixture_has(f, "cpu.pressure"))
		assert_non_null(json_get(json_get(json_get(j, "cpu"), "psi"), "some"));
}

/*
 * Checks that a limit is an error if the cgroup does not have the limit's controller. The error
 * names the hierarchy that holds the controller, or says that the kernel has no such controller. A
 * lenient update must leave out this limit and set the others.
 */
static void test_missing_controller(void **state)
{
	struct fixture *f = live_fixture(state);
	char all[CG_LIST_MAX];
	struct cg_resources res = {.memory.limit = {true, 1 << 20}};
	struct cg_unified u = {"nosuch.limit", "1"};
	struct cg_resources odd = {.unified = &u, .nunified = 1};
	int mount = cg_open_mount(&f->cg);

	assert_int_equal(cg_apply(&f->cg, &odd), -EOPNOTSUPP);
	assert_non_null(strstr(err_msg(), "this kernel has no \"nosuch\" cgroup controller"));
	assert_non_null(strstr(err_msg(), "linux.resources.unified[\"nosuch.limit\"]"));
	OK(mount);
	OK(cg_read(mount, "cgroup.controllers", all, sizeof(all)));
	close(mount);
	if (cg_list_has(all, "memory", 6))
		skip();
	assert_int_equal(cg_apply(&f->cg, &res), -EOPNOTSUPP);
	assert_non_null(
		strstr(err_msg(), "linux.resources.memory.limit: the memory controller is on "
				  "cgroup v1 at /"));
	assert_non_null(strstr(err_msg(), "systemd.unified_cgroup_hierarchy=1"));
	/* Checks that an unlimited value needs no controller. */
	res.memory.limit.v = -1;
	res.pids_limit = (struct opt_i64){true, -1};
	OK(cg_apply(&f->cg, &res));
	res.memory.limit.v = 1 << 20;
	/*
	 * Checks that a memory limit which is only an upper bound, so that caisson may leave it
	 * out, needs no controller.
	 */
	res.memory.upper_bound = true;
	OK(cg_apply(&f->cg, &res));
	res.memory.upper_bound = false;
	f->cg.lenient = true;
	OK(cg_apply(&f->cg, &res));
}

static void test_v1_only(void **state)
{
	struct fixture *f = live_fixture(state);
	struct cg_resources res = {.memory.swappiness = {true, 10}};

	assert_int_equal(cg_apply(&f->cg, &res), -EOPNOTSUPP);
	assert_non_null(strstr(err_msg(), "linux.resources.memory.swappiness"));
	res = (struct cg_resources){.memory.disable_oom_killer = {true, false},
		.memory.kernel = {true, 0},
		.memory.use_hierarchy = {true, true}};
	OK(cg_apply(&f->cg, &res));
	res = (struct cg_resources){.nnet_priorities = 1};
	assert_int_equal(cg_apply(&f->cg, &res), -EOPNOTSUPP);
	const struct cg_device_value leaf = {8, 0, 300};
	res = (struct cg_resources){.block_io.leaf_weight_device = {&leaf, 1}};
	assert_int_equal(cg_apply(&f->cg, &res), -EOPNOTSUPP);
	assert_non_null(strstr(err_msg(), "linux.resources.blockIO.weightDevice[].leafWeight: "));
}

static void test_delegate(void **state)
{
	struct fixture *f = live_fixture(state);
	struct stat st;
	int dir = cg_open(&f->cg);

	OK(dir);
	OK(cg_delegate(&f->cg, 12345));
	assert_int_equal(fstat(dir, &st), 0);
	assert_int_equal(st.st_uid, 12345);
	assert_int_equal(fstatat(dir, "cgroup.procs", &st, 0), 0);
	assert_int_equal(st.st_uid, 12345);
	assert_int_equal(fstatat(dir, "cgroup.freeze", &st, 0), 0);
	assert_int_equal(st.st_uid, 0);
	close(dir);
}

/*
 * Checks an ordinary user to whom no cgroup is delegated: without limits there must be no cgroup
 * and no error, and limits must be an error.
 */
static void test_rootless(void **state)
{
	struct fixture *f = live_fixture(state);
	struct cg_options opt = {.id = "unit", .rootless = true};
	struct cg_resources res = {.pids_limit = {true, 10}};
	struct cgroup cg;

	assert_int_equal(seteuid(65534), 0);
	int r = cg_resolve(&f->arena, &opt, &cg), none = cg_create(&cg, NULL),
	    limits = cg_create(&cg, &res);
	assert_int_equal(seteuid(0), 0);
	OK(r);
	assert_null(cg.path);
	assert_int_equal(none, 0);
	assert_int_equal(limits, -EACCES);
	assert_non_null(strstr(err_msg(), "Delegate=yes"));
	assert_false(cg_clone_into(&cg));
	OK(cg_destroy(&cg));
}

static int delegated_user(void *arg)
{
	struct fixture *f = arg;
	struct cg_options opt = {.id = "inner", .rootless = true};
	struct cgroup cg;

	/* The calling process is in the cgroup "own" beneath a cgroup that belongs to the user. */
	if (setresuid(65534, 65534, 65534) < 0 || cg_resolve(&f->arena, &opt, &cg) < 0)
		return 1;
	if (!cg.path || strncmp(cg.path, f->cg.path, strlen(f->cg.path) - strlen("/own")) != 0 ||
		!strstr(cg.path, "/caisson-inner"))
		return 2;
	if (cg_create(&cg, NULL) < 0 || cg_attach(&f->arena, &cg, &opt, NULL, getpid()) < 0)
		return 3;
	return fixture_has(&(struct fixture){.cg = cg}, "cgroup.procs") ? 0 : 4;
}

static void test_rootless_delegated(void **state)
{
	struct fixture *f = live_fixture(state);
	struct cgroup top = f->cg;

	OK(cg_delegate(&top, 65534));
	f->cg.path = arena_printf(&f->arena, "%s/own", top.path);
	OK(cg_create(&f->cg, NULL));
	OK(cg_delegate(&f->cg, 65534));
	assert_int_equal(fixture_run(f, delegated_user, f), 0);
	f->cg = top;
}

#define LIVE(t) cmocka_unit_test_setup_teardown(t, live_setup, live_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LIVE(test_create),
		LIVE(test_create_failure),
		LIVE(test_pids_and_attach),
		LIVE(test_kill),
		LIVE(test_freeze),
		LIVE(test_destroy),
		LIVE(test_events),
		LIVE(test_stats),
		LIVE(test_missing_controller),
		LIVE(test_v1_only),
		LIVE(test_delegate),
		LIVE(test_rootless),
		LIVE(test_rootless_delegated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
