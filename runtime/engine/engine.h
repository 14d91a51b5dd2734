/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine, on either hypervisor: the built-in loop on KVM (engine_kvm.c), or QEMU
 * (engine_qemu.c). Same kernel, same initramfs, same devices as the guest sees them.
 *
 *	engine_start(&e, &description)  builds it, and starts its process if it has one; no thread
 *	engine_run(&e, &jail)           its threads, each in the jail: the guest runs
 *	poll(e.ended)                  readable once the machine is no more
 *	engine_end(&e)                 what became of it
 *	engine_stop(&e)                ends it if need be, releases everything
 *
 * Descriptors of the description stay the caller's; those of the taps, the share and the back ends
 * must stay open until engine_stop().
 */
#pragma once
#include <pthread.h>
#include <sys/types.h>

#include "jail/jail.h"
#include "machine/machine_config.h"
#include "plan/plan.h"
#include "vm/virtio/vsock.h"

#define ENGINE_NICS_MAX MACHINE_INTERFACES_MAX
#define GUEST_CID 3

struct engine_nic {
	const char *backend; /* a vhost-user back end has it: its field of config.json; else NULL */
	int fd;              /* the tap, or the connection to that */
	uint8_t mac[6];
	uint32_t mtu;      /* 0, of a back end's: the guest's choice */
	unsigned offloads; /* TUN_F_* */
};

/* An external vhost-user back end: a share, or a disk. */
struct engine_backend {
	const char *field; /* of config.json */
	const char *tag;   /* of the share; NULL: a disk, after vm.image and in this order */
	int sock;
	int reconnect; /* of its connector, or 0 */
};

struct engine_description {
	const struct machine_config *config;
	int kernel, initramfs;
	const char *cmdline;
	int share; /* vhost-user socket of the file server, or -EBADF */
	int image; /* vm.image, or -EBADF */
	int log;   /* the guest's console is written here */
	struct engine_nic nics[ENGINE_NICS_MAX];
	size_t nnics;
	struct engine_backend backends[PLAN_BACKENDS_MAX];
	size_t nbackends;
	struct streams *streams; /* what vsock connections get */
};

struct engine;

struct engine_ops {
	int (*start)(struct engine *e, const struct engine_description *d);
	int (*run)(struct engine *e);
	void (*stop)(struct engine *e);
	/*
	 * After `ended`: 0 where the guest switched itself off, else -errno with a message; -EPIPE
	 * where a server of its devices has gone.
	 */
	int (*end)(struct engine *e);
};

extern const struct engine_ops engine_kvm, engine_qemu;

struct engine {
	const struct engine_ops *ops;
	int ended;               /* pollable */
	pid_t pid;               /* of its process, our child; 0: none */
	const struct jail *jail; /* of its threads */
	void *state;             /* the engine's own */
};

int engine_start(struct engine *ret, const struct engine_description *d) must_check;
/* jail: stays the caller's, until engine_stop(). */
int engine_run(struct engine *e, const struct jail *jail) must_check;
int engine_end(struct engine *e) must_check;
void engine_stop(struct engine *e);
