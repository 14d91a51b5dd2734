/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the vCPU loop on this machine's /dev/kvm with the guests of vm_guests.S: exits, buses,
 * interrupts, SMP, pause, and every way to end. Without /dev/kvm it tests only the error messages.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "base/str.h"
#include "vm/arch/x86_64/acpi.h"
#include "vm/arch/x86_64/arch.h"
#include "vm/irq.h"
#include "vm/power.h"

#define MIB (UINT64_C(1) << 20)
/*
 * The time limit for a guest is long, because KVM may have to interpret the guest's kernel code, at
 * 1.6 million instructions per second.
 */
#define LIMIT_MS 20000

#define GUEST(name) extern const uint8_t guest_##name[], guest_##name##_end[]
GUEST(hello);
GUEST(argument);
GUEST(pvh);
GUEST(triple);
GUEST(nowhere);
GUEST(sleep_s3);
GUEST(spin);
GUEST(halt);
GUEST(doorbell);
GUEST(interrupt);
GUEST(smp);
extern const uint8_t guest_interrupt_handler[];
#define LOAD(b, name) load(b, guest_##name, (size_t)(guest_##name##_end - guest_##name))

struct box {
	struct vm_memory memory;
	struct vm_kvm kvm;
	struct vm_bus pio, mmio;
	struct vcpus cpus;
	struct vm_irq irq;
	char log[256];
	size_t log_len;
	uint32_t values[8], mmio_written[2];
	size_t value_count, mmio_calls;
	bool raise_on_log;
};

