/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decides what machine a container gets, from the vm section of config.json, linux.resources and
 * the command's options. It looks at the host (KVM, QEMU, files, memory) but changes nothing. An
 * error names the field.
 */
#pragma once
#include "spec/spec.h"
#include "vm/irq.h"
#include "vm/memory.h"

enum hypervisor { HYPERVISOR_KVM, HYPERVISOR_QEMU };

struct machine_request {
	const char *hypervisor; /* --hypervisor: "kvm", "qemu", "auto" or NULL */
	const char *libexec;    /* the directory of caisson-init */
	const char *cache;      /* the directory of packed initramfs files */
};

struct machine_config {
	enum hypervisor hypervisor;
	const char *why_not_kvm; /* if `auto` has chosen QEMU: what KVM lacks; else NULL */
	const char *qemu;        /* the program's path */
	struct spec_strings qemu_parameters;
	unsigned cpus;
	bool nested;                 /* the guest may run virtual machines of its own */
	uint64_t memory;             /* bytes, a multiple of 2 MiB */
	enum vm_pages pages;         /* the host's pages that back the guest's memory */
	bool mergeable;              /* KSM may merge the pages */
	const char *kernel, *initrd; /* paths; NULL: the installed one is found */
	struct spec_strings kernel_parameters;
	const char *image, *image_format; /* of vm.image, or NULL */
	bool image_read_only;
	bool image_direct;        /* O_DIRECT, without the host's page cache */
	bool host_locks;          /* locks of files in shares hold on the host too */
	unsigned boot_timeout_ms; /* from the machine's start to "created" */
	unsigned reconnect;       /* seconds that a disk's back end may be away; 0: it may not */
	const char *init;         /* the path of caisson-init */
	const char *cache;        /* as in struct machine_request */
};

#define MACHINE_INTERFACES_MAX 8 /* of the container's network namespace */

/*
 * Bytes of memory: of a machine without a memory limit; and what a machine gets above its limit,
 * for its kernel and page tables.
 */
#define MACHINE_MEMORY_DEFAULT (UINT64_C(512) << 20)
#define MACHINE_MEMORY_GUEST (UINT64_C(128) << 20)
/* With less memory Debian's kernel does not get as far as /init. */
#define MACHINE_MEMORY_MIN (UINT64_C(64) << 20)
/*
 * Bytes that the host's processes of a machine may take beyond the guest's memory, in its cgroup.
 */
#define MACHINE_OVERHEAD (UINT64_C(256) << 20)

/* Half a minute was seen with a distribution's kernel, in software, on a loaded host. */
#define MACHINE_BOOT_TIMEOUT 180 /* seconds */
#define MACHINE_BOOT_TIMEOUT_MAX 86400
#define MACHINE_RECONNECT_MAX 86400 /* seconds */

int machine_config_build(struct arena *a, const struct spec *s, const struct machine_request *q,
	struct machine_config *ret) must_check;

/*
 * How many network interfaces fit beside vm.image and this number of vhost-user servers. Each
 * device needs an interrupt line of its own, and a machine has MACHINE_LINES of them.
 */
#define MACHINE_DEVICES_OWN 5 /* console, entropy, balloon, vsock, the share: always there */
#define MACHINE_LINES VM_GSI_COUNT
unsigned machine_room_for_nics(const struct machine_config *c, size_t backends);

/* The limits of the container's cgroup on the host, in which the whole machine runs. */
int machine_host_resources(struct arena *a, const struct cg_resources *res,
	const struct machine_config *m, struct cg_resources *ret) must_check;
