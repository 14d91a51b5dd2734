/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that is all bad: the input is a program of register writes, memory writes and kicks
 * against one of the four devices. Two invariants beside the sanitizers': serving ends
 * (libFuzzer's timeout), and after a reset the device comes up as new.
 *
 * Byte 0: device. Then operations, by the first byte modulo 6:
 *   0 register, value[4]      write a register (register * 4)
 *   1 where[2], len, bytes    write guest memory at where * 16
 *   2 queue                   kick
 *   3 features[1]             bring the device up with sane rings
 *   4 head, addr[2], len[2], flags, next   a descriptor of queue 0 or 1, and offer it
 *   5 len[2]                  a frame of that length arrives at the network device
 */
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "../unit/vm_rig.h"
#include "virtio_net.h"

struct input {
	const uint8_t *p;
	size_t left;
	int wire; /* the network device's other end */
};

static uint32_t take(struct input *in, unsigned bytes)
{
	uint32_t v = 0;

	for (unsigned i = 0; i<bytes; i++, in->p += in->left> 0, in->left -= in->left > 0)
		v |= (uint32_t)(in->left > 0 ? *in->p : 0) << (8 * i);
	return v;
}

static void put_memory(struct rig *g, struct input *in)
{
	uint64_t where = (uint64_t)take(in, 2) * 16;
	size_t len = take(in, 1);

	if (len > in->left)
		len = in->left;
	if (len > 0 && vm_memory_at(&g->memory, where, len))
		memcpy(at(g, where, len), in->p, len);
	in->p += len;
	in->left -= len;
}

static void put_chain(struct rig *g, struct input *in)
{
	unsigned head = take(in, 1);
	uint64_t addr = (uint64_t)take(in, 2) * 64; /* up to 4 MiB: the end of memory */
	uint32_t len = take(in, 2) * 4;
	unsigned flags = take(in, 1) & 7, next = take(in, 1);

	put_desc(desc(g, head >> 7, head % RIG_SIZE), addr, len, flags, next & 15);
	if (!(next & 0x80))
		offer(g, head >> 7, head % RIG_SIZE);
}

/* And one turn of the event loop; what the device has sent is thrown away. */
static void put_frame(struct rig *g, uint32_t len, int wire)
{
	static uint8_t frame[UINT16_MAX];

	(void)!send(wire, frame, len, 0);
	if (g->dev->ops->event)
		(void)g->dev->ops->event(g->dev);
	while (recv(wire, frame, 1, 0) >= 0)
		;
}

static void play(struct rig *g, struct input *in)
{
	while (in->left > 0) {
		switch (take(in, 1) % 6) {
		case 0: {
			uint64_t offset = (uint64_t)take(in, 1) * 4;
			set(g, offset, take(in, 4));
			(void)get(g, offset);
			break;
		}
		case 1:
			put_memory(g, in);
			break;
		case 2:
			(void)virtio_kick(g->dev, take(in, 1) % 3);
			break;
		case 3: {
			uint32_t f = take(in, 1);
			uint64_t merge = g->dev->features & 1ULL << VIRTIO_NET_F_MRG_RXBUF;
			bring_up(g,
				(f & 1 ? EVENT : 0) | (f & 2 ? INDIRECT : 0) | (f & 4 ? merge : 0));
			break;
		}
		case 5:
			put_frame(g, take(in, 2), in->wire);
			break;
		default:
			put_chain(g, in);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct virtio_rng rng;
	static struct virtio_console console;
	static struct virtio_blk blk;
	static struct virtio_net net;
	struct input in = {data, size, -EBADF};
	int pair[2];
	struct rig g;
	unsigned which = take(&in, 1) % 4;

	if (size == 0)
		return 0;
	rig_memory(&g);
	_cleanup_fd_ int disk = memfd_create("disk", MFD_CLOEXEC);
	if (ftruncate(disk, 64 * 512) < 0)
		abort();
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	_cleanup_fd_ int tap = pair[0], wire = pair[1];
	in.wire = wire;
	if (which == 0)
		virtio_rng_init(&rng, &g.memory);
	else if (which == 1)
		virtio_console_init(&console, &g.memory, -EBADF, -EBADF);
	else if (which == 3 && virtio_net_init(&net, &g.memory,
				       &(struct virtio_net_options){.tap = tap, .mtu = 1500}) < 0)
		abort();
	else if (which == 2 && virtio_blk_init(&blk, &g.memory, disk, false, "fuzz") < 0)
		abort();
	rig_attach(&g, which == 0   ? &rng.dev
		       : which == 1 ? &console.dev
		       : which == 2 ? &blk.dev
				    : &net.dev);
	play(&g, &in);
	if (lseek(disk, 0, SEEK_END) != 64 * 512)
		abort();
	bring_up(&g, 0);
	if (get(&g, VIRTIO_MMIO_STATUS) != 15 || get(&g, VIRTIO_MMIO_INTERRUPT_STATUS) != 0)
		abort();
	if (which == 3)
		virtio_net_release(&net);
	rig_release(&g);
	return 0;
}
