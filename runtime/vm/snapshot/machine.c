/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saves and loads a whole machine.
 *
 * Theory of operation. While the vCPUs are paused, only the thread of machine_run() changes the
 * machine, and the same thread saves it. A device puts back the requests that it has taken
 * (virtio_save()), so the rings in guest memory are complete. Kicks and interrupts under way are
 * not saved. Instead each queue gets a kick when the machine goes on, and after a load each device
 * raises its interrupt once. Drivers must expect both without a reason (virtio 1.2, 2.9).
 *
 * Guest memory is saved last, because saving a device may change it.
 */
#include <inttypes.h>
#include <linux/virtio_ids.h>
#include <sys/eventfd.h>

#include "vm/arch/x86_64/arch.h"
#include "vm/genid.h"
#include "vm/hotplug.h"
#include "vm/machine.h"
#include "vm/prefetch.h"
#include "vm/snapshot/memory.h"

#define NO_DEVICE 0 /* what the register DeviceID of a free spare slot reads (virtio 1.2, 4.2.2) */

struct shape {
	uint64_t memory;
	uint32_t cpus, devices;
};

static struct arch_cpu cpu_at(const struct machine *m, unsigned index)
{
	return (struct arch_cpu){.index = index, .count = m->cpus.count, .nested = m->cpus.nested};
}

static int save_cpus(struct machine *m, struct snapshot_writer *w)
{
	int r = snapshot_section(w, SNAPSHOT_VM, 0);

	if (r >= 0)
		r = arch_save_vm(&m->kvm, w);
	for (unsigned i = 0; r >= 0 && i < m->cpus.count; i++) {
		const struct arch_cpu cpu = cpu_at(m, i);

		r = snapshot_section(w, SNAPSHOT_VCPU, i);
		if (r >= 0)
			r = arch_save_vcpu(&m->kvm, vcpus_fd(&m->cpus, i), &cpu, w);
		if (r < 0)
			return err_ctx(r, "vCPU %u", i);
	}
	return r;
}

static int save_devices(struct machine *m, struct snapshot_writer *w)
{
	int r = 0;

	for (unsigned i = 0; r >= 0 && i < m->slot_count; i++) {
		r = snapshot_section(w, SNAPSHOT_DEVICE, i);
		if (r >= 0)
			r = virtio_mmio_save(&m->slots[i].mmio, w);
		if (r < 0)
			return err_ctx(r, "device %u", i);
	}
	return r;
}

int machine_save(struct machine *m, struct snapshot_writer *w, int memory)
{
	const struct shape s = {m->memory.size, m->cpus.count, m->slot_count};

	if (m->cpus.nested)
		return err_set(ENOTSUP, "a machine whose guest may run virtual machines of its own "
					"(nested) cannot be saved");
	if (m->has_uart)
		return err_set(ENOTSUP, "a machine with a serial port, which a foreign guest has, "
					"cannot be saved");
	if (machine_has_attached(m))
		return err_set(ENOTSUP, "a machine to which a device was attached while it ran "
					"cannot be saved: detach the device first");
	w->abi = m->abi;
	vcpus_pause(&m->cpus);
	int r = snapshot_section(w, SNAPSHOT_SHAPE, 0);
	if (r >= 0)
		r = snapshot_put(w, &s, sizeof(s));
	if (r >= 0)
		r = save_cpus(m, w);
	if (r >= 0)
		r = save_devices(m, w);
	if (r >= 0)
		r = snapshot_save_memory(w, &m->memory, virtio_mem_end(&m->mem), memory);
	return r;
}

/* Kicks all queues, because a kick may have come that no thread has served yet. */
static void kick_queues(const struct machine *m)
{
	for (unsigned i = 0; i < m->slot_count; i++)
		for (unsigned q = 0; q < m->slots[i].device->queue_count; q++)
			eventfd_write(m->slots[i].kicks[q], 1);
}

void machine_go_on(struct machine *m)
{
	for (unsigned i = 0; i < m->slot_count; i++)
		virtio_go_on(m->slots[i].device);
	kick_queues(m);
	vcpus_resume(&m->cpus);
}

static int read_shape(const struct snapshot *s, struct shape *ret)
{
	struct snapshot_part p;
	int r = snapshot_find(s, SNAPSHOT_SHAPE, 0, &p);

	if (r >= 0)
		r = snapshot_get(&p, ret, sizeof(*ret));
	return r < 0 ? r : snapshot_end(&p);
}

int machine_check_shape(const struct machine_options *o)
{
	struct shape s;
	int r = read_shape(o->snapshot, &s);

	if (r < 0)
		return r;
	if (s.memory != o->memory.size || s.cpus != o->cpus || o->nested)
		return err_set(ENOTSUP,
			"the snapshot is of a machine with %" PRIu64 " MiB and %" PRIu32
			" vCPUs: this one has %" PRIu64 " MiB and %u%s",
			s.memory >> 20, s.cpus, o->memory.size >> 20, o->cpus,
			o->nested ? ", and may run virtual machines" : "");
	return 0;
}

