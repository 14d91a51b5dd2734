/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the generation id of a machine, and what the machine's version says of it. The tests of
 * whole machines need /dev/kvm; no guest runs in them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/str.h"
#include "unit/machine_tables.h"
#include "unit/rig/drive_host.h"
#include "vm/arch/x86_64/acpi.h"
#include "vm/arch/x86_64/arch.h"
#include "vm/boot/boot.h"
#include "vm/genid.h"
#include "vm/vmclock.h"

#define MEMORY (64 * MIB)
#define PAGE 4096
#define IRQ_LIMIT_MS 60000
#define VECTOR 0x43

#define OK(expression) assert_true((expression) >= 0)

static const char *guest_path;

/* Describes the ACPI tables of a machine of these tests, from ARCH_ACPI on, as text. */
static void tables(unsigned genid_gsi, struct strbuf *ret)
{
	static const struct acpi_device devices[] = {
		{0xd0000000, 0x200, 5}, {0xd0001000, 0x200, 6}};
	struct vm_memory m;
	uint64_t rsdp = 0;
	size_t len = ARCH_ACPI_END - ARCH_ACPI;

	OK(vm_memory_init(&m, &(struct vm_memory_options){.size = 2 * MIB}));
	OK(acpi_write(&m,
		&(struct acpi_machine){
			.cpus = 2, .devices = devices, .device_count = 2, .genid_gsi = genid_gsi},
		&rsdp));
	const uint8_t *bytes = vm_memory_at(&m, ARCH_ACPI, len);
	assert_non_null(bytes);
	while (len > 0 && bytes[len - 1] == 0)
		len--;
	for (size_t i = 0; i < len; i++)
		OK(strbuf_addf(ret, "%02x", bytes[i]));
	vm_memory_release(&m);
}

/*
 * Compares the ACPI tables with those that a machine of each version has had since that version
 * was made. A guest may read its tables again at any time.
 */
static void tables_as_in_earlier_commits(void **state)
{
	static const struct {
		unsigned genid_gsi;
		const char *want;
	} versions[] = {{0, abi_tables_2}, {VM_GSI_GENID, abi_tables_3}};

	for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
		_cleanup_strbuf_ struct strbuf text = {0};

		tables(versions[i].genid_gsi, &text);
		if (strcmp(strbuf_str(&text), versions[i].want) == 0)
			continue;
		fprintf(stderr, "the tables are %s\nand were %s\n", strbuf_str(&text),
			versions[i].want);
		fail_msg("the guest sees other ACPI tables, so MACHINE_ABI must change");
	}
}

static const uint8_t *id_of(const struct vm_memory *m)
{
	const uint8_t *id = vm_memory_at(m, ARCH_GENID, PAGE);

	assert_non_null(id);
	return id;
}

static void each_id_is_new(void **state)
{
	static const uint8_t zeros[PAGE - VM_GENID_LEN];
	struct boot_map_entry map[BOOT_MAP_MAX];
	uint8_t first[VM_GENID_LEN];
	unsigned around = 0;
	struct vm_memory m, none = VM_MEMORY_NONE;

	OK(vm_memory_init(&m, &(struct vm_memory_options){.size = 2 * MIB}));
	OK(vm_genid_renew(&m));
	memcpy(first, id_of(&m), sizeof(first));
	assert_memory_not_equal(first, zeros, sizeof(first));
	OK(vm_genid_renew(&m));
	assert_memory_not_equal(first, id_of(&m), sizeof(first));
	assert_memory_equal(id_of(&m) + VM_GENID_LEN, zeros, sizeof(zeros));
	/* The specification demands that no memory of the kernel is there. */
	for (unsigned i = 0, n = boot_map(&m, map); i < n; i++)
		if (map[i].at <= ARCH_GENID && ARCH_GENID + PAGE <= map[i].at + map[i].len) {
			assert_int_equal(map[i].type, BOOT_RESERVED);
			around++;
		}
	assert_int_equal(around, 1);
	assert_int_equal(ARCH_GENID % 8, 0);
	vm_memory_release(&m);
	assert_int_equal(vm_genid_renew(&none), -EFAULT);
	assert_non_null(strstr(err_msg(), "generation id"));
}

