/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/arch/x86_64/acpi.h"

#include <endian.h>
#include <string.h>

#include "base/str.h"
#include "vm/arch/x86_64/arch.h"
#include "vm/power.h"
#include "vm/uart.h"
#include "vm/vmclock.h"

#define LAPIC_ADDRESS 0xfee00000
#define IOAPIC_ADDRESS 0xfec00000
#define HEADER_LEN 36

#define FADT_REVISION 6
#define FADT_LEN 276
#define FADT_RESET_REG_SUP (1U << 10)
#define FADT_HW_REDUCED (1U << 20)
/* FADT flag, set because the fixed hardware has no power button */
#define FADT_FIXED_POWER_BUTTON (1U << 4)
#define FADT_FIXED_SLEEP_BUTTON (1U << 5)
#define FADT_WBINVD 1U
#define BOOT_NO_VGA (1U << 2)
#define BOOT_NO_RTC (1U << 5)

/*
 * Holds an ACPI table, or AML code, while the table is being written. `bad` keeps the first error,
 * so that only finish_table() has to check for errors.
 */
struct table {
	struct strbuf b;
	int bad;
};

static void add_bytes(struct table *t, const void *data, size_t len)
{
	if (t->bad == 0)
		t->bad = strbuf_add(&t->b, data, len);
}

static void add_int(struct table *t, uint64_t value, size_t len)
{
	value = htole64(value);
	add_bytes(t, &value, len);
}

static void set_int(struct table *t, size_t at, uint64_t value, size_t len)
{
	value = htole64(value);
	if (t->bad == 0)
		memcpy(t->b.s + at, &value, len);
}

static void add_header(struct table *t, const char *signature, unsigned revision)
{
	add_bytes(t, signature, 4);
	add_int(t, 0, 4); /* placeholder for length and checksum, which finish_table() sets */
	add_int(t, revision, 1);
	add_int(t, 0, 1);
	add_bytes(t, "CAISSNCAISSONM", 14);
	add_int(t, 1, 4);
	add_bytes(t, "CAIS", 4);
	add_int(t, 1, 4);
}

static uint8_t table_checksum(const char *data, size_t len)
{
	uint8_t sum = 0;

	while (len-- > 0)
		sum = (uint8_t)(sum + (uint8_t)*data++);
	return (uint8_t)-sum;
}

/*
 * Sets the length and the checksum of the table, copies the table to guest memory at *at, and
 * advances *at behind it. Sets *ret to the guest address of the table.
 */
static int finish_table(struct table *t, const struct vm_memory *m, uint64_t *at, uint64_t *ret)
{
	if (t->bad < 0)
		return t->bad;
	set_int(t, 4, t->b.len, 4);
	set_int(t, 9, 0, 1);
	set_int(t, 9, table_checksum(t->b.s, t->b.len), 1);
	if (*at + t->b.len > ARCH_ACPI_END)
		return err_set(ENOSPC, "the ACPI tables do not fit below 1 MiB");
	int r = vm_memory_write(m, *at, t->b.s, t->b.len, "ACPI table");
	*ret = *at;
	*at = (*at + t->b.len + 63) & ~UINT64_C(63);
	return r;
}

/* --- AML: these functions have the names of the terms in ACPI 6.4, chapter 20 --- */

/* Reserves three bytes for a PkgLength. AML allows this form for any length. */
static size_t aml_open(struct table *t)
{
	size_t at = t->b.len;

	add_int(t, 0, 3);
	return at;
}

static void aml_close(struct table *t, size_t at)
{
	size_t len = t->b.len - at;

	set_int(t, at, 0x80 | (len & 0xf), 1);
	set_int(t, at + 1, len >> 4, 2);
}

static void aml_name(struct table *t, const char *name)
{
	add_int(t, 0x08, 1);
	add_bytes(t, name, 4);
}

static void aml_dword(struct table *t, uint32_t value)
{
	add_int(t, 0x0c, 1);
	add_int(t, value, 4);
}

