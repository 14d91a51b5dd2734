/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the reader of snapshots, and the devices that load their state from one. Besides the
 * sanitizers, the fuzzer checks that a refusal has a message of one line, that serving a loaded
 * device ends (by libFuzzer's timeout), and that after a reset such a device starts as new.
 *
 * Byte 0 chooses the device, from enum kind. The rest is the file. Its checksums are corrected, as
 * an attacker would do, except if bit 7 of byte 0 is set.
 */
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/crc32c.h"
#include "engine/qemu_carry.h"
#include "engine/qemu_save.h"
#include "fuzz/input.h"
#include "unit/rig/virtio.h"
#include "vm/snapshot/memory.h"
#include "vm/virtio/balloon.h"
#include "vm/virtio/mem.h"
#include "vm/virtio/virtio_net.h"
#include "vm/virtio/vsock.h"

#define DISK_LEN (64 * 512)
#define HEADER 32
#define SECTION 16

#define HOT (UINT64_C(12) * VIRTIO_MEM_BLOCK) /* of a machine with a memory device */

enum kind { RNG, CONSOLE, DISK, NET, BALLOON, VSOCK, MEM, KINDS };

union any {
	struct virtio_rng rng;
	struct virtio_console console;
	struct {
		struct virtio_blk blk;
		struct blk_file file;
	};
	struct virtio_net net;
	struct virtio_balloon balloon;
	struct virtio_vsock vsock;
	struct virtio_mem mem;
};

static int refuse(void *ctx, uint32_t guest_port, uint32_t port, unsigned *ret_use)
{
	return -ECONNREFUSED;
}

static struct virtio_device *make(
	union any *a, enum kind kind, const struct vm_memory *m, int tap, int disk)
{
	const struct virtio_net_options net = {.taps = {tap}, .mtu = 1500, .mac = {2}};
	const struct virtio_vsock_options vsock = {
		.cid = 3, .event_queue = true, .connect = refuse};

	switch (kind) {
	case RNG:
		virtio_rng_init(&a->rng, m);
		return &a->rng.dev;
	case CONSOLE:
		virtio_console_init(&a->console, m, -EBADF, -EBADF);
		return &a->console.dev;
	case BALLOON:
		virtio_balloon_init(&a->balloon, m);
		return &a->balloon.dev;
	case MEM:
		return virtio_mem_init(&a->mem, m) < 0 ? NULL : &a->mem.dev;
	case NET:
		return virtio_net_init(&a->net, m, &net) < 0 ? NULL : &a->net.dev;
	case VSOCK:
		return virtio_vsock_init(&a->vsock, m, &vsock) < 0 ? NULL : &a->vsock.dev;
	default:
		if (blk_file_init(&a->file, disk, false) < 0 ||
			virtio_blk_init(&a->blk, m, &a->file.image,
				&(struct virtio_blk_options){.serial = "fuzz"}) < 0)
			return NULL;
		return &a->blk.dev;
	}
}

static void release(union any *a, enum kind kind)
{
	if (kind == NET)
		virtio_net_release(&a->net);
	if (kind == VSOCK)
		virtio_vsock_release(&a->vsock);
	if (kind == MEM)
		virtio_mem_release(&a->mem);
	if (kind == DISK) {
		virtio_blk_release(&a->blk);
		blk_file_release(&a->file);
	}
}

static uint32_t load32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static void store32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, sizeof(v));
}

/*
 * Corrects the length and the checksums in the snapshot's file, so that the reader does not stop at
 * them.
 */
static void reseal(uint8_t *file, size_t len)
{
	const uint64_t length = len;

	if (len < HEADER)
		return;
	memcpy(file + 16, &length, sizeof(length));
	store32(file + 28, crc32c(0, file, 28));
	for (size_t at = HEADER; len - at >= SECTION;) {
		size_t data = ((size_t)load32(file + at + 8) + 7) & ~(size_t)7;

		if (data > len - at - SECTION)
			return;
		uint32_t crc = crc32c(0, file + at, 12);
		store32(file + at + 12, crc32c(crc, file + at + SECTION, data));
		at += SECTION + data;
	}
}

static void refused(int r)
{
	if (r < 0 && (!*err_msg() || strchr(err_msg(), '\n')))
		abort();
}

