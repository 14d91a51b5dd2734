/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests devices that are attached to a machine that runs. A bare-metal guest (drive/hotplug.c) uses
 * them. The tests need /dev/kvm.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/str.h"
#include "unit/rig/drive_host.h"
#include "vm/hotplug.h"

#define MEMORY (64 * MIB)
#define DISK (64 * 512L)

static const char *guest_path;
static struct host h;
static struct machine_device devices[3];
static unsigned next,
	slot; /* the device to attach next, and the slot of the one that is attached */
static bool attached;
static char refusal[ERR_MAX];

static void press(char key)
{
	assert_int_equal(write(h.keys[1], &key, 1), 1);
}

/* A machine with a device that was attached cannot be saved, because a restored one lacks it. */
static void try_to_save(struct machine *m)
{
	struct snapshot_writer w;

	assert_int_equal(snapshot_begin(&w), 0);
	assert_int_equal(machine_save(m, &w, -EBADF), -ENOTSUP);
	snprintf(refusal, sizeof(refusal), "%s", err_msg());
	snapshot_release(&w);
}

/* Attaches the next device, or detaches the one that is attached, in the machine's thread. */
static void change_now(struct machine *m, void *ctx)
{
	unsigned full[MACHINE_SPARES_MAX], n = 0;

	if (attached) {
		try_to_save(m);
		machine_detach(m, slot);
		machine_detach(m, slot); /* has no effect, because the slot is empty */
		attached = false;
		next++;
		press('d');
		return;
	}
	if (next == ARRAY_SIZE(devices)) {
		press('e');
		return;
	}
	if (machine_attach(m, &devices[next], &slot) < 0)
		fail_msg("%s", err_msg());
	attached = true;
	/*
	 * The test fills the two other spare slots with disks, after which attaching a disk must
	 * fail.
	 */
	const struct machine_device disk = {
		.kind = MACHINE_DISK, .disk = {.fd = h.disk, .serial = "more"}};
	while (n < MACHINE_SPARES_MAX && machine_attach(m, &disk, &full[n]) >= 0)
		n++;
	assert_int_equal(n, 2);
	assert_non_null(strstr(err_msg(), "3 devices"));
	while (n > 0)
		machine_detach(m, full[--n]);
	press('a');
}

static void on_asked(struct host *host)
{
	machine_call(&host->m, change_now, NULL);
}

/* Which functions of machine_call() were called, in their order. */
static char called[8];

static void note_call(struct machine *m, void *ctx)
{
	strncat(called, ctx, sizeof(called) - strlen(called) - 1);
}

static int build(unsigned spares, const struct machine_disk *late)
{
	struct virtio_vsock_options vsock = {
		.cid = 3, .event_queue = true, .connect = host_on_connect, .ctx = &h};
	struct machine_options o = {.kvm = "/dev/kvm",
		.memory.size = MEMORY,
		.cpus = 2,
		.kernel = h.kernel,
		.initramfs = -EBADF,
		.cmdline = "H",
		.console_in = h.keys[0],
		.console_out = h.console[1],
		.disks = late,
		.disk_count = late ? 1 : 0,
		.late = true,
		.spares = spares,
		.vsock = &vsock};

	return machine_build(&h.m, &o);
}