int machine_read_spares(const struct snapshot *snapshot, unsigned *ret, bool *ret_late)
{
	bool spare = false;
	struct shape s;
	int r = read_shape(snapshot, &s);

	*ret = 0;
	*ret_late = false;
	for (uint32_t i = 0; r >= 0 && i < s.devices && i < MACHINE_DEVICES_MAX; i++) {
		struct snapshot_part p;
		uint32_t id = 0;

		r = snapshot_find(snapshot, SNAPSHOT_DEVICE, i, &p);
		if (r >= 0)
			r = virtio_mmio_read_id(&p, &id);
		*ret += spare;
		*ret_late |= spare && id != NO_DEVICE;
		/* The spare slots are those behind the vsock device (plug_devices() of build.c). */
		spare |= id == VIRTIO_ID_VSOCK;
	}
	return r;
}

static int check_devices(const struct machine *m, const struct snapshot *snapshot)
{
	struct shape s;
	int r = read_shape(snapshot, &s);

	if (r >= 0 && s.devices != m->slot_count)
		r = err_set(ENOTSUP,
			"the snapshot is of a machine with %" PRIu32
			" devices: this one has %u (disks, shares and interfaces must be the same)",
			s.devices, m->slot_count);
	return r;
}

static int load_cpus(struct machine *m, const struct snapshot *s)
{
	struct snapshot_part p;
	int r = snapshot_find(s, SNAPSHOT_VM, 0, &p);

	if (r >= 0)
		r = arch_load_vm(&m->kvm, &p);
	for (unsigned i = 0; r >= 0 && i < m->cpus.count; i++) {
		const struct arch_cpu cpu = cpu_at(m, i);

		r = snapshot_find(s, SNAPSHOT_VCPU, i, &p);
		if (r >= 0)
			r = arch_load_vcpu(&m->kvm, vcpus_fd(&m->cpus, i), &cpu, &p);
		if (r < 0)
			return err_ctx(r, "vCPU %u", i);
	}
	for (unsigned i = 0; r >= 0 && i < m->cpus.count; i++)
		arch_tell_pause(vcpus_fd(&m->cpus, i));
	return r;
}

static int load_devices(struct machine *m, const struct snapshot *s)
{
	struct snapshot_part p;
	int r = 0;

	for (unsigned i = 0; r >= 0 && i < m->slot_count; i++) {
		r = snapshot_find(s, SNAPSHOT_DEVICE, i, &p);
		if (r >= 0)
			r = virtio_mmio_load(&m->slots[i].mmio, &p);
		if (r < 0)
			return err_ctx(r, "device %u", i);
	}
	return r;
}

/*
 * Checks that the file of guest memory has as much of the hot region as the memory device says that
 * the guest has of it.
 */
static int check_added(const struct machine *m, const struct snapshot *s)
{
	const struct vm_memory_region *hot = vm_memory_hot(&m->memory);
	const uint64_t end = virtio_mem_end(&m->mem);
	uint64_t added;

	int r = snapshot_read_added(s, m->memory.size, hot ? hot->size : 0, &added);
	if (r >= 0 && added != end)
		r = err_set(EBADMSG,
			"the snapshot has %" PRIu64 " bytes of memory that was added: expected "
			"%" PRIu64 ", up to the last block that the guest has",
			added, end);
	return r;
}

/* Tells the guest that from now on another machine may have the same state. */
static int renew_genid(struct machine *m)
{
	if (!m->has_genid)
		return 0;
	int r = vm_genid_renew(&m->memory);
	if (r >= 0)
		vm_irq_raise(&m->genid);
	return r;
}

int machine_load(struct machine *m, const struct machine_options *o)
{
	int r = check_devices(m, o->snapshot);

	if (r >= 0 && !(o->snapshot_trusted && m->memory.mapped))
		r = snapshot_load_memory(o->snapshot, &m->memory, o->snapshot_memory);
	if (r >= 0)
		r = load_cpus(m, o->snapshot);
	if (r >= 0)
		r = load_devices(m, o->snapshot);
	if (r >= 0)
		r = check_added(m, o->snapshot);
	for (unsigned i = 0; r >= 0 && i < m->slot_count; i++)
		virtio_mmio_nudge(&m->slots[i].mmio);
	if (r >= 0)
		vm_prefetch(
			&m->memory, &m->kvm, vcpus_fd(&m->cpus, 0), o->prefetch, o->prefetch_count);
	return r < 0 ? r : renew_genid(m);
}
