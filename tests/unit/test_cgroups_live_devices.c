/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the device program of a cgroup on this machine's kernel. The tests need root and a cgroup2
 * mount.
 */
#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
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

static uint32_t program_of(struct fixture *f)
{
	uint32_t ids[64] = {0};
	int dir = cg_open(&f->cg);
	union bpf_attr attr = {.query = {.target_fd = (uint32_t)dir,
				       .attach_type = BPF_CGROUP_DEVICE,
				       .prog_ids = (uint64_t)(uintptr_t)ids,
				       .prog_cnt = 64}};

	assert_true(dir >= 0);
	assert_int_equal(cg_bpf(BPF_PROG_QUERY, &attr), 0);
	close(dir);
	assert_int_equal(attr.query.prog_cnt, 1);
	return ids[0];
}

/*
 * Sets a rule that allows every device, which removes the device program of the cgroup, and then
 * sets the given rules. Returns the kernel's number of the program that is then attached.
 */
static uint32_t program_for(struct fixture *f, const struct cg_device_rule *rules, size_t n)
{
	const struct cg_device_rule all = {true, 'a', -1, -1, "rwm"};

	set_devices(f, &all, 1);
	assert_int_equal(count_programs(f), 0);
	set_devices(f, rules, n);
	return program_of(f);
}

#define PINS "/sys/fs/bpf/caisson"

/*
 * Runs the test function with a BPF file system of its own, so that it neither sees the machine's
 * pinned programs nor leaves any.
 */
static void with_bpffs(struct fixture *f, void (*test)(struct fixture *f))
{
	int here = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);

	assert_true(here >= 0);
	assert_int_equal(unshare(CLONE_NEWNS), 0);
	assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	bool mounted = mount("bpf", "/sys/fs/bpf", "bpf", 0, NULL) == 0;
	if (mounted)
		test(f);
	assert_int_equal(setns(here, CLONE_NEWNS), 0);
	close(here);
	if (!mounted)
		skip();
}

static void try_kept(struct fixture *f)
{
	const struct cg_device_rule deny = {false, 'a', -1, -1, "rwm"},
				    more[] = {deny, {true, 'c', 1, 11, "r"}};
	uint32_t first = program_for(f, &deny, 1), second = program_for(f, more, 2);

	assert_int_not_equal(first, second);
	assert_int_equal(program_for(f, &deny, 1), first);
	assert_int_equal(program_for(f, more, 2), second);
	/* Checks that the device program stays attached if the same rules are set a second time. */
	set_devices(f, more, 2);
	assert_int_equal(program_of(f), second);
	/*
	 * Checks that caisson uses no pinned program if a user other than root may write to the
	 * directory of pinned programs or owns it.
	 */
	assert_int_equal(chmod(PINS, 0722), 0);
	assert_int_not_equal(program_for(f, &deny, 1), first);
	assert_int_equal(chmod(PINS, 0700), 0);
	assert_int_equal(program_for(f, &deny, 1), first);
	assert_int_equal(chown(PINS, 1000, 0), 0);
	assert_int_not_equal(program_for(f, &deny, 1), first);
	assert_int_equal(chown(PINS, 0, 0), 0);
	/*
	 * Checks that caisson uses no pinned program if the directory of pinned programs is a
	 * symbolic link.
	 */
	assert_int_equal(rename(PINS, "/sys/fs/bpf/moved"), 0);
	assert_int_equal(symlink("/sys/fs/bpf/moved", PINS), 0);
	assert_int_not_equal(program_for(f, &deny, 1), first);
}

static void test_programs_are_kept(void **state)
{
	with_bpffs(live_fixture(state), try_kept);
}

static int load_other(enum bpf_prog_type type, const char *name)
{
	const struct bpf_insn insns[] = {
		{.code = BPF_ALU | BPF_MOV | BPF_K, .imm = 1}, {.code = BPF_JMP | BPF_EXIT}};
	union bpf_attr attr = {.prog_type = type,
		.insn_cnt = 2,
		.insns = (uint64_t)(uintptr_t)insns,
		.license = (uint64_t)(uintptr_t) "x"};

	snprintf(attr.prog_name, sizeof(attr.prog_name), "%s", name);
	return cg_bpf(BPF_PROG_LOAD, &attr);
}

/* Finds the only file in the directory of pinned programs. */
static void find_pin(char *path, size_t size)
{
	DIR *d = opendir(PINS);

	assert_non_null(d);
	*path = '\0';
	for (struct dirent *e; (e = readdir(d));)
		if (e->d_name[0] != '.')
			snprintf(path, size, PINS "/%s", e->d_name);
	closedir(d);
	assert_true(*path);
}

/*
 * Checks that caisson does not attach a pinned program that was replaced by a program of another
 * type or name.
 */
static void try_replaced(struct fixture *f)
{
	const struct cg_device_rule deny = {false, 'a', -1, -1, "rwm"};
	static const struct {
		enum bpf_prog_type type;
		const char *name;
	} others[] = {{BPF_PROG_TYPE_SOCKET_FILTER, "caisson_dev"},
		{BPF_PROG_TYPE_CGROUP_DEVICE, "other"}};
	char path[300];

	uint32_t first = program_for(f, &deny, 1);
	find_pin(path, sizeof(path));
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		int fd = load_other(others[i].type, others[i].name);
		union bpf_attr pin = {
			.pathname = (uint64_t)(uintptr_t)path, .bpf_fd = (uint32_t)fd};
		assert_true(fd >= 0);
		assert_int_equal(unlink(path), 0);
		assert_int_equal(cg_bpf(BPF_OBJ_PIN, &pin), 0);
		close(fd);
		assert_int_not_equal(program_for(f, &deny, 1), first);
		struct device_test denied = {"/dev/kmsg", O_RDONLY};
		assert_int_equal(fixture_run(f, try_open, &denied), EPERM);
	}
}

static void test_replaced_programs(void **state)
{
	with_bpffs(live_fixture(state), try_replaced);
}

static void try_many(struct fixture *f)
{
	int n = 0;

	for (int i = 0; i < 30; i++) {
		const struct cg_device_rule rules[] = {
			{false, 'a', -1, -1, "rwm"}, {true, 'c', 200 + i, 0, "r"}};
		set_devices(f, rules, 2);
	}
	DIR *d = opendir(PINS);
	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.';
	closedir(d);
	assert_int_equal(n, 16);
}

static void test_few_programs_are_kept(void **state)
{
	with_bpffs(live_fixture(state), try_many);
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
	/*
	 * The test uses a device node with the number of /dev/kmsg, which is 1:11. It skips itself
	 * if it cannot make or open such a node in /tmp.
	 */
	if (mknod(node, S_IFCHR | 0600, makedev(1, 11)) < 0 || try_open(&both)) {
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
	 * Checks that an update without device rules leaves the device program attached, and that a
	 * list of rules that denies nothing removes the program.
	 */
	set_devices(f, NULL, 0);
	assert_int_equal(count_programs(f), 1);
	set_devices(f, all, 2);
	assert_int_equal(count_programs(f), 0);
	assert_int_equal(fixture_run(f, try_open, &both), 0);
	unlink(node);
}

/*
 * Opens a denied device over and over while the test replaces the device rules of the cgroup. None
 * of these opens may succeed.
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
		LIVE(test_programs_are_kept),
		LIVE(test_replaced_programs),
		LIVE(test_few_programs_are_kept),
		LIVE(test_devices_replaced_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
