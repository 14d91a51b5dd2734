/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decides what machine a container gets, from the vm section of config.json, linux.resources and
 * the command's options. The functions examine the host (KVM, QEMU, files, memory) but change
 * nothing. Error messages name the field.
 */
#pragma once
#include "machine/size.h"
#include "spec/spec.h"
#include "vm/irq.h"
#include "vm/memory.h"
#include "vm/virtio/blk_control.h"

enum hypervisor { HYPERVISOR_KVM, HYPERVISOR_QEMU };

/* how a machine uses templates, which are snapshots of booted machines (monitor/template.c) */
enum machine_template {
	TEMPLATE_AUTO,    /* the machine starts from a template; if there is none, it makes one */
	TEMPLATE_OFF,     /* the machine boots, and makes no template */
	TEMPLATE_REFRESH, /* the machine boots, and makes a template, which replaces the old one */
};

struct machine_request {
	const char *hypervisor; /* value of --hypervisor: "kvm", "qemu", "auto" or NULL */
	const char *template;   /* value of --template: "auto", "off", "refresh" or NULL */
	const char *libexec;    /* directory that contains caisson-guest */
	/* path of caisson-disk; NULL: the machine has no disk that it would serve */
	const char *disk;
	/* directory of the host in which initramfs files and templates are kept; NULL: none */
	const char *cache;
};

struct machine_config {
	enum hypervisor hypervisor;
	const char *why_not_kvm; /* what KVM lacks if `auto` has chosen QEMU; else NULL */
	const char *qemu;        /* path of the QEMU program */
	struct spec_strings qemu_parameters;
	unsigned cpus; /* how many vCPUs the guest starts with */
	/* how many vCPUs the machine has, of which the guest keeps the others off line at first */
	unsigned max_cpus;
	bool nested;     /* whether the guest may run virtual machines of its own */
	uint64_t memory; /* memory of the guest in bytes, a multiple of 2 MiB */
	/* how many bytes more the guest can get while it runs, a multiple of 2 MiB */
	uint64_t hot_memory;
	enum vm_pages pages; /* size of the host's pages that back the guest's memory */
	bool mergeable;      /* whether the host's KSM may merge pages of the guest's memory */
	/*
	 * paths of the guest's kernel and initramfs; NULL: caisson looks for an installed kernel
	 * and makes the initramfs
	 */
	const char *kernel, *initrd;
	struct spec_strings kernel_parameters;
	/* path of vm.image or NULL, and its format by the name that caisson-disk knows */
	const char *image, *image_format;
	const char *image_serial; /* NULL: see machine_image_serial() */
	bool image_read_only, image_write_through;
	/* whether vm.image is opened with O_DIRECT, so that the host's page cache is not used */
	bool image_direct;
	/*
	 * path of caisson-disk if it serves vm.image; NULL: the hypervisor reads the raw image
	 * itself
	 */
	const char *image_server;
	/*
	 * value of caisson-disk's option --backing: "on", "off" or a directory; NULL: the option is
	 * not used
	 */
	const char *image_backing;
	const char *image_key; /* path of the file with the passphrase of vm.image, or NULL */
	/* whether what the guest writes to vm.image is dropped at the machine's end */
	bool image_snapshot;
	/* what happens after an error of reading or writing vm.image on the host */
	enum blk_on_error image_werror, image_rerror;
	unsigned image_queues; /* number of queues of a disk that caisson-disk serves */
	/*
	 * vm.image has an operating system of its own. `kernel` and `initrd` are those of that
	 * system, and kernel_parameters is the whole command line. caisson's agent is not in the
	 * guest, so the monitor learns nothing of what happens there but the machine's end.
	 */
	bool foreign;
	/*
	 * absolute path of the directory with the NoCloud files from which a foreign guest is
	 * configured; NULL: the guest gets no such files
	 */
	const char *seed;
	/*
	 * absolute paths of the EFI firmware that boots a foreign guest, and of the file with the
	 * firmware's variables, which the guest writes to; NULL: the machine boots `kernel`
	 */
	const char *firmware, *firmware_vars;
	bool vnc; /* whether a foreign guest has a screen, a keyboard and a pointer, on QEMU */
	/* whether the kernel's vhost-net moves the frames of taps, where the host has vhost-net */
	bool vhost_net;
	/* whether file locks that the guest takes in shares are also taken on the host */
	bool host_locks;
	/* whether linux.resources limits the machine's CPU time */
	bool cpu_limited;
	/* how long the machine may take from its start to "created", in ms */
	unsigned boot_timeout_ms;
	/*
	 * how long the vhost-user server of a disk may be away before the machine fails, in
	 * seconds; 0: not at all
	 */
	unsigned reconnect;
	const char *init; /* path of caisson-guest */
	enum machine_template template;
	/* the same as in struct machine_request */
	const char *cache;
};

/* annotation with the number of vCPUs up to which `caisson update` may go */
#define MACHINE_MAX_VCPUS "io.caisson.vm.max-vcpus"
/* annotation with the size of memory up to which `caisson update` may go */
#define MACHINE_MAX_MEMORY "io.caisson.vm.max-memory"

/* how many network interfaces the container's network namespace may have at most */
#define MACHINE_INTERFACES_MAX 8

/*
 * How much memory a machine gets, in bytes: MACHINE_MEMORY_DEFAULT if the container has no memory
 * limit, else the limit plus MACHINE_MEMORY_GUEST, which is for the guest's kernel and page tables.
 */
#define MACHINE_MEMORY_DEFAULT (UINT64_C(512) << 20)
#define MACHINE_MEMORY_GUEST (UINT64_C(128) << 20)
/*
 * How many bytes the monitor, the file server and QEMU may use in the machine's cgroup, beyond the
 * guest's memory.
 */
#define MACHINE_OVERHEAD (UINT64_C(256) << 20)

/*
 * How long a machine may take to boot. The default is generous, because a distribution's kernel
 * took half a minute on a loaded host when QEMU emulated the CPU.
 */
#define MACHINE_BOOT_TIMEOUT 180 /* default time limit of the start, in seconds */
#define MACHINE_BOOT_TIMEOUT_MAX 86400
/* longest time that a vhost-user server may be away, in seconds */
#define MACHINE_RECONNECT_MAX 86400

int machine_config_build(struct arena *a, const struct spec *s, const struct machine_request *q,
	struct machine_config *ret) must_check;

/* Reads an annotation that is true or false. *ret stays as it is if there is no such annotation. */
int machine_read_bool(const struct spec *s, const char *annotation, bool *ret) must_check;

/*
 * number of devices that every machine has: console, entropy, balloon, vsock and the share of the
 * host's files
 */
#define MACHINE_DEVICES_OWN 5
#define MACHINE_LINES VM_GSI_COUNT

/*
 * Returns how many network interfaces a machine can have if it also has vm.image and `backends`
 * vhost-user servers. The number is limited, because each device needs an interrupt line of its
 * own, and a machine has MACHINE_LINES of them.
 */
unsigned machine_room_for_nics(const struct machine_config *c, size_t backends);

/*
 * Makes the resource limits of the container's cgroup on the host. The whole machine runs in that
 * cgroup.
 */
int machine_host_resources(struct arena *a, const struct cg_resources *res,
	const struct machine_config *m, struct cg_resources *ret) must_check;
