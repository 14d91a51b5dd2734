/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Builds and runs the whole virtual machine from the parts in this directory. build.c shows their
 * order.
 *
 *	machine_build(&m, &options)   builds all; releases all again if it fails
 *	machine_start(&m)             starts the vCPUs' threads, paused; nothing is opened later
 *	machine_run(&m)               serves the devices in this thread until the guest ends
 *	machine_release(&m)
 *
 *	machine_call(&m, fn, ctx)     calls fn in the thread of machine_run()
 *	machine_save(&m, ...)         in that thread: makes a snapshot; the machine stays paused
 *
 * A machine can also be built from a snapshot (options.snapshot). It then has the same devices,
 * and goes on where the saved one was. Kernel, initramfs and command line are not used.
 *
 * The caller owns the descriptors in the options and must keep them open until machine_release().
 *
 * To add a virtio device: write it in virtio/ (virtio/device.h says what a device is) and name the
 * file in runtime/meson.build, add a member to struct machine and its settings to struct
 * machine_options, and plug it in plug_devices() of build.c.
 */
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "vm/boot/boot.h"
#include "vm/irq.h"
#include "vm/uart.h"
#include "vm/vcpu.h"
#include "vm/virtio/balloon.h"
#include "vm/virtio/blk_file.h"
#include "vm/virtio/devices.h"
#include "vm/virtio/fs.h"
#include "vm/virtio/mem.h"
#include "vm/virtio/mmio.h"
#include "vm/virtio/vhost_net.h"
#include "vm/virtio/vsock.h"

#define MACHINE_DISKS_MAX 8
#define MACHINE_SHARES_MAX 8
#define MACHINE_NICS_MAX 8
/* how many devices can be attached to a machine that runs (vm/hotplug.h) */
#define MACHINE_SPARES_MAX 8
#define MACHINE_DEVICES_MAX \
	(5 + MACHINE_DISKS_MAX + MACHINE_SHARES_MAX + MACHINE_NICS_MAX + MACHINE_SPARES_MAX)

enum machine_kind { MACHINE_NIC, MACHINE_DISK, MACHINE_SHARE };

struct machine_disk {
	/*
	 * descriptor of the disk image or, if `remote`, of a connected Unix socket to the
	 * vhost-user back end that serves the disk
	 */
	int fd;
	/* `fd` is a connection to a back end, which knows the image and the image's size itself */
	bool remote;
	const char *peer; /* name of the back end, which error messages use */
	/*
	 * socket on which the device asks for a new connection after the back end has hung up
	 * (vhost_user_options); 0: a lost connection is not replaced
	 */
	int reconnect;
	unsigned queues; /* number of queues of the back end that are used; 0: one */
	bool owned;      /* of a back end: the same as in struct vhost_user_options */
	bool read_only;
	bool write_through; /* the disk has no write cache that the guest has to flush */
	/* serial number that the guest reads, up to 20 bytes; never NULL */
	const char *serial;
	struct blk_errors errors; /* what happens after an error of the image */
};

struct machine_share {
	const char *tag;
	int sock; /* Unix socket, connected to the process that serves the share */
	/*
	 * If the server's connection is lost, only this device fails. Without `optional` the whole
	 * machine ends.
	 */
	bool optional;
	/*
	 * name of the server, which error messages use; NULL: the share is caisson's own, which
	 * every machine of this kind has (machine_options.late), and messages use the tag
	 */
	const char *peer;
	bool owned; /* the same as in struct vhost_user_options */
};

