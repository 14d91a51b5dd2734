/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <sys/eventfd.h>

#include "vm/arch/x86_64/acpi.h"
#include "vm/arch/x86_64/arch.h"
#include "vm/genid.h"
#include "vm/hotplug.h"
#include "vm/machine.h"
#include "vm/power.h"
#include "vm/snapshot/memory.h"
#include "vm/virtio/vhost_blk.h"

static void raise_irq(void *irq)
{
	vm_irq_raise(irq);
}

static void pass_kick(void *ctx, unsigned queue)
{
	struct machine_slot *s = ctx;

	eventfd_write(s->kicks[queue], 1);
}

int machine_connect_kicks(struct machine *m, struct machine_slot *s, unsigned count)
{
	int r = 0;

	for (unsigned i = 0; r >= 0 && i < count; i++) {
		s->kicks[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		r = s->kicks[i] < 0 ? err_sys("create an eventfd for kicks")
				    : vm_kvm_ioeventfd(&m->kvm, s->kicks[i],
					      s->base + VIRTIO_MMIO_NOTIFY, i);
	}
	if (r < 0)
		machine_disconnect_kicks(m, s, count);
	return r;
}

void machine_disconnect_kicks(struct machine *m, struct machine_slot *s, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (s->kicks[i] >= 0)
			vm_kvm_remove_ioeventfd(
				&m->kvm, s->kicks[i], s->base + VIRTIO_MMIO_NOTIFY, i);
		fd_close(&s->kicks[i]);
	}
}

/*
 * Connects an initialised device to the machine: gives it a page of MMIO, an interrupt, and one
 * eventfd for each queue, which the guest's kicks signal.
 */
static int plug_device(struct machine *m, struct virtio_device *d)
{
	unsigned index = m->slot_count++;
	struct machine_slot *s = &m->slots[index];

	*s = (struct machine_slot){.device = d,
		.irq.fd = -EBADF,
		.base = ARCH_VIRTIO_BASE + (uint64_t)index * ARCH_VIRTIO_STEP};
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		s->kicks[i] = -EBADF;
	virtio_mmio_init(&s->mmio, d, raise_irq, &s->irq);
	d->kicks = s->kicks;
	s->mmio.kick = pass_kick;
	s->mmio.kick_ctx = s;
	int r = vm_irq_init(&s->irq, &m->kvm, index);
	d->call = s->irq.fd;
	if (r >= 0)
		r = machine_connect_kicks(m, s, d->queue_count);
	if (r < 0)
		return err_ctx(r, "device %s", d->name);
	return vm_bus_add(&m->mmio, &(struct vm_bus_entry){s->base, VIRTIO_MMIO_LEN, d->name,
					    &virtio_mmio_bus, &s->mmio});
}

void machine_end_lost(void *ctx, const char *why)
{
	vcpus_end(ctx, VM_END_LOST, "%s", why);
}

/*
 * Connects a device that is a late one if the machine has its late devices in spare slots
 * (in_spares). Such a device is only listed in m->late.
 */
static int plug_or_list(struct machine *m, struct virtio_device *d, bool in_spares)
{
	if (!in_spares)
		return plug_device(m, d);
	if (m->late_count == MACHINE_SPARES_MAX)
		return err_set(EINVAL,
			"the machine has more than %d devices that it gets after its start",
			MACHINE_SPARES_MAX);
	m->late[m->late_count++] = d;
	return 0;
}

static int plug_shares(struct machine *m, const struct machine_options *o, bool in_spares)
{
	for (size_t i = 0; i < o->share_count; i++) {
		const struct machine_share *s = &o->shares[i];
		struct vhost_user *v = &m->shares[i].vhost;

		int r = virtio_fs_init(&m->shares[i], &m->memory, s->tag, s->sock, s->owned);
		if (r >= 0)
			r = plug_or_list(m, &v->dev, in_spares && s->peer);
		if (!s->optional) {
			v->lost = machine_end_lost;
			v->lost_ctx = &m->cpus;
		}
		if (r < 0)
			return s->peer ? err_ctx(r, "%s", s->peer) : err_ctx(r, "share %zu", i);
		if (s->peer)
			v->peer = s->peer;
	}
	return 0;
}