static void attached_and_detached(void **state)
{
	int status, sock;

	host_open(&h, guest_path);
	host_serve_files(&h, &sock);
	h.asked = on_asked;
	devices[0] = (struct machine_device){
		.kind = MACHINE_DISK, .disk = {.fd = h.disk, .serial = "drive"}};
	devices[1] = (struct machine_device){.kind = MACHINE_NIC,
		.nic = {.taps = {h.net[1]}, .mac = {2, 0, 0, 0, 0, 1}, .mtu = 1500}};
	devices[2] = (struct machine_device){
		.kind = MACHINE_SHARE, .share = {.tag = "share", .sock = sock}};
	if (build(3, NULL) < 0)
		fail_msg("%s", err_msg());
	assert_int_equal(pthread_create(&h.thread, NULL, host_live, &h), 0);
	/* Calls that wait at the same time are all made, in their order, and each of them once. */
	machine_call(&h.m, note_call, (void *)"a");
	machine_call(&h.m, note_call, (void *)"b");
	machine_call(&h.m, note_call, (void *)"a");
	int end = machine_run(&h.m);
	assert_string_equal(called, "ab");
	eventfd_write(h.stop, 1);
	pthread_join(h.thread, NULL);
	const char *at = vm_memory_at(&h.m.memory, PROGRESS_AT, sizeof(h.progress));
	snprintf(h.progress, sizeof(h.progress), "%s", at);
	if (end != VM_END_POWEROFF || !strstr(h.said, "\nok "))
		fail_msg("%s: ended by %d: %s: %s", h.progress, end, h.m.cpus.why, h.said);
	assert_int_equal(next, ARRAY_SIZE(devices));
	assert_non_null(strstr(refusal, "attached while it ran"));
	machine_release(&h.m);
	fd_close(&sock);
	assert_int_equal(waitpid(h.server, &status, 0), h.server);
	host_close(&h);
	assert_int_equal(status, 0);
}

/*
 * Releases a machine with a device that was never detached, and attaches a device to a machine
 * without spare slots, which must fail.
 */
static void released(void **state)
{
	const struct machine_device disk = {
		.kind = MACHINE_DISK, .disk = {.fd = -EBADF, .serial = "none"}};

	host_open(&h, guest_path);
	assert_int_equal(build(0, NULL), 0);
	assert_int_equal(machine_attach(&h.m, &disk, &slot), -ENOSPC);
	machine_release(&h.m);
	assert_int_equal(build(MACHINE_SPARES_MAX + 1, NULL), -EINVAL);
	assert_int_equal(build(2, NULL), 0);
	assert_true(machine_attach(&h.m, &disk, &slot) < 0); /* a descriptor that is not open */
	assert_false(machine_has_attached(&h.m));
	const struct machine_device good = {
		.kind = MACHINE_DISK, .disk = {.fd = h.disk, .serial = "good"}};
	assert_int_equal(machine_attach(&h.m, &good, &slot), 0);
	assert_true(machine_has_attached(&h.m));
	machine_release(&h.m);
	host_close(&h);
}

/* A late disk is made with the machine, takes the first spare slot, and is no attached device. */
static void late_disk(void **state)
{
	struct machine_disk late = {.fd = -EBADF, .serial = "late"};
	unsigned slots[MACHINE_SPARES_MAX], spare;

	host_open(&h, guest_path);
	const struct machine_device other = {
		.kind = MACHINE_DISK, .disk = {.fd = h.disk, .serial = "other"}};
	assert_true(build(2, &late) < 0); /* a descriptor that is not open */
	late.fd = h.disk;
	assert_int_equal(build(2, &late), 0);
	const unsigned first = h.m.slot_count - 2;
	assert_int_equal(h.m.slots[first].device->id, 0);
	assert_int_equal(machine_place_late(&h.m, slots), 0);
	assert_int_equal(slots[0], first);
	assert_ptr_equal(h.m.slots[first].device, &h.m.disks[0].local.dev);
	assert_false(machine_has_attached(&h.m));
	machine_detach(&h.m, first); /* changes nothing */
	assert_ptr_equal(h.m.slots[first].device, &h.m.disks[0].local.dev);
	assert_int_equal(machine_attach(&h.m, &other, &spare), 0);
	assert_int_equal(spare, first + 1);
	assert_int_equal(machine_attach(&h.m, &other, &spare), -ENOSPC);
	machine_release(&h.m);
	/* There is no room for the disk. */
	assert_int_equal(build(0, &late), 0);
	assert_int_equal(machine_place_late(&h.m, slots), -ENOSPC);
	machine_release(&h.m);
	host_close(&h);
}

