/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the jail: that it takes the rights of the process, and that it allows a vCPU's thread all
 * system calls that the devices need, because this thread runs a device's code when the guest
 * writes a register. The test `all` runs this code for each device while only these system calls
 * are allowed; any other call would end the monitor.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jail/jail.h"
#include "unit/rig/child.h"
#include "unit/rig/vsock.h"
#include "vm/virtio/balloon.h"
#include "vm/virtio/virtio_net.h"

static struct rig g;

/* Writes every byte of the device's configuration, starts every queue, and resets the device. */
static void drive(struct virtio_device *d)
{
	struct jail j;
	int kicks[VIRTIO_QUEUES_MAX];

	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		kicks[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	d->kicks = kicks;
	CHECK(jail_compile(&j, NULL, 0) >= 0);
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(jail_enter_thread(&j, JAIL_VCPU) >= 0);
	for (unsigned turn = 0; turn < 2; turn++) {
		for (uint64_t offset = 0; offset < 0x100; offset++)
			for (unsigned width = 1; width <= 8; width *= 2) {
				vm_bus_write(&g.bus, VIRTIO_MMIO_CONFIG + offset, "\1\0\0\0\0\0\0",
					width);
				vm_bus_write(&g.bus, VIRTIO_MMIO_CONFIG + offset, "\0\0\0\0\0\0\0",
					width);
			}
		bring_up(&g, d->features);
	}
	set(&g, VIRTIO_MMIO_STATUS, 0);
}

static void blk(void)
{
	static struct virtio_blk b;
	static struct blk_file f;
	int fd = memfd_create("disk", MFD_CLOEXEC);

	rig_memory(&g);
	CHECK(ftruncate(fd, 1 << 20) == 0);
	CHECK(blk_file_init(&f, fd, false) >= 0);
	CHECK(virtio_blk_init(
		      &b, &g.memory, &f.image, &(struct virtio_blk_options){.serial = "s"}) >= 0);
	rig_attach(&g, &b.dev);
	bring_up(&g, b.dev.features);
	drive(&b.dev);
}

static void console(void)
{
	static struct virtio_console c;

	rig_memory(&g);
	virtio_console_init(&c, &g.memory, -EBADF, -EBADF);
	rig_attach(&g, &c.dev);
	bring_up(&g, 0);
	drive(&c.dev);
}

static void rng(void)
{
	static struct virtio_rng r;

	rig_memory(&g);
	virtio_rng_init(&r, &g.memory);
	rig_attach(&g, &r.dev);
	bring_up(&g, 0);
	drive(&r.dev);
}

static void balloon(void)
{
	static struct virtio_balloon b;

	rig_memory(&g);
	virtio_balloon_init(&b, &g.memory);
	rig_attach(&g, &b.dev);
	bring_up(&g, b.dev.features);
	drive(&b.dev);
}

static void net(void)
{
	static struct virtio_net n;
	struct virtio_net_options o = {.mtu = 1500};
	int pair[2];

	rig_memory(&g);
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
	CHECK(write(pair[1], "stale", 5) == 5);
	o.taps[0] = pair[0];
	CHECK(virtio_net_init(&n, &g.memory, &o) >= 0);
	rig_attach(&g, &n.dev);
	bring_up(&g, n.dev.features);
	CHECK(write(pair[1], "stale", 5) == 5);
	drive(&n.dev);
}

/* Tests a network device whose driver uses two pairs of queues, of which a reset detaches one. */
static void net_pairs(void)
{
	static struct virtio_net n;
	struct virtio_net_options o = {.mtu = 1500, .pairs = 2};
	int pair[2];

	rig_memory(&g);
	for (unsigned i = 0; i < o.pairs; i++) {
		CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
		o.taps[i] = pair[0];
	}
	CHECK(virtio_net_init(&n, &g.memory, &o) >= 0);
	rig_attach(&g, &n.dev);
	bring_up(&g, n.dev.features);
	n.active = 2;
	drive(&n.dev);
	CHECK(n.active == 1);
}

/*
 * Tests the vsock device with an open connection, on which the guest has queued more data without a
 * kick.
 */
static void vsock(void)
{
	static struct guest s;
	int pair[2];

	guest_start(&s, 8, 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	s.next_fd = pair[0];
	struct virtio_vsock_hdr h = guest_header(HOST_PORT, VIRTIO_VSOCK_OP_REQUEST, 0);
	guest_send_raw(&s, &h, NULL, 0);
	CHECK(s.given == 1);
	h = guest_header(HOST_PORT, VIRTIO_VSOCK_OP_RW, 5);
	memcpy(at(&s.g, DATA, VSOCK_HEADER), &h, VSOCK_HEADER);
	memcpy(at(&s.g, DATA + VSOCK_HEADER, 5), "hello", 5);
	put_desc(desc(&s.g, 1, 1), DATA, VSOCK_HEADER + 5, 0, 0);
	offer(&s.g, 1, 1);
	g = s.g;
	drive(&s.v.dev);
	char text[5];
	CHECK(read(pair[1], text, 5) == 5 && memcmp(text, "hello", 5) == 0);
}

static void all(void **state)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} devices[] = {{"blk", blk}, {"console", console}, {"rng", rng}, {"balloon", balloon},
		{"net", net}, {"net with pairs", net_pairs}, {"vsock", vsock}};

	for (size_t i = 0; i < ARRAY_SIZE(devices); i++) {
		int status = child_status(devices[i].run);
		if (status != 0)
			fail_msg("%s: wait status 0x%x%s", devices[i].name, (unsigned)status,
				WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS
					? ": a system call that a vCPU's thread must not make"
					: "");
	}
}