static int plug_nics(struct machine *m, const struct machine_options *o)
{
	for (size_t i = 0; i < o->nic_count; i++) {
		struct virtio_net *n = &m->nics[i];
		int r = virtio_net_init(n, &m->memory, &o->nics[i]);

		if (r >= 0) {
			m->nic_count++;
			r = plug_device(m, &n->dev);
		}
		if (r < 0)
			return err_ctx(r, "network device %zu", i);
	}
	return 0;
}

static int plug_remote_nic(
	struct machine *m, const struct virtio_net_remote_options *o, bool in_spares)
{
	struct vhost_user *v = &m->remote_nic.vhost;

	int r = virtio_net_remote_init(&m->remote_nic, &m->memory, o);
	v->lost = machine_end_lost;
	v->lost_ctx = &m->cpus;
	return r < 0 ? r : plug_or_list(m, &v->dev, in_spares);
}

int machine_init_disk(struct machine_blk *b, const struct vm_memory *m,
	const struct machine_disk *d, struct virtio_device **ret)
{
	const struct virtio_blk_options local = {
		.serial = d->serial, .write_through = d->write_through, .errors = d->errors};
	const struct virtio_blk_remote_options remote = {.sock = d->fd,
		.peer = d->peer,
		.reconnect = d->reconnect,
		.queues = d->queues,
		.owned = d->owned};

	*b = (struct machine_blk){0};
	*ret = d->remote ? &b->remote.dev : &b->local.dev;
	if (d->remote)
		return virtio_blk_remote_init(&b->remote, m, &remote);
	int r = blk_file_init(&b->file, d->fd, d->read_only);
	if (r >= 0)
		r = virtio_blk_init(&b->local, m, &b->file.image, &local);
	if (r < 0)
		blk_file_release(&b->file);
	return r;
}

void machine_release_disk(struct machine_blk *b)
{
	virtio_blk_release(&b->local);
	blk_file_release(&b->file);
	if (b->remote.dev.ops)
		vhost_user_release(&b->remote);
}

static int plug_disks(struct machine *m, const struct machine_options *o, bool in_spares)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < o->disk_count; i++) {
		struct machine_blk *b = &m->disks[i];
		struct virtio_device *device;

		r = machine_init_disk(b, &m->memory, &o->disks[i], &device);
		b->remote.lost = machine_end_lost;
		b->remote.lost_ctx = &m->cpus;
		if (r >= 0)
			r = plug_or_list(m, device, in_spares);
		if (r < 0)
			err_ctx(r, "disk %zu", i);
	}
	return r;
}

static int plug_console(struct machine *m, const struct machine_options *o)
{
	m->has_uart = o->serial;
	if (o->serial)
		return uart_init(&m->uart, &m->kvm, &m->pio, o->console_in, o->console_out);
	virtio_console_init(&m->console, &m->memory, o->console_in, o->console_out);
	return plug_device(m, &m->console.dev);
}

/* Adds the spare slots, which come last, so that they change nothing of the other devices. */
static int plug_spares(struct machine *m, unsigned count)
{
	if (count > MACHINE_SPARES_MAX)
		return err_set(
			EINVAL, "%u spare slots: expected %d at most", count, MACHINE_SPARES_MAX);
	machine_init_spares(m, count);
	int r = 0;
	for (unsigned i = 0; r >= 0 && i < count; i++)
		r = plug_device(m, &m->spares[i].absent);
	return r;
}

static int plug_devices(struct machine *m, const struct machine_options *o)
{
	unsigned spares = o->spares, slots[MACHINE_SPARES_MAX];
	bool were_late = false;

	int r = o->snapshot ? machine_read_spares(o->snapshot, &spares, &were_late) : 0;
	const bool in_spares = o->late || were_late;
	if (r >= 0)
		r = plug_console(m, o);
	if (r < 0)
		return r;
	virtio_rng_init(&m->rng, &m->memory);
	r = plug_device(m, &m->rng.dev);
	if (r >= 0 && o->balloon) {
		virtio_balloon_init(&m->balloon, &m->memory);
		r = plug_device(m, &m->balloon.dev);
	}
	if (r >= 0)
		r = plug_disks(m, o, in_spares);
	if (r >= 0)
		r = plug_shares(m, o, in_spares);
	if (r >= 0)
		r = plug_nics(m, o);
	if (r >= 0 && o->remote_nic)
		r = plug_remote_nic(m, o->remote_nic, in_spares);
	if (r >= 0 && o->memory.hot) {
		r = virtio_mem_init(&m->mem, &m->memory);
		if (r >= 0)
			r = plug_device(m, &m->mem.dev);
	}
	m->has_port = o->port && o->serial;
	if (r >= 0 && m->has_port) {
		virtio_port_init(&m->port, &m->memory, o->port);
		r = plug_device(m, &m->port.console.dev);
	}
	/* The devices behind the vsock device are the spare slots (machine_read_spares()). */
	if (r >= 0 && o->vsock) {
		r = virtio_vsock_init(&m->vsock, &m->memory, o->vsock);
		m->has_vsock = r >= 0;
		if (r >= 0)
			r = plug_device(m, &m->vsock.dev);
	}
	if (r >= 0)
		r = plug_spares(m, spares);
	if (r >= 0 && !o->late && were_late)
		r = machine_place_late(m, slots);
	return r;
}