/* Builds a machine with a late disk, two shares, one of which is late, and two spare slots. */
static void build_with_shares(
	int own, int remote, bool late, const struct snapshot *from, int memory)
{
	const struct machine_disk disk = {.fd = h.disk, .serial = "late"};
	const struct machine_share shares[] = {
		{.tag = "own", .sock = own}, {.tag = "late", .sock = remote, .peer = "server"}};
	struct virtio_vsock_options vsock = {
		.cid = 3, .event_queue = true, .connect = host_on_connect, .ctx = &h};
	const struct machine_options o = {.kvm = "/dev/kvm",
		.memory.size = MEMORY,
		.cpus = 1,
		.kernel = h.kernel,
		.initramfs = -EBADF,
		.cmdline = "H",
		.console_in = h.keys[0],
		.console_out = h.console[1],
		.disks = &disk,
		.disk_count = 1,
		.shares = shares,
		.share_count = ARRAY_SIZE(shares),
		.late = late,
		.spares = 2,
		.vsock = &vsock,
		.snapshot = from,
		.snapshot_memory = memory};

	if (machine_build(&h.m, &o) < 0)
		fail_msg("%s", err_msg());
}

static void serve_two(int socks[static 2], pid_t servers[static 2])
{
	for (unsigned i = 0; i < 2; i++) {
		host_serve_files(&h, &socks[i]);
		servers[i] = h.server;
	}
}

static void end_servers(int socks[static 2], const pid_t servers[static 2])
{
	int status;

	for (unsigned i = 0; i < 2; i++)
		fd_close(&socks[i]);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(waitpid(servers[i], &status, 0), servers[i]);
		assert_int_equal(status, 0);
	}
	h.server = 0;
}

static void check_late(unsigned first)
{
	assert_ptr_equal(h.m.slots[first].device, &h.m.disks[0].local.dev);
	assert_ptr_equal(h.m.slots[first + 1].device, &h.m.shares[1].vhost.dev);
	assert_false(machine_has_attached(&h.m));
}

/*
 * A late share takes the spare slot behind that of the late disk. A machine that is restored from a
 * snapshot of this one has both in the same slots from the beginning.
 */
static void late_share(void **state)
{
	_cleanup_fd_ int memory = memfd_create("memory", MFD_CLOEXEC);
	unsigned slots[MACHINE_SPARES_MAX];
	struct snapshot_writer w;
	struct snapshot from;
	int socks[2];
	pid_t servers[2];

	host_open(&h, guest_path);
	serve_two(socks, servers);
	build_with_shares(socks[0], socks[1], true, NULL, -EBADF);
	const unsigned count = h.m.slot_count, first = count - 2;
	assert_int_equal(h.m.slots[first].device->id, 0);
	assert_int_equal(machine_place_late(&h.m, slots), 0);
	assert_int_equal(slots[1], first + 1);
	check_late(first);
	assert_int_equal(machine_start(&h.m), 0);
	assert_int_equal(snapshot_begin(&w), 0);
	if (machine_save(&h.m, &w, memory) < 0 || snapshot_finish(&w) < 0)
		fail_msg("%s", err_msg());
	machine_release(&h.m);
	end_servers(socks, servers);

	serve_two(socks, servers);
	assert_int_equal(snapshot_open(&from, w.bytes.s, w.bytes.len), 0);
	build_with_shares(socks[0], socks[1], false, &from, memory);
	assert_int_equal(h.m.slot_count, count);
	check_late(first);
	machine_release(&h.m);
	end_servers(socks, servers);
	snapshot_release(&w);
	host_close(&h);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(late_disk),
		cmocka_unit_test(late_share),
		cmocka_unit_test(attached_and_detached),
		cmocka_unit_test(released),
	};

	if (access("/dev/kvm", R_OK | W_OK) < 0) {
		fprintf(stderr, "skipped: a guest that drives the devices needs /dev/kvm\n");
		return 77;
	}
	if (argc != 2) {
		fprintf(stderr, "expected the guest's file\n");
		return 2;
	}
	guest_path = argv[1];
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
