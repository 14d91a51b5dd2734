/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine runs the machine: the built-in machine on KVM (kvm.c) or QEMU (qemu.c; its arguments
 * are in qemu_args.c). The guest gets the same kernel, initramfs and devices from both.
 *
 *	engine_start(&e, &description)  builds the machine; starts QEMU's process, but no thread
 *	engine_run(&e, &jail)           starts threads, each in the jail; the guest runs
 *	poll(e.ended)                   readable once the machine has ended
 *	engine_result(&e)               tells how it ended
 *	engine_stop(&e)                 ends the machine if it still runs, and releases everything
 *
 * Descriptors of the description stay the caller's. Those of the taps, the share and the vhost-user
 * servers must stay open until engine_stop().
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
	const char *backend; /* of a vhost-user server: its field in config.json; of a tap: NULL */
	int fd;              /* the tap, or the connection to the server */
	uint8_t mac[6];
	uint32_t mtu;      /* 0, with a vhost-user server only: the guest chooses */
	unsigned offloads; /* TUN_F_* */
};

/* A vhost-user server that is not caisson's: a share, or a disk. */
struct engine_backend {
	const char *field; /* in config.json */
	const char *tag;   /* of the share; NULL: a disk. Disks follow vm.image, in this order */
	int sock;
	int reconnect; /* the socket of its connector (connector.h), or 0 */
};

struct engine_description {
	const struct machine_config *config;
	int kernel, initramfs;
	const char *cmdline;
	int share; /* vhost-user socket of the file server, or -EBADF */
	int image; /* vm.image, or -EBADF */
	int log;   /* a socket that the guest's console is written to */
	struct engine_nic nics[ENGINE_NICS_MAX];
	size_t nnics;
	struct engine_backend backends[PLAN_BACKENDS_MAX];
	size_t nbackends;
	struct streams *streams; /* what the guest's vsock connections are joined to */
};

struct engine;

struct engine_ops {
	int (*start)(struct engine *e, const struct engine_description *d);
	int (*run)(struct engine *e);
	void (*stop)(struct engine *e);
	/*
	 * To be called once `ended` is readable. Returns 0 if the guest switched itself off; -EPIPE
	 * with a message if a server of its devices has ended; else -errno with a message.
	 */
	int (*result)(struct engine *e);
};

extern const struct engine_ops engine_kvm, engine_qemu;

struct engine {
	const struct engine_ops *ops;
	int ended;               /* a descriptor to poll */
	pid_t pid;               /* QEMU's process, our child; 0: there is none */
	const struct jail *jail; /* for the engine's threads */
	void *state;             /* private to kvm.c or qemu.c */
};

int engine_start(struct engine *ret, const struct engine_description *d) must_check;
/* The jail stays the caller's, and must stay until engine_stop(). */
int engine_run(struct engine *e, const struct jail *jail) must_check;
int engine_result(struct engine *e) must_check;
void engine_stop(struct engine *e);
