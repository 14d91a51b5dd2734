/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/kvm.h"

#include <cpuid.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/str.h"
#include "base/user.h"

/*
 * Guest address of three pages that KVM needs on Intel CPUs that cannot run real mode in a guest.
 * The pages lie in the hole below the BIOS, where there is no RAM.
 */
#define TSS_ADDRESS 0xfffbd000UL
#define IOAPIC_PINS 24
#define GROUP_FILE_MAX (1 << 20) /* most bytes that are read of /etc/group */

static const struct {
	int cap;
	const char *name;
} required[] = {
	{KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
	{KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
	{KVM_CAP_IRQFD, "KVM_CAP_IRQFD"},
	{KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD"},
	{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
	{KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR"},
	{KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
	{KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"},
};

bool vm_kvm_group(const char *path, char ret[static USER_NAME_MAX])
{
	_cleanup_strbuf_ struct strbuf groups = {0};
	struct stat st;

	if (stat(path, &st) < 0 || (st.st_mode & 0060) != 0060)
		return false;
	/*
	 * user_find(), which reads passwd(5), also reads group(5), because the lines of both files
	 * begin with the same fields: name, password, number.
	 */
	if (fd_read_file(AT_FDCWD, "/etc/group", &groups, GROUP_FILE_MAX) < 0 ||
		!user_find(strbuf_str(&groups), st.st_gid, ret))
		snprintf(ret, USER_NAME_MAX, "%u", (unsigned)st.st_gid);
	return true;
}

/*
 * Sets the error for a user who may not open the KVM device at `path`. The error names the group
 * whose members may open it.
 */
static int refuse_user(const char *path)
{
	char name[USER_NAME_MAX];

	if (!vm_kvm_group(path, name))
		return err_set(EACCES,
			"%s may not be opened by user %u, nor by the members of a group: give it a "
			"group (chgrp kvm %s; chmod 0660 %s) and add the user to that group, or "
			"run as root",
			path, (unsigned)geteuid(), path, path);
	return err_set(EACCES,
		"%s may not be opened by user %u: add the user to the group %s (usermod -aG %s "
		"USER) and log in anew, or run as root",
		path, (unsigned)geteuid(), name, name);
}

static int open_dev(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	switch (errno) {
	case ENOENT:
	case ENXIO:
	case ENODEV:
		return err_set(ENOENT,
			"%s is absent: this host has no KVM (load kvm_intel or kvm_amd, enable "
			"virtualization in the firmware, or use --isolation ns)",
			path);
	case EACCES:
	case EPERM:
		return refuse_user(path);
	default:
		return err_sys("open %s", path);
	}
}

static int check_dev(int dev, const char *path)
{
	int version = ioctl(dev, KVM_GET_API_VERSION, 0);

	if (version < 0)
		return err_set(
			ENOSYS, "%s is not KVM: it does not answer KVM_GET_API_VERSION", path);
	if (version != KVM_API_VERSION)
		return err_set(ENOSYS, "%s speaks KVM API version %d: expected %d", path, version,
			KVM_API_VERSION);
	for (size_t i = 0; i < ARRAY_SIZE(required); i++)
		if (ioctl(dev, KVM_CHECK_EXTENSION, required[i].cap) <= 0)
			return err_set(ENOSYS,
				"%s lacks %s, which caisson needs: expected Linux 5.14 or later",
				path, required[i].name);
	return 0;
}

/*
 * Returns the name of the processor extension that KVM needs to run guests, or NULL if the
 * processor lacks both extensions (Intel SDM volume 2A, CPUID leaf 1, ECX bit 5; AMD APM volume 3,
 * CPUID 0x80000001, ECX bit 2).
 */
static const char *cpu_extension(void)
{
	unsigned eax, ebx, ecx, edx;

	if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) && ecx & 1U << 5)
		return "Intel VT-x";
	if (__get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) && ecx & 1U << 2)
		return "AMD-V";
	return NULL;
}

/*
 * Theory of operation. A /dev/kvm that opens, has the right API version and has the capabilities
 * may still not be able to run Linux. If this machine is itself a guest of a host that offers no
 * nested virtualization, its kernel can contain a paravirtual KVM (such as PVM). The interface is
 * the same, but the processor has no mode for guests: guest user code runs natively, and KVM's
 * emulator interprets guest kernel code one instruction at a time. That emulator knows the
 * instructions that access devices, but not all those that Linux uses from its first system call
 * on. No capability tells the two kinds of KVM apart, and the only trial would be to boot a kernel
 * and see whether it hangs.
 *
 * Only kvm_intel and kvm_amd can run every kernel, and they load only on a processor with VT-x or
 * SVM. A hypervisor with nested virtualization shows these CPUID bits as hardware does. So caisson
 * does not use /dev/kvm if CPUID has neither bit.
 *
 * Even with one of the bits, the host's KVM may be a paravirtual one. So the error for a guest that
 * does not start recommends the other hypervisor (VM_KVM_INSTEAD).
 */
int vm_kvm_runs_linux(const char *path, char *reason, size_t size)
{
	const char *extension = cpu_extension();
	_cleanup_fd_ int dev = open_dev(path);
	int r = dev < 0 ? dev : check_dev(dev, path);

	if (r < 0)
		snprintf(reason, size, "%s", err_msg());
	else if (!extension)
		snprintf(reason, size,
			"%s is a paravirtual KVM: this processor shows neither VT-x nor AMD-V, "
			"without which no unmodified kernel runs (enable nested virtualization "
			"where this machine is hosted, or let QEMU run the guest in software)",
			path);
	else
		snprintf(reason, size, "%s, with %s", path, extension);
	err_clear();
	return r == 0 && extension;
}

int vm_kvm_open(struct vm_kvm *ret, const char *path)
{
	_cleanup_fd_ int dev = open_dev(path);
	int r = dev < 0 ? dev : check_dev(dev, path);

	if (r < 0)
		return r;
	int run_len = ioctl(dev, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (run_len < (int)sizeof(struct kvm_run))
		return err_set(EIO,
			"%s: KVM_GET_VCPU_MMAP_SIZE gives %d bytes, expected %zu or more", path,
			run_len, sizeof(struct kvm_run));
	int max = ioctl(dev, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
	_cleanup_fd_ int vm = -EBADF;
	/*
	 * Repeats KVM_CREATE_VM after EINTR, because a signal interrupts this ioctl and the kernel
	 * does not restart it.
	 */
	do
		vm = ioctl(dev, KVM_CREATE_VM, 0UL);
	while (vm < 0 && errno == EINTR);
	if (vm < 0 && errno == EBUSY)
		return err_set(EBUSY,
			"create a virtual machine on %s: another hypervisor (VirtualBox, VMware) "
			"uses the processor: end its machines",
			path);
	if (vm < 0)
		return err_sys("create a virtual machine on %s", path);
	*ret = (struct vm_kvm){
		.dev = take_fd(&dev),
		.vm = take_fd(&vm),
		.run_len = (size_t)run_len,
		/* the KVM_CHECK_EXTENSION result 0 means a limit of 4 (KVM's API document) */
		.max_vcpus = max > 0 ? (unsigned)max : 4,
	};
	return 0;
}

void vm_kvm_release(struct vm_kvm *k)
{
	fd_close(&k->vm);
	fd_close(&k->dev);
}

int vm_kvm_add_memory(struct vm_kvm *k, const struct vm_memory *m)
{
	for (unsigned i = 0; i < m->count; i++) {
		const struct vm_memory_region *g = &m->regions[i];
		struct kvm_userspace_memory_region slot = {
			.slot = k->slots,
			.guest_phys_addr = g->guest,
			.memory_size = g->size,
			.userspace_addr = (uintptr_t)g->host,
		};

		if (ioctl(k->vm, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
			return err_sys("give KVM %" PRIu64 " MiB of memory at 0x%" PRIx64,
				g->size >> 20, g->guest);
		k->slots++;
	}
	return 0;
}

/*
 * Routes each GSI only to the IOAPIC pin of the same number. KVM's default table also routes the
 * first 16 GSIs to the two 8259 controllers. A hardware-reduced machine never masks those, so each
 * interrupt would come a second time, as vector 0 to 15, through LINT0 of the local APIC.
 */
static int route_interrupts(const struct vm_kvm *k)
{
	_cleanup_free_ struct kvm_irq_routing *table =
		calloc(1, sizeof(*table) + IOAPIC_PINS * sizeof(table->entries[0]));

	if (!table)
		return err_set(ENOMEM, "out of memory for the routes of interrupts");
	table->nr = IOAPIC_PINS;
	for (unsigned i = 0; i < IOAPIC_PINS; i++)
		table->entries[i] = (struct kvm_irq_routing_entry){
			.gsi = i,
			.type = KVM_IRQ_ROUTING_IRQCHIP,
			.u.irqchip = {.irqchip = KVM_IRQCHIP_IOAPIC, .pin = i},
		};
	if (ioctl(k->vm, KVM_SET_GSI_ROUTING, table) < 0)
		return err_sys("route interrupts to the IOAPIC (KVM_SET_GSI_ROUTING)");
	return 0;
}

int vm_kvm_create_irqchip(struct vm_kvm *k)
{
	if (ioctl(k->vm, KVM_SET_TSS_ADDR, TSS_ADDRESS) < 0)
		return err_sys("KVM_SET_TSS_ADDR");
	if (ioctl(k->vm, KVM_CREATE_IRQCHIP, 0) < 0)
		return err_sys("create the interrupt controllers (KVM_CREATE_IRQCHIP)");
	return route_interrupts(k);
}

int vm_kvm_irqfd(const struct vm_kvm *k, int eventfd, unsigned gsi)
{
	struct kvm_irqfd arg = {.fd = (uint32_t)eventfd, .gsi = gsi};

	if (ioctl(k->vm, KVM_IRQFD, &arg) < 0)
		return err_sys("connect an eventfd to interrupt %u (KVM_IRQFD)", gsi);
	return 0;
}

static int set_ioeventfd(
	const struct vm_kvm *k, int eventfd, uint64_t addr, uint32_t value, uint32_t flags)
{
	struct kvm_ioeventfd arg = {
		.datamatch = value,
		.addr = addr,
		.len = 4,
		.fd = eventfd,
		.flags = KVM_IOEVENTFD_FLAG_DATAMATCH | flags,
	};

	return ioctl(k->vm, KVM_IOEVENTFD, &arg);
}

int vm_kvm_ioeventfd(const struct vm_kvm *k, int eventfd, uint64_t addr, uint32_t value)
{
	if (set_ioeventfd(k, eventfd, addr, value, 0) < 0)
		return err_sys("connect an eventfd to address 0x%" PRIx64 " (KVM_IOEVENTFD)", addr);
	return 0;
}

void vm_kvm_remove_ioeventfd(const struct vm_kvm *k, int eventfd, uint64_t addr, uint32_t value)
{
	(void)set_ioeventfd(k, eventfd, addr, value, KVM_IOEVENTFD_FLAG_DEASSIGN);
}
