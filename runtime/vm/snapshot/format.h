/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The format of a machine's snapshot: a file with the state of everything but guest memory. Guest
 * memory is a file of its own (vm/snapshot/memory.h), so that it can be mapped.
 *
 *	header    magic, SNAPSHOT_FORMAT, version of the machine, length of the file, number of
 *	          sections, CRC
 *	section   kind, index, length, CRC; its bytes, padded with zeros to a multiple of 8
 *	...       in rising order of kind and index, so that no section comes twice
 *
 * Numbers are little-endian. The structures of KVM are stored as the kernel's interface defines
 * them. Each byte of the file is in one of the checksums (base/crc32c.h).
 *
 * To write a file:	snapshot_begin(&w); then for each section snapshot_section(&w, kind, index)
 *			and snapshot_put() for its parts; snapshot_finish(&w); w.bytes is the file
 * To read a file:	snapshot_open(&s, bytes, len); snapshot_find(&s, kind, index, &part);
 *			snapshot_get(&part, ..) for its parts in the same order; snapshot_end(&part)
 *
 * The reader treats the file as hostile: snapshot_open() checks all lengths and checksums before
 * it returns, and snapshot_get() checks that the section has the bytes that it is asked for. The
 * caller of snapshot_get() checks what the bytes mean.
 *
 * A change of what a section contains needs a new SNAPSHOT_FORMAT. A file has the lowest format
 * that can say all of it, so that an earlier caisson can read it if it knows that format:
 *
 *	1	the first
 *	2	the guest has memory that was added while it ran: the memory device's section
 *		says which blocks, and the file of guest memory is longer
 *		(SNAPSHOT_FORMAT_ADDED)
 *	3	QEMU runs the machine: a section says which QEMU, and QEMU's migration stream is
 *		in the place of guest memory (SNAPSHOT_FORMAT_QEMU, engine/qemu_save.h)
 *
 * A change of what the guest sees
 * of the machine (devices, their order, addresses, interrupts, CPUID) needs a new MACHINE_ABI, the
 * version of the machine. A machine that starts from a snapshot of an earlier version keeps that
 * version, also if it is saved again:
 *
 *	2	the oldest that can be restored, MACHINE_ABI_OLDEST
 *	3	has a generation id (vm/genid.h) and VMClock (vm/vmclock.h): ACPI devices VGEN
 *		and VCLK, interrupt VM_GSI_GENID
 */
#pragma once
#include <stdint.h>

#include "base/str.h"

#define SNAPSHOT_FORMAT 3
#define SNAPSHOT_FORMAT_OLDEST 1
#define SNAPSHOT_FORMAT_ADDED 2 /* the first format with memory that was added */
#define SNAPSHOT_FORMAT_QEMU 3  /* the first format with machines of QEMU */
#define MACHINE_ABI 3
#define MACHINE_ABI_OLDEST 2
#define MACHINE_ABI_GENID 3 /* the first version with a generation id */
/*
 * The longest file in bytes. There is room for 254 vCPUs with 64 KiB each, and for the checksums of
 * 1 TiB of memory.
 */
#define SNAPSHOT_MAX (32U << 20)

enum snapshot_kind {
	/*
	 * size of memory, number of vCPUs and of devices: a machine that loads the snapshot must
	 * have the same
	 */
	SNAPSHOT_SHAPE = 1,
	SNAPSHOT_VM,     /* interrupt controllers and clock */
	SNAPSHOT_VCPU,   /* index: the vCPU's number */
	SNAPSHOT_DEVICE, /* index: the device's number in machine.slots */
	/* the checksums of guest memory, which is saved last, because devices write to it */
	SNAPSHOT_MEMORY,
	/* the bytes with which the program that has made the machine describes it to itself */
	SNAPSHOT_OWNER,
	/* a machine of QEMU, and the checksum of QEMU's migration stream (engine/qemu_save.h) */
	SNAPSHOT_QEMU,
	SNAPSHOT_KINDS
};

struct snapshot_writer {
	struct strbuf bytes;
	/* offset of the header of the section that is being written; 0: there is none */
	size_t section;
	/* the machine's version; snapshot_begin() sets MACHINE_ABI */
	uint32_t abi;
	/* the file's format; snapshot_begin() sets SNAPSHOT_FORMAT_OLDEST */
	uint32_t format;
};

int snapshot_begin(struct snapshot_writer *w) must_check;
int snapshot_section(struct snapshot_writer *w, enum snapshot_kind kind, uint32_t index) must_check;
int snapshot_put(struct snapshot_writer *w, const void *data, size_t len) must_check;
int snapshot_finish(struct snapshot_writer *w) must_check;
void snapshot_release(struct snapshot_writer *w);

struct snapshot {
	/* bytes of the file, which the caller owns and keeps while the snapshot is used */
	const uint8_t *bytes;
	size_t len;
	uint32_t abi; /* the machine's version, MACHINE_ABI_OLDEST to MACHINE_ABI */
};

/* The bytes of a section that snapshot_get() has not taken yet. */
struct snapshot_part {
	const uint8_t *at;
	size_t left;
	const char *name; /* the section's name, which error messages use */
};

/*
 * Checks header, sections and checksums. Returns -ENOTSUP if another version of caisson wrote the
 * file, -EBADMSG if the file is damaged or is no snapshot, each with a message.
 */
int snapshot_open(struct snapshot *ret, const void *bytes, size_t len) must_check;
/*
 * Says whether the file says of itself that it is a snapshot of a machine of QEMU, before anything
 * of it is checked. `fd` is a regular file.
 */
bool snapshot_claims_qemu(int fd);
/* Says whether the snapshot is of a machine of QEMU. */
bool snapshot_is_of_qemu(const struct snapshot *s);
/* Finds a section. Returns -EBADMSG with a message if there is none. */
int snapshot_find(const struct snapshot *s, enum snapshot_kind kind, uint32_t index,
	struct snapshot_part *ret) must_check;
/* Takes the next `len` bytes of the section. Returns -EBADMSG with a message if it has fewer. */
int snapshot_get(struct snapshot_part *p, void *ret_data, size_t len) must_check;
/* Returns -EBADMSG with a message if the section has bytes that no one has taken. */
int snapshot_end(const struct snapshot_part *p) must_check;