/* Checks that the memory device is in a state in which a driver could have left it. */
static void check_mem(const struct rig *g, struct virtio_mem *v)
{
	uint64_t requested, plugged;

	virtio_mem_read(v, &requested, &plugged);
	if (requested > HOT || requested % VIRTIO_MEM_BLOCK || plugged > virtio_mem_end(v) ||
		plugged % VIRTIO_MEM_BLOCK || virtio_mem_end(v) > vm_memory_hot(&g->memory)->size)
		abort();
}

/*
 * Loads the state of the device from the snapshot, and serves the requests that the state says are
 * under way.
 */
static void load(struct rig *g, const struct snapshot *s)
{
	struct snapshot_part p;
	int r = snapshot_find(s, SNAPSHOT_DEVICE, 0, &p);

	if (r >= 0)
		r = virtio_mmio_load(&g->mmio, &p);
	refused(r);
	if (r < 0)
		return;
	virtio_mmio_nudge(&g->mmio);
	for (unsigned turn = 0; turn < 3; turn++) {
		for (unsigned q = 0; q < g->dev->queue_count; q++)
			(void)virtio_kick(g->dev, q);
		if (g->dev->ops->event)
			(void)g->dev->ops->event(g->dev);
	}
	struct snapshot_writer w;
	if (snapshot_begin(&w) < 0 || snapshot_section(&w, SNAPSHOT_DEVICE, 0) < 0 ||
		virtio_mmio_save(&g->mmio, &w) < 0 || snapshot_finish(&w) < 0)
		abort();
	snapshot_release(&w);
}

/* Reads what a snapshot has of a machine of QEMU. */
static void load_qemu(const struct snapshot *s)
{
	struct qemu_carried vsock = {.id = QEMU_VSOCK_ID}, share = {.id = QEMU_SHARE_ID};
	struct qemu_carried *const devices[] = {&vsock, &share};
	struct qemu_section section;

	refused(qemu_read_section(s, &section));
	for (uint32_t i = 0; i < ARRAY_SIZE(devices); i++) {
		struct snapshot_part p;

		int r = snapshot_find(s, SNAPSHOT_DEVICE, i, &p);
		if (r >= 0)
			r = qemu_carry_load(devices[i], &p);
		refused(r);
		if (r >= 0 && (devices[i]->queue_count > VIRTIO_QUEUES_MAX ||
				      devices[i]->state.len > s->len || p.left))
			abort();
		strbuf_release(&devices[i]->state);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static union any any;
	struct snapshot s;
	struct rig g;
	uint64_t added = 0;
	int pair[2];

	if (size == 0)
		return 0;
	const enum kind kind = (data[0] & 0x7f) % KINDS;
	uint8_t *file = malloc(size);
	if (!file)
		abort();
	memcpy(file, data + 1, size - 1);
	if (!(data[0] & 0x80))
		reseal(file, size - 1);
	int r = snapshot_open(&s, file, size - 1);
	refused(r);
	rig_memory_with(&g, kind == MEM ? HOT : 0);
	memset(at(&g, 0, 0x20000), 1, 0x10000);
	_cleanup_fd_ int disk = memfd_create("disk", MFD_CLOEXEC);
	if (ftruncate(disk, DISK_LEN) < 0 ||
		socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	_cleanup_fd_ int tap = pair[0], wire = pair[1];
	struct virtio_device *d = make(&any, kind, &g.memory, tap, disk);
	if (!d)
		abort();
	rig_attach(&g, d);
	if (r >= 0 && snapshot_is_of_qemu(&s))
		load_qemu(&s);
	if (r >= 0)
		load(&g, &s);
	if (r >= 0)
		refused(snapshot_read_added(&s, RIG_RAM, HOT, &added));
	if (added > HOT || added % SNAPSHOT_CHUNK)
		abort();
	if (kind == MEM)
		check_mem(&g, &any.mem);
	bring_up(&g, 0);
	if (get(&g, VIRTIO_MMIO_STATUS) != 15 || get(&g, VIRTIO_MMIO_INTERRUPT_STATUS) != 0)
		abort();
	release(&any, kind);
	rig_release(&g);
	free(file);
	return 0;
}