/* Checks which user id a monitor gets for the id maps of several user namespaces. */
static void ids(void **state)
{
	static const char root[] = "         0          0 4294967295\n",
			  ranges[] = "0 1000 1\n1 100000 65536\n", own[] = "1000 1000 1\n",
			  two[] = "5 5 2\n9 9 1\n", sized[] = "7 7 3\n100 100 10\n";

	assert_int_equal(jail_choose_id(root, 77), 0x70000000 + 77);
	assert_int_equal(jail_choose_id(own, 77), 0x70000000 + 77);
	assert_int_equal(jail_choose_id("", 77), 0x70000000 + 77);
	assert_int_equal(jail_choose_id("x y z", 77), 0x70000000 + 77);
	for (pid_t pid = 1; pid < 100000; pid += 7) {
		assert_in_range(jail_choose_id(ranges, pid), 32769, 65536);
		assert_int_equal(jail_choose_id(two, pid), 6);
		assert_in_range(jail_choose_id(sized, pid), 105, 109);
	}
	assert_int_not_equal(jail_choose_id(ranges, 77), jail_choose_id(ranges, 78));
	assert_int_equal(jail_choose_id(ranges, 77), jail_choose_id(ranges, 77 + 32768));
}

/* Puts this process into the jail of a server that may call abort(3) and fcntl(2). */
static void enter_list(void)
{
	static const int calls[] = {SCMP_SYS(tgkill), SCMP_SYS(tkill), SCMP_SYS(fcntl),
		SCMP_SYS(getpid), SCMP_SYS(getppid), SCMP_SYS(gettid), SCMP_SYS(exit_group)};

	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(jail_filter_calls(calls, ARRAY_SIZE(calls), 0) >= 0);
}

static void signal_self(void)
{
	enter_list();
	CHECK(fcntl(0, F_GETFL) >= 0);
	syscall(SYS_tkill, gettid(), 0);
	syscall(SYS_tgkill, getpid(), gettid(), 0);
}

static void signal_thread_of_other(void)
{
	enter_list();
	syscall(SYS_tgkill, getppid(), getppid(), 0);
}

static void signal_other(void)
{
	enter_list();
	syscall(SYS_tkill, getppid(), 0);
}

static void own_other(void)
{
	enter_list();
	fcntl(0, F_SETOWN, getppid());
}

/* The kernel ignores the upper half of the command. */
static void own_other_wide(void)
{
	enter_list();
	syscall(SYS_fcntl, 0, INT64_C(1) << 32 | F_SETOWN, getppid());
}

/* Checks that the kernel kills each of the functions, which the caller runs in a jail. */
static void expect_forbidden(void (*const forbidden[])(void), size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int status = child_status(forbidden[i]);
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
			fail_msg("forbidden call %zu: wait status 0x%x", i, (unsigned)status);
	}
}

/* Checks that a jailed server can send signals to itself only. */
static void signals(void **state)
{
	static void (*const forbidden[])(void) = {
		signal_thread_of_other, signal_other, own_other, own_other_wide};

	if (!JAIL_HAS_FILTERS)
		skip();
	assert_int_equal(child_status(signal_self), 0);
	expect_forbidden(forbidden, ARRAY_SIZE(forbidden));
}

/* Puts this process into the jail of a server that has memory and threads. */
static void enter_server(void)
{
	static const int calls[] = {SCMP_SYS(exit_group)};

	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(jail_filter_calls(calls, ARRAY_SIZE(calls), JAIL_MEMORY | JAIL_THREADS_OF_C) >= 0);
}