#define CRS_MEMORY_LEN 12
#define CRS_PORTS_LEN 8
#define CRS_INTERRUPT_LEN 9
#define CRS_END_LEN 2

static void add_memory(struct table *t, const struct acpi_device *d)
{
	add_int(t, 0x86, 1); /* AML resource: Memory32Fixed, read-write */
	add_int(t, 9, 2);
	add_int(t, 1, 1);
	add_int(t, d->base, 4);
	add_int(t, d->len, 4);
}

static void add_ports(struct table *t, const struct acpi_device *d)
{
	add_int(t, 0x47, 1); /* AML resource: I/O ports */
	add_int(t, 1, 1);    /* all 16 bits of the port's number are decoded */
	add_int(t, d->base, 2);
	add_int(t, d->base, 2);
	add_int(t, 1, 1);
	add_int(t, d->len, 1);
}

/* Begins _CRS, whose descriptors have `len` bytes in all, and aml_close_crs() ends it. */
static size_t aml_open_crs(struct table *t, size_t len)
{
	aml_name(t, "_CRS");
	add_int(t, 0x11, 1); /* AML: BufferOp */
	size_t buffer = aml_open(t);
	add_int(t, 0x0a, 1);
	add_int(t, len + CRS_END_LEN, 1);
	return buffer;
}

static void aml_close_crs(struct table *t, size_t buffer)
{
	add_int(t, 0x79, 2); /* AML resource: end tag without checksum */
	aml_close(t, buffer);
}

/*
 * Adds _CRS with one interrupt. Registers below 64 KiB are I/O ports, and a device without
 * registers has a `base` of 0.
 */
static void aml_crs(struct table *t, const struct acpi_device *d)
{
	bool memory = d->base >= 0x10000, ports = d->base && !memory;

	size_t crs = aml_open_crs(t, (memory         ? CRS_MEMORY_LEN
					     : ports ? CRS_PORTS_LEN
						     : 0) +
					     CRS_INTERRUPT_LEN);
	if (memory)
		add_memory(t, d);
	if (ports)
		add_ports(t, d);
	add_int(t, 0x89, 1); /* AML resource: Interrupt, consumer, edge, active high, exclusive */
	add_int(t, 6, 2);
	add_int(t, 3, 1);
	add_int(t, 1, 1);
	add_int(t, d->gsi, 4);
	aml_close_crs(t, crs);
}

static void aml_string(struct table *t, const char *name, const char *value)
{
	aml_name(t, name);
	add_int(t, 0x0d, 1); /* AML: StringPrefix */
	add_bytes(t, value, strlen(value) + 1);
}

/* Begins a device with a name of four characters, and aml_close() ends it. */
static size_t aml_open_device(struct table *t, const char *name, const char *hid)
{
	add_bytes(t, "\x5b\x82", 2); /* AML: DeviceOp */
	size_t device = aml_open(t);
	add_bytes(t, name, 4);
	aml_string(t, "_HID", hid);
	return device;
}

/*
 * Adds a Generic Event Device (ACPI 6.4, 5.6.9). Its only interrupt notifies all devices of \_SB
 * whose names, of four characters each, are in `targets`, of the event 0x80. So _EVT need not ask
 * which interrupt it was.
 */
static void aml_ged(struct table *t, unsigned index, unsigned gsi, const char *targets)
{
	const struct acpi_device interrupt = {.gsi = gsi};
	const char name[4] = {'G', 'E', 'D', (char)('0' + index)};

	size_t device = aml_open_device(t, name, "ACPI0013");
	aml_name(t, "_UID");
	aml_dword(t, index);
	aml_crs(t, &interrupt);
	add_int(t, 0x14, 1); /* AML: MethodOp */
	size_t method = aml_open(t);
	add_bytes(t, "_EVT", 4);
	add_int(t, 0x09, 1); /* AML: one argument, serialized */
	for (; *targets; targets += 4) {
		/* AML: NotifyOp, root, two names, and the value 0x80 */
		add_bytes(t, "\x86\x5c\x2e_SB_", 7);
		add_bytes(t, targets, 4);
		add_int(t, 0x800a, 2);
	}
	aml_close(t, method);
	aml_close(t, device);
}