static const struct vmclock_page *clock_of(const struct vm_memory *m)
{
	const struct vmclock_page *page = vm_memory_at(m, ARCH_VMCLOCK, PAGE);

	assert_non_null(page);
	return page;
}

/*
 * The page of VMClock must be the one that Linux's driver accepts, also after the guest has
 * overwritten it, and its members must have new values each time.
 */
static void each_clock_is_new(void **state)
{
	/* The bytes before seq_count, as uapi/linux/vmclock-abi.h has them. */
	static const uint8_t head[] = "VCLK\0\x10\0\0\1\0\xff\0";
	static const uint8_t flags[] = "\0\3\0\0\0\0\0";
	struct vmclock_page before;
	struct vm_memory m;

	OK(vm_memory_init(&m, &(struct vm_memory_options){.size = 2 * MIB}));
	OK(vm_genid_renew(&m));
	for (unsigned i = 0; i < 4; i++) {
		memcpy(&before, clock_of(&m), sizeof(before));
		if (i > 1) {
			memset(&before, i == 2 ? 0xff : 0x55, sizeof(before));
			OK(vm_memory_write(&m, ARCH_VMCLOCK, &before, sizeof(before), "page"));
		}
		OK(vm_genid_renew(&m));
		const struct vmclock_page *p = clock_of(&m);
		assert_memory_equal(p, head, 12);
		assert_memory_equal((const uint8_t *)p + 0x18, flags, 8);
		assert_int_equal(p->clock_status, 0);
		assert_int_equal(p->seq_count % 2, 0);
		assert_int_not_equal(p->seq_count, before.seq_count);
		assert_true(p->disruption_marker != before.disruption_marker);
		assert_true(p->vm_generation_counter != before.vm_generation_counter);
		for (size_t at = 0; at < sizeof(p->time); at++)
			assert_int_equal(p->time[at], 0);
	}
	vm_memory_release(&m);
}

/* --- whole machines --- */

static struct host h;
static struct snapshot_writer file;
static int memory;

static void build(const struct snapshot *from, bool mergeable)
{
	const struct machine_options o = {.kvm = "/dev/kvm",
		.memory = {.size = MEMORY, .mergeable = mergeable},
		.cpus = 1,
		.kernel = h.kernel,
		.initramfs = -EBADF,
		.cmdline = "",
		.console_in = h.keys[0],
		.console_out = h.console[1],
		.snapshot = from,
		.snapshot_memory = memory};

	if (machine_build(&h.m, &o) < 0)
		fail_msg("%s", err_msg());
}

static void save(void)
{
	memory = memfd_create("memory", MFD_CLOEXEC);
	OK(snapshot_begin(&file));
	if (machine_save(&h.m, &file, memory) < 0)
		fail_msg("%s", err_msg());
	OK(snapshot_finish(&file));
}

/* offsets in the registers of a local APIC: spurious-interrupt vector, interrupt requests */
#define APIC_SPIV 0xf0
#define APIC_ENABLED 0x100
#define APIC_IRR 0x200

/* Makes the interrupt of the generation id that of VECTOR on vCPU 0, as a guest does. */
static void route_irq(void)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
	struct kvm_lapic_state apic;
	uint32_t spiv;

	assert_int_equal(ioctl(h.m.kvm.vm, KVM_GET_IRQCHIP, &chip), 0);
	chip.chip.ioapic.redirtbl[VM_GSI_GENID].bits = VECTOR;
	assert_int_equal(ioctl(h.m.kvm.vm, KVM_SET_IRQCHIP, &chip), 0);
	assert_int_equal(ioctl(vcpus_fd(&h.m.cpus, 0), KVM_GET_LAPIC, &apic), 0);
	memcpy(&spiv, apic.regs + APIC_SPIV, sizeof(spiv));
	spiv |= APIC_ENABLED;
	memcpy(apic.regs + APIC_SPIV, &spiv, sizeof(spiv));
	assert_int_equal(ioctl(vcpus_fd(&h.m.cpus, 0), KVM_SET_LAPIC, &apic), 0);
}

/* Says whether the interrupt waits for vCPU 0, which never runs here and so never takes it. */
static bool irq_waits(void)
{
	struct kvm_lapic_state apic;
	uint32_t requests;

	assert_int_equal(ioctl(vcpus_fd(&h.m.cpus, 0), KVM_GET_LAPIC, &apic), 0);
	memcpy(&requests, apic.regs + APIC_IRR + VECTOR / 32 * 0x10, sizeof(requests));
	return requests & 1U << VECTOR % 32;
}

