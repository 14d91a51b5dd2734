/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests snapshots of a whole machine with every device, also with one that another process serves.
 * A bare-metal guest (drive/resume.c) uses the devices before and after. The tests need /dev/kvm.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/crc32c.h"
#include "base/str.h"
#include "unit/rig/drive_host.h"
#include "vm/snapshot/memory.h"

/*
 * size of guest memory, so that one region of it is below the hole at VM_HOLE_START and one above
 */
#define MEMORY (VM_HOLE_START + 16 * MIB)
#define MSR_KERNEL_GS_BASE 0xc0000102
#define PATTERN 0x5a

static const char *guest_path;

/* A snapshot that a test has made: the file, and the descriptors of the guest's memory and disk. */
struct saved {
	struct snapshot_writer file;
	int memory, disk;
	int result; /* 0, or the error of the function that failed to make the snapshot */
	char why[ERR_MAX];
};

/* Describes a machine of these tests, whose snapshot may be restored in another machine. */
struct shape {
	uint64_t memory;
	unsigned cpus;
	uint8_t mac;
	off_t disk;
	bool no_balloon, no_event_queue, mergeable;
	bool share, trusted; /* a virtio-fs share, which another process serves; a template */
};

static const struct shape usual = {.memory = MEMORY, .cpus = 2, .mac = 1, .disk = 64 * 512L};

static char share_dir[] = "/tmp/snapshot-XXXXXX";
static struct host h;
static struct saved saved;
static bool goes_on; /* the machine goes on running after its snapshot was made */
static bool key_sent;

/* offsets in the XSAVE area: of the register xmm3, and of the bits of registers that were set */
#define XMM3 208
#define XSTATE_BV 512

struct marked_msr {
	struct kvm_msrs head;
	struct kvm_msr_entry entry;
};

/* Gives registers of vCPU 0 values that no guest of these tests sets, for check_registers(). */
static void mark_registers(int vcpu)
{
	struct marked_msr msr = {
		.head.nmsrs = 1, .entry = {.index = MSR_KERNEL_GS_BASE, .data = 0x123456000}};
	struct kvm_debugregs debug;
	struct kvm_xsave area;
	uint8_t *bytes = (uint8_t *)area.region;

	assert_int_equal(ioctl(vcpu, KVM_GET_XSAVE, &area), 0);
	memset(bytes + XMM3, PATTERN, 16);
	bytes[XSTATE_BV] |= 3;
	assert_int_equal(ioctl(vcpu, KVM_SET_XSAVE, &area), 0);
	assert_int_equal(ioctl(vcpu, KVM_GET_DEBUGREGS, &debug), 0);
	debug.db[1] = 0x7654;
	assert_int_equal(ioctl(vcpu, KVM_SET_DEBUGREGS, &debug), 0);
	assert_int_equal(ioctl(vcpu, KVM_SET_MSRS, &msr), 1);
}

static void check_registers(int vcpu)
{
	struct marked_msr msr = {.head.nmsrs = 1, .entry.index = MSR_KERNEL_GS_BASE};
	struct kvm_debugregs debug;
	struct kvm_xsave area;
	uint8_t pattern[16];

	memset(pattern, PATTERN, sizeof(pattern));
	assert_int_equal(ioctl(vcpu, KVM_GET_XSAVE, &area), 0);
	assert_memory_equal((uint8_t *)area.region + XMM3, pattern, sizeof(pattern));
	assert_int_equal(ioctl(vcpu, KVM_GET_DEBUGREGS, &debug), 0);
	assert_int_equal(debug.db[1], 0x7654);
	assert_int_equal(ioctl(vcpu, KVM_GET_MSRS, &msr), 1);
	assert_int_equal(msr.entry.data, 0x123456000);
}

static void press(char key)
{
	key_sent = true;
	assert_int_equal(write(h.keys[1], &key, 1), 1);
}

