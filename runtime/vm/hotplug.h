/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attaches devices to a machine that runs, and detaches them again.
 *
 * Theory of operation. The machine has spare slots, each with a page of MMIO, an interrupt and an
 * entry in the ACPI tables from the beginning. A spare slot shows a device whose DeviceID register
 * reads 0, a placeholder that drivers do not bind to (virtio 1.2, 4.2.2). machine_attach() puts a
 * device in the place of the placeholder. The guest learns of this from its agent and not from the
 * machine: the agent makes the driver look at the slot again (runtime/guest/hotplug.c).
 *
 * The threads of the vCPUs use a slot without a lock, so the vCPUs are paused while a slot's device
 * is exchanged. machine_detach() first resets the device, as the driver should have done, so a
 * guest that goes on using the slot only sees the placeholder.
 */
#pragma once
#include "vm/machine.h"

/* A device for machine_attach(); the member of the union that `kind` names is used. */
struct machine_device {
	enum machine_kind kind;
	union {
		struct virtio_net_options nic;
		struct machine_disk disk;
		struct machine_share share;
	};
};

/*
 * Puts the device into a spare slot. *ret_slot is the slot's index in m->slots. Only the thread of
 * machine_run() may call this. The caller owns the descriptors in *d and keeps them open until
 * machine_detach() or machine_release(). Returns -ENOSPC if no spare slot is free.
 */
int machine_attach(struct machine *m, const struct machine_device *d, unsigned *ret_slot)
	must_check;

/*
 * Takes the device out of the slot that machine_attach() has returned. Only the thread of
 * machine_run() may call this.
 */
void machine_detach(struct machine *m, unsigned slot);

/*
 * Puts the late devices (machine_options.late), which machine_build() has made, into spare slots,
 * in the order disks, shares, network device. The guest's agent makes the driver look at the slots,
 * as it does after machine_attach(), but the devices are the machine's own and cannot be detached.
 * ret_slots gets the slots' indices in m->slots, m->late_count of them. Only the thread of
 * machine_run() may call this, or any thread before the machine runs.
 */
int machine_place_late(struct machine *m, unsigned ret_slots[static MACHINE_SPARES_MAX]) must_check;

/* The functions below are for build.c and snapshot/machine.c. */

/* Makes a placeholder for each spare slot, which the caller then plugs in. */
void machine_init_spares(struct machine *m, unsigned count);
/* Releases all devices that were attached, once the vCPUs have stopped. */
void machine_release_spares(struct machine *m);
/* Returns whether a device is attached. */
bool machine_has_attached(const struct machine *m);