static void aml_button(struct table *t, unsigned gsi)
{
	size_t device = aml_open_device(t, "PWRB", "PNP0C0C");
	aml_close(t, device);
	aml_ged(t, 0, gsi, "PWRB");
}

/*
 * Adds the device that says where the generation id is. Guests recognize the device by _CID or by
 * _DDN, and ADDR has the two halves of the id's address.
 */
static void aml_genid(struct table *t)
{
	size_t device = aml_open_device(t, "VGEN", "CAIS0001");
	aml_string(t, "_CID", "VM_Gen_Counter");
	aml_string(t, "_DDN", "VM_Gen_Counter");
	aml_name(t, "ADDR");
	add_int(t, 0x12, 1); /* AML: PackageOp */
	size_t package = aml_open(t);
	add_int(t, 2, 1);
	aml_dword(t, ARCH_GENID);
	aml_dword(t, 0);
	aml_close(t, package);
	aml_close(t, device);
}

/* Adds VMClock, whose page is a memory resource of the device. */
static void aml_vmclock(struct table *t)
{
	const struct acpi_device page = {ARCH_VMCLOCK, VM_VMCLOCK_LEN, 0};

	size_t device = aml_open_device(t, "VCLK", "AMZNC10C");
	aml_string(t, "_CID", "VMCLOCK");
	aml_string(t, "_DDN", "VMCLOCK");
	size_t crs = aml_open_crs(t, CRS_MEMORY_LEN);
	add_memory(t, &page);
	aml_close_crs(t, crs);
	aml_close(t, device);
}

static void aml_serial(struct table *t)
{
	const struct acpi_device port = {UART_PORT, UART_LEN, UART_GSI};

	size_t device = aml_open_device(t, "COM1", "PNP0501");
	aml_crs(t, &port);
	aml_close(t, device);
}

static void aml_virtio(struct table *t, const struct acpi_device *d, unsigned index)
{
	static const char hex[] = "0123456789ABCDEF";
	char name[4] = {'V', 'I', hex[index >> 4 & 15], hex[index & 15]};

	size_t device = aml_open_device(t, name, "LNRO0005");
	aml_name(t, "_UID");
	aml_dword(t, index);
	aml_crs(t, d);
	aml_close(t, device);
}

static void build_dsdt(struct table *t, const struct acpi_machine *machine)
{
	add_header(t, "DSDT", 2);
	add_int(t, 0x10, 1); /* AML opcode: Scope, here of \_SB */
	size_t scope = aml_open(t);
	add_bytes(t, "\\_SB_", 5);
	for (size_t i = 0; i < machine->device_count; i++)
		aml_virtio(t, &machine->devices[i], (unsigned)i);
	if (machine->serial)
		aml_serial(t);
	if (machine->button_gsi)
		aml_button(t, machine->button_gsi);
	if (machine->genid_gsi) {
		aml_genid(t);
		aml_vmclock(t);
		aml_ged(t, 1, machine->genid_gsi, "VGENVCLK");
	}
	aml_close(t, scope);
	aml_name(t, "_S5_");
	add_int(t, 0x12, 1); /* AML opcode: Package, here with the value of SLP_TYP */
	size_t package = aml_open(t);
	add_int(t, 1, 1);
	add_int(t, 0x0a, 1);
	add_int(t, VM_POWER_SLP_TYP, 1);
	aml_close(t, package);
}

/* Writes at offset `at` a Generic Address Structure that describes one byte-wide I/O port. */
static void set_port(struct table *t, size_t at, uint64_t port)
{
	set_int(t, at, 1, 1);     /* field "address space": system I/O */
	set_int(t, at + 1, 8, 1); /* register width in bits */
	set_int(t, at + 3, 1, 1); /* field "access size": byte */
	set_int(t, at + 4, port, 8);
}