/* Makes the snapshot. machine_call() calls this function in the thread that runs the machine. */
static void save_now(struct machine *m, void *ctx)
{
	vcpus_pause(&m->cpus);
	mark_registers(vcpus_fd(&m->cpus, 0));
	saved.result = snapshot_begin(&saved.file);
	if (saved.result >= 0)
		saved.result = machine_save(m, &saved.file, saved.memory);
	if (saved.result >= 0)
		saved.result = snapshot_finish(&saved.file);
	snprintf(saved.why, sizeof(saved.why), "%s", saved.result < 0 ? err_msg() : "");
	if (!goes_on) {
		vcpus_end(&m->cpus, VM_END_STOPPED, "saved");
		return;
	}
	machine_go_on(m);
	press('!');
}

static void on_asked(struct host *host)
{
	machine_call(&host->m, save_now, NULL);
}

/* the machine's end of the socket to the file server; -EBADF: there is no file server */
static int share_sock = -EBADF;

static int build(const struct shape *s, const char *what, const struct snapshot *from)
{
	struct machine_disk disk = {.fd = saved.disk, .serial = "drive"};
	struct virtio_net_options nic = {
		.taps = {h.net[1]}, .mac = {2, 0, 0, 0, 0, s->mac}, .mtu = 1500};
	struct virtio_vsock_options vsock = {
		.cid = 3, .event_queue = !s->no_event_queue, .connect = host_on_connect, .ctx = &h};
	if (s->share)
		host_serve_files(&h, &share_sock);
	struct machine_share share = {.tag = "share", .sock = share_sock};
	struct machine_options o = {.kvm = "/dev/kvm",
		.memory = {.size = s->memory, .mergeable = s->mergeable},
		.cpus = s->cpus,
		.kernel = h.kernel,
		.initramfs = -EBADF,
		.cmdline = what,
		.console_in = h.keys[0],
		.console_out = h.console[1],
		.balloon = !s->no_balloon,
		.disks = &disk,
		.disk_count = 1,
		.shares = &share,
		.share_count = s->share,
		.nics = &nic,
		.nic_count = 1,
		.vsock = &vsock,
		.snapshot = from,
		.snapshot_trusted = s->trusted,
		.snapshot_memory = saved.memory};

	assert_int_equal(ftruncate(saved.disk, s->disk), 0);
	return machine_build(&h.m, &o);
}

/* Runs the machine until it ends. Returns the reason, one of VM_END_.... */
static int run(void)
{
	assert_int_equal(pthread_create(&h.thread, NULL, host_live, &h), 0);
	int end = machine_run(&h.m);
	eventfd_write(h.stop, 1);
	pthread_join(h.thread, NULL);
	const char *at = vm_memory_at(&h.m.memory, PROGRESS_AT, sizeof(h.progress));
	snprintf(h.progress, sizeof(h.progress), "%s", at);
	return end;
}

static void expect_ok(int end, unsigned least)
{
	const char *ok = strstr(h.said, "\nok ");

	if (end != VM_END_POWEROFF)
		fail_msg("%s: ended by %d: %s", h.progress, end, h.m.cpus.why);
	if (!ok)
		fail_msg("%s: the guest says: %s", h.progress, h.said);
	assert_true(strtoul(ok + 4, NULL, 10) >= least);
}

static void end_host(void)
{
	int status = 0;

	fd_close(&share_sock);
	if (h.server > 0)
		assert_int_equal(waitpid(h.server, &status, 0), h.server);
	assert_int_equal(status, 0);
	host_close(&h);
}

static void release(void)
{
	machine_release(&h.m);
	end_host();
}

static void begin_host(void)
{
	host_open(&h, guest_path);
	h.dir = share_dir;
}

/* Runs a machine and makes its snapshot. Then the machine goes on to its end if `on` is set. */
static void make(const struct shape *s, const char *what, bool on)
{
	goes_on = on;
	saved = (struct saved){.memory = memfd_create("memory", MFD_CLOEXEC),
		.disk = memfd_create("disk", MFD_CLOEXEC)};
	begin_host();
	h.asked = on_asked;
	if (build(s, what, NULL) < 0)
		fail_msg("%s", err_msg());
	virtio_balloon_set_target(&h.m.balloon, BALLOON_PAGES);
	int end = run();
	if (saved.result < 0)
		fail_msg("%s", saved.why);
	if (on)
		expect_ok(end, 200);
	else
		assert_int_equal(end, VM_END_STOPPED);
	release();
}