/* Adds the interrupt of the generation id, unless the machine is of a version without that id. */
static int plug_genid(struct machine *m)
{
	if (m->abi < MACHINE_ABI_GENID)
		return 0;
	int r = vm_irq_init_gsi(&m->genid, &m->kvm, VM_GSI_GENID);
	m->has_genid = r >= 0;
	return r;
}

static int write_acpi(const struct machine *m, uint64_t *ret_rsdp)
{
	struct acpi_device devices[MACHINE_DEVICES_MAX];

	for (unsigned i = 0; i < m->slot_count; i++)
		devices[i] = (struct acpi_device){
			m->slots[i].base, VIRTIO_MMIO_LEN, m->slots[i].irq.gsi};
	const struct acpi_machine machine = {m->cpus.count, devices, m->slot_count,
		m->has_button ? m->button.gsi : 0, m->has_uart, m->has_genid ? m->genid.gsi : 0};
	return acpi_write(&m->memory, &machine, ret_rsdp);
}

static int load_guest(struct machine *m, const struct machine_options *o)
{
	struct boot_info info = {.cmdline = o->cmdline};
	struct boot_kernel kernel;
	int r = boot_load_kernel(&m->memory, o->kernel, &kernel);

	if (r >= 0 && o->initramfs >= 0)
		r = boot_load_initramfs(&m->memory, &kernel, o->initramfs, &info.initramfs);
	if (r >= 0)
		r = write_acpi(m, &info.rsdp);
	if (r >= 0)
		r = vm_power_write_vector(&m->memory);
	if (r >= 0 && m->has_genid)
		r = vm_genid_renew(&m->memory);
	if (r >= 0)
		r = boot_write_info(&m->memory, &kernel, &info);
	if (r < 0)
		return r;
	bool pvh = kernel.protocol == BOOT_PVH;
	return arch_set_entry(vcpus_fd(&m->cpus, 0), &m->memory,
		&(struct arch_entry){pvh ? ARCH_PVH : ARCH_LONG, kernel.entry,
			pvh ? ARCH_START_INFO : ARCH_ZERO_PAGE});
}

/*
 * Makes the parts that KVM provides: the VM, its memory, interrupt controllers and vCPUs. If KVM
 * refuses, QEMU may still work, so the error message names QEMU.
 */
static int build_cpus(struct machine *m, const struct machine_options *o)
{
	int r = vm_kvm_open(&m->kvm, o->kvm);

	if (r >= 0)
		r = vm_kvm_add_memory(&m->kvm, &m->memory);
	if (r >= 0)
		r = vm_kvm_create_irqchip(&m->kvm);
	if (r >= 0)
		r = vcpus_init(
			&m->cpus, &(struct vcpus_options){&m->kvm, &m->memory, &m->pio, &m->mmio,
					  o->cpus, o->enter_vcpu, o->enter_ctx, o->nested});
	m->has_cpus = r >= 0;
	return r < 0 ? err_set(-r, "%s; " VM_KVM_INSTEAD, err_msg()) : 0;
}

/*
 * Says whether another process serves a device, and so needs the guest's memory. caisson's own
 * share of a machine from a template gets a shadow instead (vhost/shadow.h), so that machines have
 * the template's memory in common.
 */
static bool shares_memory(const struct machine_options *o)
{
	bool shares = o->remote_nic;

	for (size_t i = 0; i < o->share_count; i++)
		shares |= o->shares[i].peer || !o->snapshot_trusted;
	for (size_t i = 0; i < o->disk_count; i++)
		shares |= o->disks[i].remote;
	return shares;
}

