/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests a whole machine with every device that it can have. A bare-metal guest (drive/) drives
 * each of them, correctly and incorrectly. The tests need /dev/kvm.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include "base/str.h"
#include "unit/rig/drive_host.h"

/*
 * size of guest memory that ends above the hole at VM_HOLE_START, so that there is memory on both
 * sides of the hole
 */
#define MEMORY (VM_HOLE_START + 16 * MIB)

static const char *guest_path;

/*
 * Runs a machine whose guest does what the letters of `what` stand for (drive/main.c). Stores the
 * reason of the machine's end in *ret_end. The guest's last words are then in h->said.
 */
static void drive(struct host *h, const char *what, bool optional_share, int *ret_end)
{
	int status, sock;

	host_open(h, guest_path);
	host_serve_files(h, &sock);
	struct machine_disk disk = {.fd = h->disk, .serial = "drive"};
	struct machine_share share = {.tag = "share", .sock = sock, .optional = optional_share};
	struct virtio_net_options nic = {
		.taps = {h->net[1]}, .mac = {2, 0, 0, 0, 0, 1}, .mtu = 1500};
	struct virtio_vsock_options vsock = {
		.cid = 3, .event_queue = true, .connect = host_on_connect, .ctx = h};
	struct machine_options o = {.kvm = "/dev/kvm",
		.memory.size = MEMORY,
		.cpus = 2,
		.kernel = h->kernel,
		.initramfs = -EBADF,
		.cmdline = what,
		.console_in = h->keys[0],
		.console_out = h->console[1],
		.balloon = true,
		.disks = &disk,
		.disk_count = 1,
		.shares = &share,
		.share_count = 1,
		.nics = &nic,
		.nic_count = 1,
		.vsock = &vsock};

	if (machine_build(&h->m, &o) < 0)
		fail_msg("%s", err_msg());
	virtio_balloon_set_target(&h->m.balloon, BALLOON_PAGES);
	assert_int_equal(pthread_create(&h->thread, NULL, host_live, h), 0);
	*ret_end = machine_run(&h->m);
	eventfd_write(h->stop, 1);
	pthread_join(h->thread, NULL);
	const char *at = vm_memory_at(&h->m.memory, PROGRESS_AT, sizeof(h->progress));
	snprintf(h->progress, sizeof(h->progress), "%s", at);
	machine_release(&h->m);
	fd_close(&sock);
	assert_int_equal(waitpid(h->server, &status, 0), h->server);
	host_close(h);
	assert_int_equal(status, 0);
}

static struct host h;

static void expect_ok(const char *what, unsigned least)
{
	int end;

	drive(&h, what, true, &end);
	const char *ok = strstr(h.said, "\nok ");
	if (end != VM_END_POWEROFF)
		fail_msg("%s: ended by %d: %s", h.progress, end, h.m.cpus.why);
	size_t skip = h.said_len > 300 ? h.said_len - 300 : 0;
	if (!ok)
		fail_msg("%s: the guest says: %s", h.progress, h.said + skip);
	/* The guest must have run to its end, and must have made at least `least` checks. */
	assert_true(strtoul(ok + 4, NULL, 10) >= least);
}

static void as_it_should_be(void **state)
{
	expect_ok("UU", 21);
}

static void registers_in_every_state(void **state)
{
	expect_ok("R", 100);
}

static void configuration(void **state)
{
	expect_ok("C", 40);
}

static void rings(void **state)
{
	expect_ok("Q", 600);
}

static void chains(void **state)
{
	expect_ok("D", 300);
}

static void resets_under_way(void **state)
{
	expect_ok("S", 600);
}

static void two_cpus(void **state)
{
	expect_ok("2", 10);
}

/*
 * Checks a file server that ends the connection because the guest has broken the protocol. If the
 * share is optional, only its device must end; otherwise the machine must end.
 */
static void broken_share(void **state)
{
	int end;

	expect_ok("F", 10);
	drive(&h, "F", false, &end);
	assert_int_equal(end, VM_END_LOST);
	if (!strstr(h.m.cpus.why, "the server of share 'share'"))
		fail_msg("ended by: %s", h.m.cpus.why);
}

/* Plays the host, but reads the console only when the guest has switched the machine off. */
static void *read_late(void *arg)
{
	struct host *late = arg;
	struct pollfd p = {late->m.cpus.ended, POLLIN, 0};

	(void)poll(&p, 1, LIMIT_MS);
	return host_live(late);
}

/*
 * Checks that machine_run() writes what the console still holds when the guest has switched the
 * machine off, and waits for its reader. The pipe of the console is full until then.
 */
static void last_output_by(bool serial)
{
	static const char filler[4096];

	host_open(&h, guest_path);
	struct machine_options o = {.kvm = "/dev/kvm",
		.memory.size = 16 * MIB,
		.cpus = 1,
		.kernel = h.kernel,
		.initramfs = -EBADF,
		.cmdline = "L",
		.console_in = h.keys[0],
		.console_out = h.console[1],
		.serial = serial};

	while (write(h.console[1], filler, sizeof(filler)) > 0)
		;
	if (machine_build(&h.m, &o) < 0)
		fail_msg("%s", err_msg());
	assert_int_equal(pthread_create(&h.thread, NULL, read_late, &h), 0);
	assert_int_equal(machine_run(&h.m), VM_END_POWEROFF);
	eventfd_write(h.stop, 1);
	pthread_join(h.thread, NULL);
	machine_release(&h.m);
	host_close(&h);
	assert_non_null(strstr(h.said, "\nok "));
}

static void last_output(void **state)
{
	last_output_by(true);
	last_output_by(false);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_it_should_be),
		cmocka_unit_test(registers_in_every_state),
		cmocka_unit_test(configuration),
		cmocka_unit_test(rings),
		cmocka_unit_test(chains),
		cmocka_unit_test(resets_under_way),
		cmocka_unit_test(two_cpus),
		cmocka_unit_test(broken_share),
		cmocka_unit_test(last_output),
	};

	if (access("/dev/kvm", R_OK | W_OK) < 0) {
		fprintf(stderr, "skipped: a guest that drives the devices needs /dev/kvm\n");
		return 77;
	}
	if (argc < 2 || argc > 3) {
		fprintf(stderr, "expected the guest's file, and perhaps the one test to run\n");
		return 2;
	}
	guest_path = argv[1];
	if (argc == 3)
		cmocka_set_test_filter(argv[2]);
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