static void forget(void)
{
	snapshot_release(&saved.file);
	fd_close(&saved.memory);
	fd_close(&saved.disk);
}

static void open_saved(struct snapshot *ret)
{
	if (snapshot_open(ret, saved.file.bytes.s, saved.file.bytes.len) < 0)
		fail_msg("%s", err_msg());
}

/* Builds a machine from the snapshot and runs it until its guest ends. */
static void resume(const struct shape *s)
{
	struct snapshot from;

	open_saved(&from);
	begin_host();
	if (build(s, "", &from) < 0)
		fail_msg("%s", err_msg());
	assert_int_equal(h.m.memory.mapped, !s->mergeable && (!s->share || s->trusted));
	check_registers(vcpus_fd(&h.m.cpus, 0));
	press('r');
	expect_ok(run(), 200);
	release();
}

static void refused(const struct shape *s, const char *expected)
{
	struct snapshot from;

	open_saved(&from);
	begin_host();
	assert_true(build(s, "", &from) < 0);
	if (!strstr(err_msg(), expected))
		fail_msg("the message is: %s", err_msg());
	end_host();
}

static void machine_goes_on(void **state)
{
	make(&usual, "P", true);
	forget();
}

/* Checks that a snapshot can be restored twice, because a restored machine does not change it. */
static void restored_twice(void **state)
{
	make(&usual, "P", false);
	resume(&usual);
	resume(&usual);
	forget();
}

/* A machine with mergeable memory (KSM) must copy the guest's memory and must not map the file. */
static void restored_by_copy(void **state)
{
	struct shape s = usual;

	s.mergeable = true;
	make(&usual, "P", false);
	resume(&s);
	forget();
}

/* A vCPU that the guest had not started yet must be able to start after the restore. */
static void second_cpu(void **state)
{
	make(&usual, "P2", false);
	resume(&usual);
	forget();
}

static void other_machines(void **state)
{
	struct shape s;

	make(&usual, "P", false);
	s = usual;
	s.cpus = 1;
	refused(&s, "2 vCPUs: this one has 3088 MiB and 1");
	s = usual;
	s.memory = 64 * MIB;
	refused(&s, "3088 MiB and 2 vCPUs: this one has 64 MiB");
	s = usual;
	s.mac = 2;
	refused(&s, "device 4: net: the snapshot's interface 02:00:00:00:00:01");
	s = usual;
	s.disk = 63 * 512L;
	refused(&s, "device 3: blk: the snapshot has a disk of 64 sectors");
	s = usual;
	s.no_balloon = true;
	refused(&s, "a machine with 6 devices: this one has 5");
	s = usual;
	s.no_event_queue = true;
	refused(&s, "device 5: vsock: the snapshot has a device of type 19 with 3 queues");
	forget();
}

static void other_memory(void **state)
{
	uint8_t byte = 0xee;

	make(&usual, "P", false);
	/*
	 * The test writes into a hole of the file with guest memory, which the checksum must show.
	 */
	assert_int_equal(pwrite(saved.memory, &byte, 1, 0x40000000), 1);
	refused(&usual, "the 2 MiB at offset 0x40000000 have a wrong checksum");
	byte = 0;
	assert_int_equal(pwrite(saved.memory, &byte, 1, 0x40000000), 1);
	assert_int_equal(pread(saved.memory, &byte, 1, 0x100000), 1);
	byte ^= 1;
	assert_int_equal(pwrite(saved.memory, &byte, 1, 0x100000), 1);
	refused(&usual, "the 2 MiB at offset 0x0 have a wrong checksum");
	assert_int_equal(ftruncate(saved.memory, MEMORY - 4096), 0);
	refused(&usual, "the file with guest memory has");
	forget();
}