/*
 * Builds all parts of the machine. The order is fixed, because each call needs the parts made
 * before it.
 */
static int build_parts(struct machine *m, const struct machine_options *o)
{
	struct vm_memory_options memory = o->memory;
	int r = o->snapshot ? machine_check_shape(o) : 0;

	if (r >= 0 && o->snapshot)
		r = snapshot_read_added(o->snapshot, memory.size, memory.hot, &memory.file_hot);
	if (o->snapshot && !shares_memory(o) && !memory.mergeable &&
		memory.pages != VM_PAGES_HUGETLB)
		memory.file = o->snapshot_memory;
	m->abi = o->snapshot ? o->snapshot->abi : MACHINE_ABI;
	pthread_mutex_init(&m->pending_lock, NULL);
	m->calls = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r >= 0 && m->calls < 0)
		r = err_sys("create an eventfd");
	if (r >= 0)
		r = vm_memory_init(&m->memory, &memory);
	if (r >= 0)
		r = build_cpus(m, o);
	if (r >= 0)
		r = vm_power_add(&m->pio, &m->cpus);
	if (r >= 0)
		r = plug_devices(m, o);
	if (r >= 0 && o->power_button) {
		r = vm_irq_init(&m->button, &m->kvm, m->slot_count);
		m->has_button = r >= 0;
	}
	if (r >= 0)
		r = plug_genid(m);
	if (r >= 0)
		r = o->snapshot ? machine_load(m, o) : load_guest(m, o);
	return r;
}

void machine_press_power(struct machine *m)
{
	vm_irq_raise(&m->button);
}

int machine_build(struct machine *ret, const struct machine_options *options)
{
	if (options->disk_count > MACHINE_DISKS_MAX)
		return err_set(EINVAL, "%zu disks: expected %d at most", options->disk_count,
			MACHINE_DISKS_MAX);
	if (options->share_count > MACHINE_SHARES_MAX)
		return err_set(EINVAL, "%zu shares: expected %d at most", options->share_count,
			MACHINE_SHARES_MAX);
	const size_t nics = options->nic_count + (options->remote_nic != NULL);
	if (nics > MACHINE_NICS_MAX)
		return err_set(
			EINVAL, "%zu network devices: expected %d at most", nics, MACHINE_NICS_MAX);
	*ret = (struct machine){
		.memory.fd = -EBADF, .kvm = {.dev = -EBADF, .vm = -EBADF}, .calls = -EBADF};
	int r = build_parts(ret, options);
	if (r < 0)
		machine_release(ret);
	return r;
}

void machine_release(struct machine *m)
{
	if (m->has_cpus) {
		vcpus_stop(&m->cpus);
		vcpus_release(&m->cpus);
	}
	machine_release_spares(m);
	for (unsigned i = 0; i < m->slot_count; i++) {
		for (unsigned q = 0; q < VIRTIO_QUEUES_MAX; q++)
			fd_close(&m->slots[i].kicks[q]);
		vm_irq_release(&m->slots[i].irq);
		virtio_release(m->slots[i].device);
	}
	m->slot_count = 0;
	if (m->has_uart)
		uart_release(&m->uart);
	m->has_uart = false;
	if (m->has_button)
		vm_irq_release(&m->button);
	m->has_button = false;
	if (m->has_genid)
		vm_irq_release(&m->genid);
	m->has_genid = false;
	for (unsigned i = 0; i < MACHINE_DISKS_MAX; i++)
		machine_release_disk(&m->disks[i]);
	for (unsigned i = 0; i < MACHINE_SHARES_MAX; i++)
		if (m->shares[i].vhost.dev.ops)
			vhost_user_release(&m->shares[i].vhost);
	if (m->remote_nic.vhost.dev.ops)
		vhost_user_release(&m->remote_nic.vhost);
	while (m->nic_count > 0)
		virtio_net_release(&m->nics[--m->nic_count]);
	if (m->has_vsock)
		virtio_vsock_release(&m->vsock);
	m->has_vsock = false;
	virtio_mem_release(&m->mem);
	vm_kvm_release(&m->kvm);
	vm_memory_release(&m->memory);
	fd_close(&m->calls);
	pthread_mutex_destroy(&m->pending_lock);
}