struct machine_options {
	const char *kvm; /* path of the KVM device, such as "/dev/kvm" */
	struct vm_memory_options memory;
	unsigned cpus;
	bool nested; /* the guest may run virtual machines of its own */
	int kernel;
	int initramfs; /* descriptor of the initramfs file; -EBADF: none */
	const char *cmdline;
	/* descriptors of the console, non-blocking; -EBADF: none */
	int console_in, console_out;
	/* the console is a serial port, in place of a virtio device */
	bool serial;
	/*
	 * a named port for a program of the guest, which only a machine with `serial` has; NULL:
	 * none
	 */
	const struct virtio_port_options *port;
	bool balloon;
	const struct machine_disk *disks;
	size_t disk_count;
	/*
	 * the machine starts without its late devices, which are all disks, all shares with a
	 * `peer`, and remote_nic: machine_build() makes them, and machine_place_late()
	 * (vm/hotplug.h) puts them into slots
	 */
	bool late;
	const struct machine_share *shares;
	size_t share_count;
	const struct virtio_net_options *nics;
	size_t nic_count;
	/* a network device that a back end serves, besides `nics`; NULL: none */
	const struct virtio_net_remote_options *remote_nic;
	/*
	 * number of spare slots for devices that are attached later (vm/hotplug.h). A machine that
	 * starts from a snapshot has as many as the saved one, whatever this member is.
	 */
	unsigned spares;
	bool power_button; /* the guest gets an ACPI power button: machine_press_power() */
	/* settings of the vsock device; NULL: the machine has none */
	const struct virtio_vsock_options *vsock;
	/* The thread of each vCPU calls this before anything else. NULL: nothing is called. */
	int (*enter_vcpu)(void *ctx);
	void *enter_ctx;
	/*
	 * The snapshot with which the machine starts, and its file of guest memory. The machine
	 * maps this file privately, or copies it if another process serves one of its devices
	 * (except for a share without a `peer`, with snapshot_trusted) or if the memory is to be
	 * mergeable or of reserved huge pages. NULL: the machine boots a kernel.
	 */
	const struct snapshot *snapshot;
	int snapshot_memory;
	/*
	 * The snapshot is a file of this user that nobody has changed, so the checksums of guest
	 * memory are not compared, and only the pages that the guest uses are read.
	 */
	bool snapshot_trusted;
	/* pages that the guest will touch first (vm/prefetch.h) */
	const struct vm_page_run *prefetch;
	size_t prefetch_count;
};

/*
 * A device with what connects it to the machine: its transport, its interrupt, and for each queue
 * an eventfd that the guest's kicks signal.
 */
struct machine_slot {
	struct virtio_device *device;
	struct virtio_mmio mmio;
	struct vm_irq irq;
	uint64_t base;
	int kicks[VIRTIO_QUEUES_MAX];
};

/* A disk: `local`, which this process serves from `file`, or `remote`, which a back end serves. */
struct machine_blk {
	struct virtio_blk local;
	struct blk_file file;
	struct vhost_user remote;
};

/*
 * What fills a spare slot: a placeholder, or a device that was attached (vm/hotplug.h). The spare
 * slots are the last ones in machine.slots.
 */
struct machine_spare {
	struct virtio_device
		absent; /* the placeholder, a device with the id 0 and without queues */
	struct virtio_device *device; /* the attached device, a member of this struct, or NULL */
	enum machine_kind kind;       /* kind of the attached device */
	union {                       /* the member that `kind` names is used */
		struct virtio_net nic;
		struct machine_blk disk;
		struct virtio_fs share;
	};
};

struct machine;

/* a function that the thread of machine_run() is to call, set by machine_call() */
#define MACHINE_CALLS_MAX 8
struct machine_pending {
	void (*fn)(struct machine *m, void *ctx);
	void *ctx;
};

struct machine {
	struct vm_memory memory;
	struct vm_kvm kvm;
	struct vm_bus pio, mmio;
	struct vcpus cpus;
	bool has_cpus;
	struct machine_slot slots[MACHINE_DEVICES_MAX];
	unsigned slot_count;
	struct vm_irq button; /* interrupt of the power button */
	bool has_button;
	/* the version of the machine, which is the snapshot's if the machine starts from one */
	uint32_t abi;
	struct vm_irq genid; /* interrupt of the generation id (vm/genid.h) */
	bool has_genid;
	struct uart uart;
	bool has_uart;
	struct virtio_console console;
	struct virtio_port port;
	bool has_port;
	struct virtio_rng rng;
	struct virtio_balloon balloon;
	struct virtio_mem mem; /* the device of the memory's hot region, if it has one */
	struct machine_blk disks[MACHINE_DISKS_MAX];
	/* the late devices (machine_options.late), in the order of their slots */
	struct virtio_device *late[MACHINE_SPARES_MAX];
	size_t late_count;
	struct virtio_fs shares[MACHINE_SHARES_MAX];
	struct virtio_net nics[MACHINE_NICS_MAX];
	size_t nic_count;
	struct virtio_net_remote remote_nic;
	struct virtio_vsock vsock;
	bool has_vsock;
	struct machine_spare spares[MACHINE_SPARES_MAX];
	unsigned spare_count;
	int calls;       /* eventfd, written by machine_call() and machine_cut() */
	atomic_bool cut; /* machine_cut() was called */
	/* the functions that machine_call() has set and that were not called yet, in their order */
	struct machine_pending pending[MACHINE_CALLS_MAX];
	unsigned pending_count;
	pthread_mutex_t pending_lock; /* protects pending and pending_count */
};