/* Changes the byte `at` in the first section of this kind, and corrects the section's checksum. */
static void alter(enum snapshot_kind kind, size_t at, uint8_t mask)
{
	struct snapshot from;
	struct snapshot_part p;

	open_saved(&from);
	assert_int_equal(snapshot_find(&from, kind, 0, &p), 0);
	uint8_t *section = (uint8_t *)p.at - 16;
	section[16 + at] ^= mask;
	uint32_t crc = crc32c(crc32c(0, section, 12), p.at, (p.left + 7) & ~7UL);
	memcpy(section + 12, &crc, sizeof(crc));
}

/* Checks that another CPU's snapshot is refused, by changing bytes in the section of vCPU 0. */
static void other_cpu(void **state)
{
	const size_t xsave_len = 2088 - 16, leaf = 2088 + sizeof(struct kvm_cpuid_entry2);

	make(&usual, "P", false);
	alter(SNAPSHOT_VCPU, leaf + 12, 1);
	refused(&usual, "vCPU 0: the snapshot is of another CPU or kernel: CPUID leaf 0x");
	alter(SNAPSHOT_VCPU, leaf + 12, 1);
	alter(SNAPSHOT_VCPU, xsave_len + 1, 0x10);
	refused(&usual, "vCPU 0: the snapshot is of another CPU: its XSAVE area has");
	alter(SNAPSHOT_VCPU, xsave_len + 1, 0x10);
	alter(SNAPSHOT_VCPU, xsave_len + 4 + 2, 1);
	refused(&usual, " MSRs and ");
	alter(SNAPSHOT_VCPU, xsave_len + 4 + 2, 1);
	resume(&usual);
	forget();
}

/* Registers that KVM itself refuses must make the restore fail with an error and nothing worse. */
static void impossible_registers(void **state)
{
	const size_t mp_state = 0, cr0 = 8 + 144 + 224 + 1;

	make(&usual, "P", false);
	alter(SNAPSHOT_VCPU, mp_state, 0x80);
	refused(&usual, "vCPU 0: set MP_STATE");
	alter(SNAPSHOT_VCPU, mp_state, 0x80);
	alter(SNAPSHOT_VCPU, cr0 + 3, 0xff);
	alter(SNAPSHOT_VCPU, cr0 + 2, 0xff);
	refused(&usual, "vCPU 0: set SREGS");
	forget();
}

static void make_share(struct shape *s)
{
	char path[64];

	*s = usual;
	s->share = true;
	strcpy(share_dir, "/tmp/snapshot-XXXXXX");
	assert_non_null(mkdtemp(share_dir));
	snprintf(path, sizeof(path), "%s/here", share_dir);
	assert_int_equal(mkdir(path, 0755), 0);
}

static void remove_share(void)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/here", share_dir);
	(void)rmdir(path);
	assert_int_equal(rmdir(share_dir), 0);
}

/* Checks that the share's server, another process, gives its state to the snapshot and goes on. */
static void share_goes_on(void **state)
{
	struct shape s;

	make_share(&s);
	make(&s, "P", true);
	forget();
	remove_share();
}

static void share_restored(void **state)
{
	struct shape s;

	make_share(&s);
	make(&s, "P", false);
	resume(&s);
	s.trusted = true;
	resume(&s);
	refused(&usual, "a machine with 7 devices: this one has 6");
	forget();
	remove_share();
}

static void share_without_its_directory(void **state)
{
	struct shape s;

	make_share(&s);
	make(&s, "P", false);
	char path[64];
	snprintf(path, sizeof(path), "%s/here", share_dir);
	assert_int_equal(rmdir(path), 0);
	refused(&s,
		"device 4: fs: the server of share 'share': it could not save or load its state");
	forget();
	remove_share();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(machine_goes_on),
		cmocka_unit_test(restored_twice),
		cmocka_unit_test(restored_by_copy),
		cmocka_unit_test(second_cpu),
		cmocka_unit_test(other_machines),
		cmocka_unit_test(other_memory),
		cmocka_unit_test(other_cpu),
		cmocka_unit_test(impossible_registers),
		cmocka_unit_test(share_goes_on),
		cmocka_unit_test(share_restored),
		cmocka_unit_test(share_without_its_directory),
	};

	if (access("/dev/kvm", R_OK | W_OK) < 0) {
		fprintf(stderr, "skipped: a machine with a guest needs /dev/kvm\n");
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
