/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saves QEMU's machine, and starts a machine from what was saved. The file of the state has the
 * devices of qemu_carry.h as its devices, and one section that describes the machine and QEMU. The
 * file of the memory is QEMU's migration stream, with all other devices and guest memory. Only QEMU
 * parses this stream, in its jail, after the monitor has compared its checksum.
 *
 * QEMU's microvm machine has no versions, so only the QEMU of the same version can load the stream.
 */
#pragma once
#include "base/err.h"
#include "vm/snapshot/format.h"

struct engine;
struct engine_description;
struct engine_save;

/* What the machine that loads a snapshot must have too. */
struct qemu_shape {
	uint64_t memory;     /* bytes */
	uint64_t image_size; /* bytes of the vm.image that QEMU serves; 0: none */
	uint32_t cpus, nics, devices, spares;
	uint32_t nics_crc; /* checksum of the MAC addresses and MTUs of all interfaces */
	uint32_t unused;
};

struct qemu_saves {
	struct qemu_shape shape;
	/* why the machine cannot be saved; NULL: it can */
	const char *refused;
	const struct engine_save *save; /* what is being saved; NULL: nothing */
	/* the outcome of the last save, which the vsock thread writes before `save_done` */
	int r;
	char why[ERR_MAX];
};

/* Notes what the machine is, and whether it can be saved. */
void qemu_save_init(struct engine *e, const struct engine_description *d);

/* The operations of the engine, which engine.h describes. */
int qemu_can_save(const struct engine *e) must_check;
int qemu_save(struct engine *e, const struct engine_save *s) must_check;
int qemu_saved(struct engine *e) must_check;
void qemu_go_on(struct engine *e);

/*
 * Serves the vsock device, in the vsock thread, and saves the machine or lets it go on when the
 * monitor's loop asks for that. Returns 0 if QEMU has closed the connection or the machine is being
 * stopped, and an error if the machine cannot go on, and so has to end.
 */
int qemu_serve(struct engine *e) must_check;

/*
 * A machine that starts from a snapshot: qemu_restore_prepare() checks the files and gives the file
 * server its state, before QEMU starts. qemu_restore() makes QEMU load the stream, and configures
 * the devices; then the guest only waits for `cont`.
 */
int qemu_restore_prepare(struct engine *e, const struct engine_description *d) must_check;
int qemu_restore(struct engine *e, const struct engine_description *d) must_check;

/* The section of a snapshot that describes the machine and the stream. */
struct qemu_section {
	struct qemu_shape shape;
	uint32_t major, minor; /* QEMU's version */
	uint32_t crc;          /* checksum of the stream */
	uint64_t stream;       /* bytes of the stream */
};

int qemu_read_section(const struct snapshot *s, struct qemu_section *ret) must_check;

/* Asks QEMU for its version. */
int qemu_ask_version(struct engine *e, struct qemu_section *ret) must_check;
/* Prepares QEMU for a migration: it tells of the end, and is not slowed down. */
int qemu_prepare_migration(struct engine *e) must_check;
#define QEMU_STREAM_PART (256U << 10) /* how many bytes of the stream are moved at once */
/*
 * Gives QEMU one end of a pipe, and the command (migrate or migrate-incoming) that moves the stream
 * through it. The other end, which does not block, is end 0 or 1 of the pipe. The caller closes
 * *ret also after a failure.
 */
int qemu_begin_stream(struct engine *e, const char *command, int end, int *ret) must_check;
