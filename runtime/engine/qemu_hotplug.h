/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attaches devices to QEMU's microvm machine while it runs, and detaches them again.
 *
 * Theory of operation. QEMU plugs no device into a virtio-mmio transport of a machine that runs,
 * because the bus of such a transport has no hotplug handler. But the handler of a bus is a
 * property that a command can set, and QEMU then plugs and unplugs devices there as on any other
 * bus. The monitor makes spare transports in two steps:
 *
 * 	qemu_args.c          QEMU starts with a placeholder, a virtio-scsi-device, in each spare
 * 	                     transport, so that the ACPI tables describe these transports
 * 	qemu_empty_spares()  before the guest runs, one more virtio-scsi-device, the "plugger", is
 * 	                     plugged into a transport that the tables do not describe, so that the
 * 	                     guest never sees it. The plugger's SCSI bus becomes the handler of the
 * 	                     spare transports, because such a bus as a handler does nothing when a
 * 	                     device is plugged, and unplugs a device at once. Then the placeholders
 * 	                     are unplugged.
 *
 * The DeviceID register of an empty transport reads 0, as that of a spare slot of the built-in
 * machine does (vm/hotplug.h). So the guest's agent does the same on both machines. The tables list
 * QEMU's transports from the last one to the first, and the spare ones are the last ones, so the
 * guest's kernel numbers them from 0.
 */
#pragma once
#include "base/json.h"
#include "engine/engine.h"

/* how many virtio-mmio transports QEMU's microvm machine has, if it has two I/O APICs */
#define QEMU_TRANSPORTS 24
/* the number that QEMU gives to the transport of a spare slot */
#define QEMU_SPARE_TRANSPORT(slot) (QEMU_TRANSPORTS - 1 - (slot))
/* the type of the placeholders, and the beginning of their ids */
#define QEMU_PLACEHOLDER "virtio-scsi-device"
#define QEMU_SPARE "spare"
/* the id of the plugger, and the bus that is the handler of the spare transports */
#define QEMU_PLUGGER "plugger"
#define QEMU_PLUGGER_BUS QEMU_PLUGGER ".0"
/*
 * format of the arguments of qom-set that set the handler of a bus: number of its transport, and
 * the handler's bus
 */
#define QEMU_HANDLER_ARGUMENTS \
	"{\"path\":\"virtio-mmio-bus.%u\",\"property\":\"hotplug-handler\",\"value\":\"%s\"}"

enum qemu_hotplug_step {
	QEMU_IDLE,
	QEMU_PLUGGING,   /* QEMU opens the device's descriptor and plugs the device */
	QEMU_UNPLUGGING, /* QEMU unplugs the device */
	QEMU_RELEASING,  /* QEMU closes the descriptor of a device that is not plugged */
};

struct qemu_hotplug {
	unsigned spares; /* number of spare transports, which are the slots 0 to spares - 1 */
	enum qemu_hotplug_step step;
	struct engine_change *change;
	unsigned slot; /* the slot of the present change */
	char why[512]; /* QEMU's first error message about the device that is being plugged */
	bool used[MACHINE_SPARES_MAX];
	enum machine_kind kinds[MACHINE_SPARES_MAX]; /* kinds of the devices in the used slots */
	bool remote[MACHINE_SPARES_MAX]; /* a vhost-user server has the disk in the used slot */
};

/* Returns how many spare transports QEMU's machine gets. */
unsigned qemu_count_spares(const struct engine_description *d);
/* Appends the commands that empty the spare transports. */
int qemu_empty_spares(struct strbuf *commands, unsigned spares) must_check;

/* The operations of the engine, which engine.h describes. */
int qemu_change(struct engine *e, struct engine_change *c) must_check;
int qemu_changed(struct engine *e) must_check;
/* Goes on with the present change, if the message of QEMU is about it. */
void qemu_hotplug_on_message(struct engine *e, const struct json *message);
