/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What machine a container gets: from the vm section of config.json, linux.resources and the
 * command's options to numbers and paths. Pure but for looking for the hypervisor; errors name the
 * field.
 */
#pragma once
#include "spec/spec.h"
#include "vm/irq.h"
#include "vm/memory.h"

enum hypervisor { HYPERVISOR_KVM, HYPERVISOR_QEMU };

struct machine_request {
	const char *hypervisor; /* --hypervisor: "kvm", "qemu", "auto" or NULL */
	const char *libexec;    /* where caisson-init is */
	const char *cache;      /* for packed initramfs */
};

struct machine_config {
	enum hypervisor hypervisor;
	const char *why_not_kvm; /* QEMU by `auto`: what KVM lacks; else NULL */
	const char *qemu;        /* the program */
	struct spec_strings qemu_parameters;
	unsigned cpus;
	uint64_t memory;             /* bytes, a multiple of 2 MiB */
	enum vm_pages pages;         /* what the host backs it with */
	bool mergeable;              /* small ones that KSM may merge */
	const char *kernel, *initrd; /* NULL: look for one */
	struct spec_strings kernel_parameters;
	const char *image, *image_format; /* vm.image, or NULL */
	bool image_read_only;
	bool image_direct;        /* O_DIRECT: past the host's page cache */
	unsigned boot_timeout_ms; /* from the machine's start to "created" */
	unsigned reconnect;       /* seconds that a disk's back end may be away; 0: it may not */
	const char *init;         /* caisson-init */
	const char *cache;
};

#define MACHINE_INTERFACES_MAX 8 /* of the container's network namespace */

/* A machine without a memory limit, and what its kernel and page tables get on top of one. */
#define MACHINE_MEMORY_DEFAULT (UINT64_C(512) << 20)
#define MACHINE_MEMORY_GUEST (UINT64_C(128) << 20)
/* Less than this and Debian's kernel does not get as far as /init. */
#define MACHINE_MEMORY_MIN (UINT64_C(64) << 20)
/* What the processes around the guest may take beyond its memory, in the container's cgroup. */
#define MACHINE_OVERHEAD (UINT64_C(256) << 20)

/* In software, on a loaded machine, with a distribution's kernel, half a minute was seen. */
#define MACHINE_BOOT_TIMEOUT 180 /* seconds */
#define MACHINE_BOOT_TIMEOUT_MAX 86400
#define MACHINE_RECONNECT_MAX 86400 /* seconds */

int machine_config_build(struct arena *a, const struct spec *s, const struct machine_request *q,
	struct machine_config *ret) must_check;

/*
 * How many network interfaces there is room for beside vm.image and so many back ends: each device
 * has an interrupt line of its own (MACHINE_LINES), the machine's own among them.
 */
#define MACHINE_DEVICES_OWN 5 /* console, entropy, balloon, vsock, the share */
#define MACHINE_LINES VM_GSI_COUNT
unsigned machine_room_for_nics(const struct machine_config *c, size_t backends);

/* The limits of the container's cgroup on the host, around the whole machine. */
int machine_host_resources(struct arena *a, const struct cg_resources *res,
	const struct machine_config *m, struct cg_resources *ret) must_check;
