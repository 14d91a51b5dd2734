/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/hotplug.h"

static const struct virtio_ops no_device;

void machine_init_spares(struct machine *m, unsigned count)
{
	m->spare_count = count;
	for (unsigned i = 0; i < count; i++) {
		struct virtio_device *d = &m->spares[i].absent;

		*d = (struct virtio_device){.ops = &no_device, .name = "spare"};
		virtio_init(d, &m->memory);
	}
}

/* --- making and releasing the device of a spare slot --- */

static int init_device(struct machine *m, struct machine_spare *s, const struct machine_device *d)
{
	int r;

	s->kind = d->kind;
	switch (d->kind) {
	case MACHINE_NIC:
		s->device = &s->nic.dev;
		return virtio_net_init(&s->nic, &m->memory, &d->nic);
	case MACHINE_DISK:
		r = machine_init_disk(&s->disk, &m->memory, &d->disk, &s->device);
		s->disk.remote.lost = machine_end_lost;
		s->disk.remote.lost_ctx = &m->cpus;
		return r;
	case MACHINE_SHARE:
		s->device = &s->share.vhost.dev;
		return virtio_fs_init(
			&s->share, &m->memory, d->share.tag, d->share.sock, d->share.owned);
	}
	return err_set(EINVAL, "device of kind %d", (int)d->kind);
}

static void release_device(struct machine_spare *s)
{
	virtio_release(s->device);
	if (s->kind == MACHINE_NIC)
		virtio_net_release(&s->nic);
	else if (s->kind == MACHINE_SHARE)
		vhost_user_release(&s->share.vhost);
	else
		machine_release_disk(&s->disk);
	s->device = NULL;
}

/* --- exchanging the devices of a slot --- */

static void put_in(struct machine_slot *slot, struct virtio_device *d)
{
	slot->device = d;
	virtio_mmio_exchange(&slot->mmio, d);
	d->kicks = slot->kicks;
	d->call = slot->irq.fd;
}

static unsigned slot_of(const struct machine *m, unsigned spare)
{
	return m->slot_count - m->spare_count + spare;
}

static int find_free(struct machine *m, unsigned *ret)
{
	for (*ret = 0; *ret < m->spare_count; ++*ret)
		if (m->slots[slot_of(m, *ret)].device == &m->spares[*ret].absent)
			return 0;
	if (!m->spare_count)
		return err_set(ENOSPC, "the machine was made without room for further devices");
	return err_set(ENOSPC, "the machine has %u devices that were attached, expected %u at most",
		m->spare_count, m->spare_count);
}

/*
 * Pauses the vCPUs, so that none of their threads uses a slot. Returns whether they ran before, and
 * so have to be resumed.
 */
static bool pause_cpus(struct machine *m)
{
	const bool ran = m->cpus.want == VCPU_RUN;

	if (ran)
		vcpus_pause(&m->cpus);
	return ran;
}

/* Puts the device into the free spare slot. The vCPUs are paused for that if they run. */
static int plug(struct machine *m, unsigned spare, struct virtio_device *d)
{
	struct machine_slot *slot = &m->slots[slot_of(m, spare)];

	int r = machine_connect_kicks(m, slot, d->queue_count);
	if (r < 0)
		return r;
	const bool ran = pause_cpus(m);
	put_in(slot, d);
	if (ran)
		vcpus_resume(&m->cpus);
	return 0;
}

int machine_place_late(struct machine *m, unsigned ret_slots[static MACHINE_SPARES_MAX])
{
	for (size_t i = 0; i < m->late_count; i++) {
		unsigned spare;

		int r = find_free(m, &spare);
		if (r >= 0)
			r = plug(m, spare, m->late[i]);
		if (r < 0)
			return err_ctx(r, "device %s", m->late[i]->name);
		ret_slots[i] = slot_of(m, spare);
	}
	return 0;
}

int machine_attach(struct machine *m, const struct machine_device *d, unsigned *ret_slot)
{
	unsigned spare;

	int r = find_free(m, &spare);
	if (r < 0)
		return r;
	struct machine_spare *s = &m->spares[spare];
	r = init_device(m, s, d);
	if (r < 0) {
		s->device = NULL;
		return r;
	}
	r = plug(m, spare, s->device);
	if (r < 0) {
		release_device(s);
		return r;
	}
	*ret_slot = slot_of(m, spare);
	return 0;
}

static void take_out(struct machine *m, unsigned spare)
{
	struct machine_slot *slot = &m->slots[slot_of(m, spare)];
	struct machine_spare *s = &m->spares[spare];

	pthread_mutex_lock(&s->device->lock);
	virtio_set_status(s->device, 0);
	pthread_mutex_unlock(&s->device->lock);
	put_in(slot, &s->absent);
}

void machine_detach(struct machine *m, unsigned slot)
{
	const unsigned spare = slot - slot_of(m, 0);
	struct machine_spare *s = &m->spares[spare];

	if (slot < slot_of(m, 0) || slot >= m->slot_count || !s->device)
		return;
	const bool ran = pause_cpus(m);
	take_out(m, spare);
	machine_disconnect_kicks(m, &m->slots[slot], s->device->queue_count);
	if (ran)
		vcpus_resume(&m->cpus);
	release_device(s);
}

void machine_release_spares(struct machine *m)
{
	for (unsigned i = 0; i < m->spare_count; i++) {
		if (!m->spares[i].device)
			continue;
		take_out(m, i);
		release_device(&m->spares[i]);
	}
}

bool machine_has_attached(const struct machine *m)
{
	for (unsigned i = 0; i < m->spare_count; i++)
		if (m->spares[i].device)
			return true;
	return false;
}
