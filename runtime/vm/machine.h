/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine: everything in this directory put together, in the one order that build.c shows.
 *
 *	machine_build(&m, &options)   nothing runs yet; on failure nothing is left
 *	machine_start(&m)             the vCPUs' threads, paused; from here on nothing is opened
 *	machine_run(&m)               serves devices in this thread until the guest ends
 *	machine_release(&m)
 *
 * Descriptors of the options stay the caller's and must be open until machine_release().
 */
#pragma once
#include "vm/boot/boot.h"
#include "vm/irq.h"
#include "vm/vcpu.h"
#include "vm/virtio/balloon.h"
#include "vm/virtio/devices.h"
#include "vm/virtio/fs.h"
#include "vm/virtio/mmio.h"
#include "vm/virtio/vhost_net.h"
#include "vm/virtio/vsock.h"

#define MACHINE_DISKS_MAX 8
#define MACHINE_SHARES_MAX 8
#define MACHINE_NICS_MAX 8
#define MACHINE_DEVICES_MAX (4 + MACHINE_DISKS_MAX + MACHINE_SHARES_MAX + MACHINE_NICS_MAX)

struct machine_disk {
	int fd;           /* of the image, or connected to the back end that has it */
	bool remote;      /* it has (vhost-user), and tells the rest itself */
	const char *peer; /* the back end, for messages */
	int reconnect;    /* as in vhost_user_options; 0: none */
	bool read_only;
	const char *serial; /* up to 20 bytes; never NULL */
};

struct machine_share {
	const char *tag;
	int sock;      /* connected to the server of the share */
	bool optional; /* a server that is lost breaks the device only; else it ends the machine */
	const char *peer; /* the server, for messages; NULL: told by the tag */
};

struct machine_options {
	const char *kvm; /* "/dev/kvm" */
	struct vm_memory_options memory;
	unsigned cpus;
	int kernel;
	int initramfs; /* -EBADF: none */
	const char *cmdline;
	int console_in, console_out; /* non-blocking; -EBADF: none */
	bool balloon;
	const struct machine_disk *disks;
	size_t disk_count;
	const struct machine_share *shares;
	size_t share_count;
	const struct virtio_net_options *nics;
	size_t nic_count;
	const struct virtio_net_remote_options *remote_nic; /* beside these; NULL: none */
	const struct virtio_vsock_options *vsock;           /* NULL: none */
	int (*enter_vcpu)(void *ctx); /* called first in each vCPU's thread; or NULL */
	void *enter_ctx;
};

/* A device in its place: transport, interrupt, and an eventfd a queue for the guest's kicks. */
struct machine_slot {
	struct virtio_device *device;
	struct virtio_mmio mmio;
	struct vm_irq irq;
	uint64_t base;
	int kicks[VIRTIO_QUEUES_MAX];
};

struct machine {
	struct vm_memory memory;
	struct vm_kvm kvm;
	struct vm_bus pio, mmio;
	struct vcpus cpus;
	bool has_cpus;
	struct machine_slot slots[MACHINE_DEVICES_MAX];
	unsigned slot_count;
	struct virtio_console console;
	struct virtio_rng rng;
	struct virtio_balloon balloon; /* see virtio_balloon_set_target() */
	struct virtio_blk disks[MACHINE_DISKS_MAX];
	struct vhost_user remote_disks[MACHINE_DISKS_MAX];
	struct virtio_fs shares[MACHINE_SHARES_MAX];
	struct virtio_net nics[MACHINE_NICS_MAX];
	size_t nic_count;
	struct virtio_net_remote remote_nic;
	struct virtio_vsock vsock;
	bool has_vsock;
};

int machine_build(struct machine *ret, const struct machine_options *options) must_check;
void machine_release(struct machine *m);

/* Not needed by who is content with threads that are started by machine_run()'s. */
int machine_start(struct machine *m) must_check;

/* How it ended; the text is m->cpus.why. < 0 where the event loop itself failed. */
int machine_run(struct machine *m) must_check;