/* KVM raises the interrupt in a thread of the host's kernel, so the test waits for that thread. */
static void expect_irq(void)
{
	const int64_t end = clock_ms() + IRQ_LIMIT_MS;

	while (!irq_waits() && clock_ms() < end)
		poll(NULL, 0, 10);
	assert_true(irq_waits());
}

/* Makes the snapshot one of another version of the machine, as an earlier caisson wrote it. */
static void set_version(uint32_t abi)
{
	const size_t crc_at = 28;

	memcpy(file.bytes.s + 12, &abi, sizeof(abi));
	uint32_t crc = crc32c(0, file.bytes.s, crc_at);
	memcpy(file.bytes.s + crc_at, &crc, sizeof(crc));
}

static void begin(struct snapshot *ret, uint32_t version)
{
	memory = -EBADF;
	host_open(&h, guest_path);
	build(NULL, false);
	route_irq();
	save();
	machine_release(&h.m);
	set_version(version);
	OK(snapshot_open(ret, file.bytes.s, file.bytes.len));
	assert_int_equal(ret->abi, version);
}

static void end(void)
{
	snapshot_release(&file);
	fd_close(&memory);
	host_close(&h);
}

static void saved_id(uint8_t ret[VM_GENID_LEN])
{
	assert_int_equal(pread(memory, ret, VM_GENID_LEN, ARCH_GENID), VM_GENID_LEN);
}

/*
 * Each machine that starts from a snapshot must get an id of its own and the interrupt, whether it
 * maps the guest's memory or copies it. The file of the snapshot must stay as it is.
 */
static void each_machine_has_its_own(void **state)
{
	uint8_t ids[4][VM_GENID_LEN];
	uint64_t clocks[4] = {0};
	struct snapshot s;

	begin(&s, MACHINE_ABI);
	saved_id(ids[0]);
	for (size_t i = 1; i < ARRAY_SIZE(ids); i++) {
		build(&s, i == 3);
		assert_int_equal(h.m.memory.mapped, i < 3);
		memcpy(ids[i], id_of(&h.m.memory), VM_GENID_LEN);
		clocks[i] = clock_of(&h.m.memory)->vm_generation_counter;
		for (size_t other = 0; other < i; other++) {
			assert_memory_not_equal(ids[i], ids[other], VM_GENID_LEN);
			assert_true(clocks[i] != clocks[other]);
		}
		expect_irq();
		machine_release(&h.m);
	}
	uint8_t still[VM_GENID_LEN];
	saved_id(still);
	assert_memory_equal(still, ids[0], VM_GENID_LEN);
	end();
}

/*
 * A machine of the version without an id must stay such a machine, also when it is saved again: its
 * guest has other tables, and its memory there may have any contents.
 */
static void none_in_version_2(void **state)
{
	uint8_t id[VM_GENID_LEN];
	struct snapshot s;

	begin(&s, 2);
	saved_id(id);
	build(&s, false);
	assert_memory_equal(id_of(&h.m.memory), id, VM_GENID_LEN);
	snapshot_release(&file);
	fd_close(&memory);
	save();
	OK(snapshot_open(&s, file.bytes.s, file.bytes.len));
	assert_int_equal(s.abi, 2);
	assert_false(irq_waits());
	machine_release(&h.m);
	end();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest plain[] = {
		cmocka_unit_test(tables_as_in_earlier_commits),
		cmocka_unit_test(each_id_is_new),
		cmocka_unit_test(each_clock_is_new),
	};
	const struct CMUnitTest with_kvm[] = {
		cmocka_unit_test(each_machine_has_its_own),
		cmocka_unit_test(none_in_version_2),
	};

	signal(SIGPIPE, SIG_IGN);
	if (argc != 2) {
		fprintf(stderr, "expected the guest's file\n");
		return 2;
	}
	guest_path = argv[1];
	int r = cmocka_run_group_tests(plain, NULL, NULL);
	if (access("/dev/kvm", R_OK | W_OK) < 0) {
		fprintf(stderr, "skipped: whole machines need /dev/kvm\n");
		return r ? r : 77;
	}
	return r + cmocka_run_group_tests(with_kvm, NULL, NULL);
}