static void build_fadt(struct table *t, uint64_t dsdt)
{
	static const char zeros[FADT_LEN - HEADER_LEN];

	add_header(t, "FACP", FADT_REVISION);
	add_bytes(t, zeros, sizeof(zeros));
	set_int(t, 40, dsdt, 4);
	set_int(t, 109, BOOT_NO_VGA | BOOT_NO_RTC, 2);
	set_int(t, 112,
		FADT_HW_REDUCED | FADT_RESET_REG_SUP | FADT_FIXED_POWER_BUTTON |
			FADT_FIXED_SLEEP_BUTTON | FADT_WBINVD,
		4);
	set_port(t, 116, ARCH_POWER_PORT + 2);
	set_int(t, 128, VM_POWER_RESET_VALUE, 1);
	set_int(t, 131, 4, 1); /* FADT minor version: ACPI 6.4 */
	set_int(t, 140, dsdt, 8);
	set_port(t, 244, ARCH_POWER_PORT);
	set_port(t, 256, ARCH_POWER_PORT + 1);
	if (t->bad == 0)
		memcpy(t->b.s + 268, "CAISSON", 8); /* FADT field "hypervisor vendor identity" */
}

static void build_madt(struct table *t, unsigned cpus)
{
	add_header(t, "APIC", 5);
	add_int(t, LAPIC_ADDRESS, 4);
	add_int(t, 0, 4); /* MADT flags: there is no 8259 that the guest has to mask */
	for (unsigned i = 0; i < cpus; i++) {
		add_int(t, 0x0800, 2); /* MADT entry of a local APIC, 8 bytes long */
		add_int(t, i, 1);
		add_int(t, i, 1);
		add_int(t, 1, 4); /* flag: this local APIC is enabled */
	}
	/* MADT entry of an IOAPIC, 12 bytes long; the IOAPIC has id 0 and GSIs from 0 */
	add_int(t, 0x0c01, 2);
	add_int(t, 0, 2);
	add_int(t, IOAPIC_ADDRESS, 4);
	add_int(t, 0, 4);
}

static int write_rsdp(const struct vm_memory *m, uint64_t xsdt)
{
	char rsdp[36] = "RSD PTR ";

	memcpy(rsdp + 9, "CAISSN", 6);
	rsdp[15] = 2;
	rsdp[20] = sizeof(rsdp);
	xsdt = htole64(xsdt);
	memcpy(rsdp + 24, &xsdt, 8);
	rsdp[8] = (char)table_checksum(rsdp, 20);
	rsdp[32] = (char)table_checksum(rsdp, sizeof(rsdp));
	return vm_memory_write(m, ARCH_ACPI, rsdp, sizeof(rsdp), "ACPI RSDP");
}

static int write_tables(struct table tables[4], const struct vm_memory *m,
	const struct acpi_machine *machine, uint64_t *ret_xsdt)
{
	struct table *dsdt = &tables[0], *fadt = &tables[1], *madt = &tables[2], *xsdt = &tables[3];
	uint64_t at = ARCH_ACPI + 64, address;

	build_dsdt(dsdt, machine);
	int r = finish_table(dsdt, m, &at, &address);
	if (r < 0)
		return r;
	build_fadt(fadt, address);
	add_header(xsdt, "XSDT", 1);
	r = finish_table(fadt, m, &at, &address);
	if (r < 0)
		return r;
	add_int(xsdt, address, 8);
	build_madt(madt, machine->cpus);
	r = finish_table(madt, m, &at, &address);
	if (r < 0)
		return r;
	add_int(xsdt, address, 8);
	return finish_table(xsdt, m, &at, ret_xsdt);
}

int acpi_write(const struct vm_memory *m, const struct acpi_machine *machine, uint64_t *ret_rsdp)
{
	struct table tables[4] = {0};
	uint64_t xsdt;
	int r = write_tables(tables, m, machine, &xsdt);

	for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
		strbuf_release(&tables[i].b);
	if (r < 0)
		return r;
	*ret_rsdp = ARCH_ACPI;
	return write_rsdp(m, xsdt);
}