static void *map_page(int prot)
{
	return mmap(NULL, 4096, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void use_memory(void)
{
	enter_server();
	void *page = map_page(PROT_READ | PROT_WRITE);
	CHECK(page != MAP_FAILED && mprotect(page, 4096, PROT_READ) == 0);
}

static void map_executable(void)
{
	enter_server();
	map_page(PROT_READ | PROT_EXEC);
}

static void make_executable(void)
{
	enter_server();
	void *page = map_page(PROT_READ | PROT_WRITE);
	mprotect(page, 4096, PROT_READ | PROT_EXEC);
}

static void start_process(void)
{
	enter_server();
	syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
}

/* Puts this process into the jail of the monitor's loop. Returns the process that it may kill. */
static pid_t enter_loop(void)
{
	struct jail j;
	const pid_t killable = getppid();

	CHECK(jail_compile(&j, &killable, 1) >= 0);
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(jail_enter_thread(&j, JAIL_LOOP) >= 0);
	return killable;
}

static void kill_killable(void)
{
	CHECK(kill(enter_loop(), 0) == 0 && kill(getpid(), 0) == 0);
}

static void kill_other(void)
{
	enter_loop();
	kill(1, 0);
}

static void kill_all(void)
{
	enter_loop();
	kill(-1, 0);
}

/* Checks that a jailed server can make neither executable memory nor processes. */
static void memory_and_processes(void **state)
{
	static void (*const forbidden[])(void) = {map_executable, make_executable, start_process};

	if (!JAIL_HAS_FILTERS)
		skip();
	assert_int_equal(child_status(use_memory), 0);
	expect_forbidden(forbidden, ARRAY_SIZE(forbidden));
}

/* Checks that the monitor can kill only itself and the processes that it has named. */
static void kills(void **state)
{
	static void (*const forbidden[])(void) = {kill_other, kill_all};

	if (!JAIL_HAS_FILTERS)
		skip();
	assert_int_equal(child_status(kill_killable), 0);
	expect_forbidden(forbidden, ARRAY_SIZE(forbidden));
}

static void check_capabilities(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct has[2];

	CHECK(syscall(SYS_capget, &head, has) == 0);
	for (size_t i = 0; i < 2; i++)
		CHECK(!has[i].effective && !has[i].permitted && !has[i].inheritable);
	for (unsigned long cap = 0; cap <= CAP_LAST_CAP; cap++)
		CHECK(prctl(PR_CAPBSET_READ, cap) <= 0);
	CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	CHECK(prctl(PR_GET_DUMPABLE) == 0);
}

/* Checks that Landlock forbids what the empty root directory alone would allow. */
static void check_landlock(bool has_landlock)
{
	int root = open("/", O_RDONLY | O_DIRECTORY);

	CHECK(has_landlock ? root < 0 && errno == EACCES : root >= 0);
}

/* Checks all that the monitor has given up besides system calls. */
static void run_rights(void)
{
	const gid_t group = 4;
	struct jail j;
	struct rlimit core;
	struct stat st;

	const bool has_landlock =
		syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) > 0;
	CHECK(setgroups(1, &group) == 0);
	const uid_t id = jail_id(getpid());
	CHECK(jail_enter(&j, NULL, 0) >= 0);
	check_capabilities();
	CHECK(getuid() == id && geteuid() == id && getgid() == id && getegid() == id);
	CHECK(getgroups(0, NULL) == 0);
	CHECK(setresuid(0, 0, 0) < 0);
	CHECK(stat("/proc", &st) < 0 && errno == ENOENT && stat("/etc", &st) < 0);
	CHECK(mkdir("/new", 0700) < 0);
	CHECK(getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_max == 0);
	check_landlock(has_landlock);
	jail_release(&j);
}

static void rights(void **state)
{
	needs_root();
	in_child(run_rights);
}

/*
 * Checks that the process is out of its user's sight even in a user namespace that maps no other
 * user, because there the kernel does not see to that.
 */
static void run_rights_in_a_user_namespace(void)
{
	CHECK(unshare(CLONE_NEWUSER) == 0);
	CHECK(jail_drop_rights(0x70000000) >= 0);
	check_capabilities();
}

static void rights_in_a_user_namespace(void **state)
{
	needs_root();
	in_child(run_rights_in_a_user_namespace);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(all), cmocka_unit_test(ids),
		cmocka_unit_test(signals), cmocka_unit_test(memory_and_processes),
		cmocka_unit_test(kills), cmocka_unit_test(rights),
		cmocka_unit_test(rights_in_a_user_namespace)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
