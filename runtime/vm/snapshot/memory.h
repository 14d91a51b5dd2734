/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory in a snapshot: a file with the bytes of RAM at the offsets of struct
 * vm_memory_region, and their checksums in a section of the snapshot (vm/snapshot/format.h). Pages
 * of zeros are holes in the file. If memory was added to the machine while it ran, the file goes on
 * with the hot region, up to the last block that the guest has.
 *
 * A machine uses the file in one of two ways: it maps the file privately (vm_memory_options.file),
 * or it copies the file into RAM of its own, which other processes can map. In both ways
 * snapshot_load_memory() reads the whole file, because only then it is certain that the file is
 * not damaged.
 */
#pragma once
#include "vm/memory.h"
#include "vm/snapshot/format.h"

/*
 * Number of bytes for which there is one checksum. The sizes of RAM and of the hot region are
 * multiples of this number.
 */
#define SNAPSHOT_CHUNK (UINT64_C(2) << 20)

/*
 * Writes RAM and the first `added` bytes of the hot region to the file `fd`, which must be empty,
 * and their checksums to the snapshot, as a section of their own. No vCPU and no device may write
 * this memory meanwhile.
 */
int snapshot_save_memory(
	struct snapshot_writer *w, const struct vm_memory *m, uint64_t added, int fd) must_check;

/*
 * Reads how many bytes of the hot region are in the file of guest memory, of a machine with `size`
 * bytes of RAM and a hot region of `hot` bytes.
 */
int snapshot_read_added(const struct snapshot *s, uint64_t size, uint64_t hot, uint64_t *ret)
	must_check;

/*
 * Copies the file `fd` into guest memory, unless guest memory is a private mapping of it, and
 * checks it. Returns -EBADMSG with a message if the file is not the one that was saved.
 */
int snapshot_load_memory(const struct snapshot *s, const struct vm_memory *m, int fd) must_check;