#define OK(call) \
	do { \
		if ((call) < 0) \
			fail_msg("%s: %s", #call, err_msg()); \
	} while (0)

static void log_write(void *device, uint64_t offset, const void *data, unsigned len)
{
	struct box *b = device;

	if (b->log_len < sizeof(b->log) - 1)
		b->log[b->log_len++] = *(const char *)data;
	if (b->raise_on_log)
		vm_irq_raise(&b->irq);
	b->raise_on_log = false;
}

static void value_write(void *device, uint64_t offset, const void *data, unsigned len)
{
	struct box *b = device;

	if (b->value_count < ARRAY_SIZE(b->values))
		memcpy(&b->values[b->value_count++], data, 4);
}

static void value_read(void *device, uint64_t offset, void *data, unsigned len)
{
	memcpy(data, "abcd", 4);
}

static void mmio_write(void *device, uint64_t offset, const void *data, unsigned len)
{
	struct box *b = device;

	b->mmio_calls++;
	memcpy(&b->mmio_written[offset / 4 % 2], data, 4);
}

static void mmio_read(void *device, uint64_t offset, void *data, unsigned len)
{
	memcpy(data, "wxyz", 4);
}

static const struct vm_bus_ops log_ops = {1, NULL, log_write};
static const struct vm_bus_ops value_ops = {4, value_read, value_write};
static const struct vm_bus_ops mmio_ops = {4, mmio_read, mmio_write};

static void box_init(struct box *b, unsigned cpus)
{
	*b = (struct box){.irq.fd = -EBADF};
	OK(vm_memory_init(&b->memory, &(struct vm_memory_options){.size = 16 * MIB}));
	OK(vm_kvm_open(&b->kvm, "/dev/kvm"));
	OK(vm_kvm_add_memory(&b->kvm, &b->memory));
	OK(vm_kvm_create_irqchip(&b->kvm));
	OK(vcpus_init(
		&b->cpus, &(struct vcpus_options){&b->kvm, &b->memory, &b->pio, &b->mmio, cpus}));
	OK(vm_power_add(&b->pio, &b->cpus));
	OK(vm_bus_add(&b->pio, &(struct vm_bus_entry){0x510, 1, "log", &log_ops, b}));
	OK(vm_bus_add(&b->pio, &(struct vm_bus_entry){0x514, 4, "value", &value_ops, b}));
	OK(vm_bus_add(&b->mmio, &(struct vm_bus_entry){0xd0000000, 8, "probe", &mmio_ops, b}));
	OK(vm_bus_add(&b->mmio, &(struct vm_bus_entry){0xd0002050, 4, "bell", &mmio_ops, b}));
}

static void load(struct box *b, const uint8_t *code, size_t len)
{
	OK(vm_memory_write(&b->memory, ARCH_KERNEL, code, len, "guest"));
}

static void start(struct box *b, enum arch_mode mode, uint64_t argument)
{
	struct arch_entry entry = {mode, ARCH_KERNEL, argument};

	OK(arch_set_entry(vcpus_fd(&b->cpus, 0), &b->memory, &entry));
	OK(vcpus_start(&b->cpus));
	vcpus_resume(&b->cpus);
}

static void box_release(struct box *b)
{
	vcpus_stop(&b->cpus);
	vcpus_release(&b->cpus);
	vm_irq_release(&b->irq);
	vm_kvm_release(&b->kvm);
	vm_memory_release(&b->memory);
}

/*
 * Runs the guest that box_init() and LOAD() have prepared, and returns how it ended. A guest that
 * hangs fails the test.
 */
static enum vm_end run(struct box *b, enum arch_mode mode, uint64_t argument)
{
	start(b, mode, argument);
	struct pollfd p = {.fd = b->cpus.ended, .events = POLLIN};
	assert_int_equal(poll(&p, 1, LIMIT_MS), 1);
	vcpus_stop(&b->cpus);
	if (b->cpus.end == VM_END_FAULT)
		/* cmocka shows this text only if the test fails */
		print_message("%s\n", b->cpus.why);
	return b->cpus.end;
}

static void pio_and_mmio(void **state)
{
	struct box b;

	box_init(&b, 1);
	LOAD(&b, hello);
	assert_int_equal(run(&b, ARCH_LONG, 0), VM_END_POWEROFF);
	assert_string_equal(b.log, "hello");
	assert_int_equal(b.mmio_written[0], 0x12345678);
	assert_memory_equal(&b.values[0], "wxyz", 4);
	assert_memory_equal(&b.mmio_written[1], "abcd", 4);
	assert_int_equal(b.values[1], 0xffffffff);
	box_release(&b);
}

static void entry_state(void **state)
{
	struct box b;

	box_init(&b, 1);
	LOAD(&b, argument);
	assert_int_equal(run(&b, ARCH_LONG, 0x7000), VM_END_RESET);
	assert_int_equal(b.values[0], 0x7000);
	box_release(&b);
	box_init(&b, 1);
	LOAD(&b, pvh);
	assert_int_equal(run(&b, ARCH_PVH, 0x6000), VM_END_POWEROFF);
	assert_int_equal(b.values[0], 0x6000);
	/* the guest has read CR0, which must show protected mode without paging */
	assert_int_equal(b.values[1] & 0x80000001, 1);
	box_release(&b);
}

static void faults_have_registers(void **state)
{
	struct box b;

	box_init(&b, 1);
	LOAD(&b, triple);
	assert_int_equal(run(&b, ARCH_LONG, 0), VM_END_FAULT);
	assert_non_null(strstr(b.cpus.why, "vCPU 0: "));
	assert_non_null(strstr(b.cpus.why, "rip="));
	assert_non_null(strstr(b.cpus.why, "r9 =0000000011223344"));
	/*
	 * The error must show the code at the guest's instruction pointer, where 0f 0b is the
	 * instruction ud2.
	 */
	assert_non_null(strstr(b.cpus.why, "code at rip: 0f 0b"));
	box_release(&b);
	box_init(&b, 1);
	LOAD(&b, nowhere);
	assert_int_equal(run(&b, ARCH_LONG, 0), VM_END_FAULT);
	assert_non_null(strstr(b.cpus.why, "rip="));
	box_release(&b);
	box_init(&b, 1);
	LOAD(&b, sleep_s3);
	assert_int_equal(run(&b, ARCH_LONG, 0), VM_END_FAULT);
	assert_non_null(strstr(b.cpus.why, "sleep state type 3"));
	box_release(&b);
}

static void sleep_ms(long ms)
{
	nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

static uint64_t wait_past(const volatile uint64_t *counter, uint64_t value)
{
	for (int i = 0; i < LIMIT_MS / 10 && *counter <= value; i++)
		sleep_ms(10);
	assert_true(*counter > value);
	return *counter;
}

static void pause_and_resume(void **state)
{
	struct box b;

	box_init(&b, 1);
	LOAD(&b, spin);
	volatile uint64_t *counter = vm_memory_at(&b.memory, 0x200000, 8);
	start(&b, ARCH_LONG, 0);
	uint64_t seen = wait_past(counter, 0);
	for (int i = 0; i < 5; i++) {
		vcpus_pause(&b.cpus);
		seen = *counter;
		sleep_ms(50);
		assert_int_equal(*counter, seen);
		vcpus_resume(&b.cpus);
		wait_past(counter, seen);
	}
	/*
	 * Checks that the vCPUs can be stopped while the guest spins, and also while they are
	 * paused.
	 */
	vcpus_stop(&b.cpus);
	assert_int_equal(b.cpus.end, VM_END_STOPPED);
	box_release(&b);
	box_init(&b, 2);
	LOAD(&b, spin);
	start(&b, ARCH_LONG, 0);
	vcpus_pause(&b.cpus);
	box_release(&b);
}

static void stop_while_halted(void **state)
{
	struct box b;

	box_init(&b, 3);
	LOAD(&b, halt);
	start(&b, ARCH_LONG, 0);
	for (int i = 0; i < LIMIT_MS / 10 && *(volatile char *)b.log != '.'; i++)
		sleep_ms(10);
	assert_int_equal(b.log[0], '.');
	/* the second and third vCPU still wait in the kernel for a SIPI, and must pause too */
	vcpus_pause(&b.cpus);
	vcpus_resume(&b.cpus);
	vcpus_stop(&b.cpus);
	assert_int_equal(b.cpus.end, VM_END_STOPPED);
	box_release(&b);
}

static void first_end_counts(void **state)
{
	struct box b;

	box_init(&b, 1);
	LOAD(&b, hello);
	assert_int_equal(run(&b, ARCH_LONG, 0), VM_END_POWEROFF);
	vcpus_end(&b.cpus, VM_END_FAULT, "late");
	vcpus_stop(&b.cpus);
	assert_int_equal(b.cpus.end, VM_END_POWEROFF);
	assert_string_equal(b.cpus.why, "powered off");
	box_release(&b);
}

static void doorbell(void **state)
{
	struct box b;
	eventfd_t rings = 0;

	box_init(&b, 1);
	_cleanup_fd_ int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	OK(vm_kvm_ioeventfd(&b.kvm, fd, 0xd0002050, 0));
	LOAD(&b, doorbell);
	assert_int_equal(run(&b, ARCH_LONG, 0), VM_END_POWEROFF);
	assert_int_equal(eventfd_read(fd, &rings), 0);
	assert_int_equal(rings, 2);
	assert_int_equal(b.mmio_calls, 1);
	box_release(&b);
}

static void interrupt(void **state)
{
	struct box b;

	box_init(&b, 1);
	OK(vm_irq_init(&b.irq, &b.kvm, 0));
	assert_int_equal(b.irq.gsi, 5);
	LOAD(&b, interrupt);
	uint64_t handler = ARCH_KERNEL + (uint64_t)(guest_interrupt_handler - guest_interrupt);
	uint64_t gate[2] = {(handler & 0xffff) | 0x10 << 16 | UINT64_C(0x8e00) << 32 |
				    (handler >> 16 & 0xffff) << 48,
		handler >> 32};
	OK(vm_memory_write(&b.memory, 0x1000 + 0x40 * 16, gate, sizeof(gate), "IDT"));
	b.raise_on_log = true;
	assert_int_equal(run(&b, ARCH_LONG, 0), VM_END_POWEROFF);
	assert_string_equal(b.log, "ri");
	box_release(&b);
}

static void second_cpu(void **state)
{
	struct box b;

	box_init(&b, 2);
	LOAD(&b, smp);
	assert_int_equal(run(&b, ARCH_LONG, 0), VM_END_POWEROFF);
	assert_string_equal(b.log, "2");
	box_release(&b);
}

static void refused(void **state)
{
	struct vm_kvm k;
	struct vcpus c;
	struct box b;

	assert_int_equal(vm_kvm_open(&k, "/nonexistent/kvm"), -ENOENT);
	assert_non_null(strstr(err_msg(), "this host has no KVM"));
	assert_int_equal(vm_kvm_open(&k, "/dev/null"), -ENOSYS);
	assert_non_null(strstr(err_msg(), "/dev/null is not KVM"));
	box_init(&b, 1);
	static const unsigned counts[] = {0, 255, 1000, 4294967295U};
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		assert_int_equal(vcpus_init(&c, &(struct vcpus_options){&b.kvm, &b.memory, &b.pio,
							&b.mmio, counts[i]}),
			-EINVAL);
		assert_non_null(strstr(err_msg(), "vCPUs: expected 1 to "));
	}
	struct vm_irq irq;
	assert_int_equal(vm_irq_init(&irq, &b.kvm, VM_GSI_COUNT), -ENOSPC);
	box_release(&b);
}

static uint32_t le32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static const uint8_t *table(const struct vm_memory *m, uint64_t at, const char *signature)
{
	const uint8_t *p = vm_memory_at(m, at, 36);

	assert_non_null(p);
	assert_memory_equal(p, signature, 4);
	uint8_t sum = 0;
	for (uint32_t i = 0; i < le32(p + 4); i++)
		sum = (uint8_t)(sum + p[i]);
	assert_int_equal(sum, 0);
	return p;
}

static void acpi_tables(void **state)
{
	static const struct acpi_device devices[] = {
		{0xd0000000, 0x1000, 5}, {0xd0001000, 0x1000, 6}};
	struct vm_memory m;
	uint64_t rsdp = 0;

	OK(vm_memory_init(&m, &(struct vm_memory_options){.size = 16 * MIB}));
	OK(acpi_write(&m, &(struct acpi_machine){3, devices, 2}, &rsdp));
	const uint8_t *p = vm_memory_at(&m, rsdp, 36);
	assert_memory_equal(p, "RSD PTR ", 8);
	const uint8_t *xsdt = table(&m, le32(p + 24), "XSDT");
	assert_int_equal(le32(xsdt + 4), 36 + 2 * 8);
	const uint8_t *fadt = table(&m, le32(xsdt + 36), "FACP");
	assert_int_equal(le32(fadt + 4), 276);
	assert_true(le32(fadt + 112) & 1U << 20);
	const uint8_t *madt = table(&m, le32(xsdt + 44), "APIC");
	assert_int_equal(le32(madt + 4), 44 + 3 * 8 + 12);
	assert_int_equal(madt[44 + 2 * 8 + 3], 2); /* this byte is the APIC id of the third CPU */
	const uint8_t *dsdt = table(&m, le32(fadt + 140), "DSDT");
	/*
	 * As their PkgLength fields say, the scope in the DSDT must end where the name _S5_ begins,
	 * and the package of _S5_ must end exactly at the table's end.
	 */
	assert_int_equal(dsdt[36], 0x10);
	uint32_t scope = (dsdt[37] & 0xf) | (uint32_t)dsdt[38] << 4 | (uint32_t)dsdt[39] << 12;
	assert_memory_equal(dsdt + 37 + scope, "\x08_S5_\x12", 6);
	assert_int_equal(37 + scope + 6 + (dsdt[37 + scope + 6] & 0xf), le32(dsdt + 4));
	/*
	 * The ACPI tables must fit in their memory even with as many devices as there are
	 * interrupts, the most CPUs, and everything that is optional.
	 */
	struct acpi_device many[VM_GSI_COUNT];
	for (unsigned i = 0; i < VM_GSI_COUNT; i++)
		many[i] = devices[0];
	OK(acpi_write(
		&m, &(struct acpi_machine){VCPUS_MAX, many, VM_GSI_COUNT, 23, true, 3}, &rsdp));
	vm_memory_release(&m);
}

/*
 * Checks the serial port and the power button, which the machine of a guest without caisson's agent
 * has: the DSDT must describe them as ACPI 6.4 demands.
 */
static void acpi_of_foreign_guests(void **state)
{
	static const struct acpi_device devices[] = {{0xd0000000, 0x1000, 5}};
	/*
	 * The _CRS of the serial port is a buffer of 19 bytes with the ports 0x3f8 to 0x3ff and
	 * interrupt 4, edge-triggered.
	 */
	static const char port[] = "\x08_HID\x0dPNP0501\0\x08_CRS\x11\x88\x01\0\x0a\x13"
				   "\x47\x01\xf8\x03\xf8\x03\x01\x08"
				   "\x89\x06\0\x03\x01\x04\0\0\0\x79\0";
	/* The method _EVT notifies the power button \_SB.PWRB of the event 0x80. */
	static const char method[] = "\x89\x06\0\x03\x01\x17\0\0\0\x79\0"
				     "\x14\x85\x01\0_EVT\x09\x86\\._SB_PWRB\x0a\x80";
	struct vm_memory m;
	uint64_t rsdp = 0;

	OK(vm_memory_init(&m, &(struct vm_memory_options){.size = 16 * MIB}));
	OK(acpi_write(&m, &(struct acpi_machine){1, devices, 1, 23, true}, &rsdp));
	const uint8_t *xsdt = table(&m, le32((uint8_t *)vm_memory_at(&m, rsdp, 36) + 24), "XSDT");
	const uint8_t *dsdt = table(&m, le32(table(&m, le32(xsdt + 36), "FACP") + 140), "DSDT");
	assert_non_null(memmem(dsdt, le32(dsdt + 4), port, sizeof(port) - 1));
	assert_non_null(memmem(dsdt, le32(dsdt + 4), method, sizeof(method) - 1));
	/*
	 * The DSDT of a machine without serial port and power button must describe neither of them.
	 */
	OK(acpi_write(&m, &(struct acpi_machine){1, devices, 1, 0, false}, &rsdp));
	xsdt = table(&m, le32((uint8_t *)vm_memory_at(&m, rsdp, 36) + 24), "XSDT");
	dsdt = table(&m, le32(table(&m, le32(xsdt + 36), "FACP") + 140), "DSDT");
	assert_null(memmem(dsdt, le32(dsdt + 4), "PNP0", 4));
	vm_memory_release(&m);
}

int main(void)
{
	const struct CMUnitTest plain[] = {
		cmocka_unit_test(acpi_tables), cmocka_unit_test(acpi_of_foreign_guests)};
	const struct CMUnitTest with_kvm[] = {
		cmocka_unit_test(refused),
		cmocka_unit_test(pio_and_mmio),
		cmocka_unit_test(entry_state),
		cmocka_unit_test(faults_have_registers),
		cmocka_unit_test(pause_and_resume),
		cmocka_unit_test(stop_while_halted),
		cmocka_unit_test(first_end_counts),
		cmocka_unit_test(doorbell),
		cmocka_unit_test(interrupt),
		cmocka_unit_test(second_cpu),
	};
	int failed = cmocka_run_group_tests(plain, NULL, NULL);

	if (access("/dev/kvm", R_OK | W_OK) < 0) {
		fprintf(stderr, "skipped: the vCPU tests need /dev/kvm\n");
		return failed ? failed : 77;
	}
	return failed + cmocka_run_group_tests(with_kvm, NULL, NULL);
}