int machine_build(struct machine *ret, const struct machine_options *options) must_check;
void machine_release(struct machine *m);

/*
 * Starts the threads of the vCPUs in the paused state. machine_run() does this itself if
 * machine_start() was not called before.
 */
int machine_start(struct machine *m) must_check;

/*
 * Runs the vCPUs and the event loop until the machine ends. Returns how the machine ended, an enum
 * vm_end, with the reason as text in m->cpus.why; or -errno if the event loop itself failed.
 */
int machine_run(struct machine *m) must_check;
/*
 * Makes machine_run() return without waiting for the reader of the console, once the vCPUs have
 * stopped. Any thread may call this.
 */
void machine_cut(struct machine *m);

/*
 * machine_connect_kicks() makes an eventfd for each of `count` queues of the slot's device, which
 * the guest's kicks signal, and machine_disconnect_kicks() closes them.
 */
int machine_connect_kicks(struct machine *m, struct machine_slot *s, unsigned count) must_check;
void machine_disconnect_kicks(struct machine *m, struct machine_slot *s, unsigned count);

/*
 * machine_init_disk() makes a disk, and sets *ret to its device. machine_release_disk() releases
 * the disk after virtio_release() has released the device.
 */
int machine_init_disk(struct machine_blk *b, const struct vm_memory *m,
	const struct machine_disk *d, struct virtio_device **ret) must_check;
void machine_release_disk(struct machine_blk *b);
/*
 * Ends the machine, of whose vCPUs ctx is the struct vcpus, because the server of a file system,
 * disk or network of the guest is lost: programs in the guest that use that device would hang
 * forever. This is a function for the member `lost` of struct vhost_user.
 */
void machine_end_lost(void *ctx, const char *why);
/* Presses the power button. Any thread may call this. */
void machine_press_power(struct machine *m);

/*
 * Makes the thread of machine_run() call fn(m, ctx), between two events and after all functions of
 * earlier calls. A call with an fn and ctx that still wait is left out, so the caller may have
 * MACHINE_CALLS_MAX different ones. Any thread may call this.
 */
void machine_call(struct machine *m, void (*fn)(struct machine *m, void *ctx), void *ctx);

/*
 * machine_pause() stops the vCPUs. machine_retry() makes the disks serve again the requests that
 * they hold after an error, and lets the vCPUs run. Any thread but a vCPU's may call these.
 */
void machine_pause(struct machine *m);
void machine_retry(struct machine *m);

/*
 * Makes the image of the first disk `size` bytes large, or, if a back end serves that disk and has
 * made it larger, reads its new size. Tells the driver. Only the thread of machine_run() may call
 * this.
 */
int machine_resize_disk(struct machine *m, uint64_t size) must_check;

/* --- snapshot/machine.c: saves a running machine and loads a saved one --- */

/*
 * Pauses the machine, writes the state of all its parts to `w`, which the caller has begun and
 * finishes, and guest memory to the empty file `memory`. Only the thread of machine_run() may call
 * this. The machine stays paused. Returns -ENOTSUP with a message if a part of the machine cannot
 * be saved.
 */
int machine_save(struct machine *m, struct snapshot_writer *w, int memory) must_check;
/* Lets a machine that was saved go on, or starts a machine that was loaded. */
void machine_go_on(struct machine *m);

/* These two functions are the steps of machine_build() for a machine from a snapshot. */
/*
 * Checks that the machine which `options` describe has as much memory and as many vCPUs and devices
 * as the one in the snapshot, before any part is made.
 */
int machine_check_shape(const struct machine_options *options) must_check;
/*
 * Reads how many spare slots the machine of the snapshot has, and whether its late devices are in
 * the first ones of them (machine_place_late()).
 */
int machine_read_spares(const struct snapshot *s, unsigned *ret, bool *ret_late) must_check;
/* Loads the state of all parts into a machine that has not run yet. */
int machine_load(struct machine *m, const struct machine_options *options) must_check;
