/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Carries those devices of QEMU's machine that vhost-user servers of caisson serve: the virtio-fs
 * share and the vsock device. QEMU marks both as unmigratable.
 *
 * Theory of operation. The guest stands still (QMP `stop`) during all of this, so it does not
 * notice that a device is taken away and put back:
 *
 * 	qemu_carry_query()      asks QEMU where the device's rings are, and at which request its
 * 	                        server has stopped
 * 	qemu_carry_remove()     unplugs the device, as qemu_hotplug.h does. QEMU's connection to
 * 	                        the server stays
 * 	qemu_carry_read()       reads the server's state over a connection of the monitor
 * 	...                     QEMU saves, or has loaded, all other devices
 * 	qemu_carry_add()        plugs the device into the same transport again. The new device is as
 * 	                        after a reset
 * 	qemu_carry_configure()  does what the guest's driver has done once: writes the driver's
 * 	                        features, the rings and DRIVER_OK into the registers, by QEMU's
 * 	                        object "qtest" (qemu_registers.h)
 *
 * At `cont` QEMU then starts the queues in the server. QEMU takes them for new ones, so it tells
 * the server to begin at the request 0. The server has been told before to begin where it has
 * stopped (qemu_carry_keep()).
 */
#pragma once
#include "vm/snapshot/format.h"
#include "vm/vhost/back.h"

struct engine;
struct engine_description;

/* ids of the devices, which the command line has too, and those of their connections */
#define QEMU_SHARE_ID "share"
#define QEMU_SHARE_CHARDEV "fs"
#define QEMU_SHARE_QUEUE "1024" /* entries of a queue */
#define QEMU_VSOCK_ID "vsock"
#define QEMU_VSOCK_CHARDEV "vsock"
/* the server of the share, in error messages */
#define QEMU_SHARE_PEER "the file server"

#define QEMU_CARRIED_MAX 2

struct qemu_ring {
	struct vhost_rings rings;
	uint16_t base; /* number of the request at which the server has stopped */
};

struct qemu_carried {
	const char *id, *driver, *chardev;
	const char *options; /* further members of the arguments of device_add, as JSON */
	/*
	 * a connection to the server beside QEMU's (vhost_serve_carried()); -EBADF: this process
	 * serves the device, which is the vsock device
	 */
	int sock;
	bool removed;       /* QEMU does not have the device at present */
	bool blank;         /* QEMU's device is as after a reset */
	unsigned transport; /* number of its virtio-mmio transport */
	uint64_t features;  /* features that the driver has accepted */
	unsigned queue_count;
	struct qemu_ring queues[VIRTIO_QUEUES_MAX];
	struct strbuf state; /* the server's state, once it was read */
};

/* Lists the devices of the machine that have to be carried. */
void qemu_carry_init(struct engine *e, const struct engine_description *d);
void qemu_carry_release(struct engine *e);

/* Asks QEMU for the device's transport only. */
int qemu_carry_locate(struct engine *e, struct qemu_carried *c) must_check;
int qemu_carry_query(struct engine *e, struct qemu_carried *c) must_check;
int qemu_carry_remove(struct engine *e, struct qemu_carried *c) must_check;
/* Reads the state of the server of a device that was removed. */
int qemu_carry_read(struct engine *e, struct qemu_carried *c) must_check;
int qemu_carry_add(struct engine *e, struct qemu_carried *c) must_check;
/* Makes the device's server begin where it has stopped when QEMU starts the queues next. */
int qemu_carry_keep(struct engine *e, const struct qemu_carried *c) must_check;
/* Configures all devices that are blank. */
int qemu_carry_configure(struct engine *e) must_check;
/* The device as a section of a snapshot. Reading checks the numbers. */
int qemu_carry_save(const struct qemu_carried *c, struct snapshot_writer *w) must_check;
int qemu_carry_load(struct qemu_carried *c, struct snapshot_part *p) must_check;
