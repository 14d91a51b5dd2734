/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the engine for QEMU share. */
#pragma once
#include <stdatomic.h>

#include "base/fd.h"
#include "engine/engine.h"
#include "engine/qemu_carry.h"
#include "engine/qemu_commands.h"
#include "engine/qemu_save.h"
#include "engine/relay.h"
#include "vm/vhost/back.h"

#define QEMU_CAPABILITIES "{\"execute\":\"qmp_capabilities\"}\n" /* QMP's first command */

/* What the vsock thread is asked to do; bits of qemu.jobs. */
enum { QEMU_JOB_GO_ON = 1, QEMU_JOB_SAVE = 2 };

struct qemu {
	struct qemu_commands commands; /* has to be the first member (qemu_commands.h) */
	struct virtio_vsock vsock;
	bool has_vsock, has_thread;
	bool foreign;  /* whether the guest is a foreign one */
	bool restored; /* the machine has started from a snapshot (qemu_restore()) */
	pthread_t thread;
	struct vhost_backend *served; /* the connection by which QEMU uses the vsock device */
	/* stop: eventfd that makes the vsock thread look at `ends` and `jobs` */
	int vsock_sock, stop;
	atomic_bool ends;
	atomic_uint jobs; /* QEMU_JOB_ bits */
	int pidfd;
	/*
	 * eventfd, readable when a device is no longer served on which the machine depends: vsock,
	 * unless the guest is a foreign one, or a network device
	 */
	int lost;
	/*
	 * why the vsock device is no longer served; written by the vsock thread before `lost` is
	 * readable
	 */
	char why[ERR_MAX];
	int errors; /* pipe from which the monitor reads QEMU's error messages */
	/* whether vm.hypervisor.parameters of config.json are on QEMU's command line */
	bool parameters;
	struct engine_backend backends[ENGINE_BACKENDS_MAX];
	size_t nbackends;
	/*
	 * field in config.json that names the vhost-user server of a network device; NULL: there is
	 * no such server
	 */
	const char *net;
	struct relay relay; /* forwards messages between QEMU and the server that `net` names */
	struct qemu_carried carried[QEMU_CARRIED_MAX];
	unsigned carried_count;
	int registers; /* socket to QEMU's object "qtest" (qemu_registers.h); -EBADF: none */
	struct qemu_saves saves; /* snapshots of the machine */
};
