/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the virtio devices with a hostile guest: the input is a program of register writes, memory
 * writes and kicks for one device. Besides the sanitizers, the fuzzer checks that serving ends (by
 * libFuzzer's timeout), and that after a reset the device starts as new.
 *
 * Byte 0 chooses the device, from enum kind. Operations follow; the first byte modulo 6 says which:
 *   0 register, value[4]      write a register (register * 4)
 *   1 where[2], len, bytes    write guest memory at where * 16
 *   2 queue                   kick
 *   3 features[1]             bring the device up with valid rings
 *   4 head, addr[2], len[2], flags, next   write a descriptor of queue 0 or 1, and offer it
 *   5 len[2]                  a frame of that length arrives at the network device
 */
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "unit/rig/virtio.h"
#include "vm/virtio/balloon.h"
#include "vm/virtio/mem.h"
#include "vm/virtio/virtio_net.h"

#define DISK_LEN (64 * 512)
#define USO 0x60 /* the flags TUN_F_USO4 and TUN_F_USO6, which exist since Linux 6.2 */
#define OFFLOADS (TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN | USO)

/* blocks of the memory device, and how much the guest is asked to take */
#define MEM_BLOCKS 64
#define MEM_REQUESTED (40 * VIRTIO_MEM_BLOCK)

enum kind {
	RNG,
	CONSOLE,
	DISK,
	NET,
	BALLOON,
	DIRECT_DISK,
	NET_OFFLOADS,
	NET_PAIRS,
	MEM,
	PORT,
	KINDS
};

struct input {
	const uint8_t *p;
	size_t left;
	/* the fuzzer's end of the socket that takes the place of the network device's tap */
	int wire;
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
	/* The address is at most 4 MiB, because guest memory ends there. */
	uint64_t addr = (uint64_t)take(in, 2) * 64;
	uint32_t len = take(in, 2) * 4;
	unsigned flags = take(in, 1) & 7, next = take(in, 1);

	/* A network device with two pairs has five queues, and a port has six. */
	const unsigned queues = g->dev->queue_count;
	unsigned queue = queues > 3 ? (head >> 5) % queues : head >> 7;
	put_desc(desc(g, queue, head % RIG_SIZE), addr, len, flags, next & 15);
	if (!(next & 0x80))
		offer(g, queue, head % RIG_SIZE);
}

/*
 * Sends the network device a frame, runs the event loop once, and drops the frames that the device
 * has sent.
 */
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
			(void)virtio_kick(g->dev,
				take(in, 1) % (g->dev->queue_count > 3 ? g->dev->queue_count : 3));
			break;
		case 3: {
			uint32_t f = take(in, 1);
			uint64_t merge = 1ULL << VIRTIO_NET_F_MRG_RXBUF;
			uint64_t own = (f & 8 ? g->dev->features : 0) & ~merge;
			bring_up(g, (f & 1 ? EVENT : 0) | (f & 2 ? INDIRECT : 0) | own |
					    (f & 4 ? merge & g->dev->features : 0));
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

/*
 * A socket takes the place of the tap. A socket accepts frames like a tap but knows no offloads, so
 * the fuzzer replaces ioctl(2), and the ioctl for offloads does nothing.
 */
int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list ap;

	va_start(ap, request);
	void *arg = va_arg(ap, void *);
	va_end(ap);
	return request == TUNSETOFFLOAD ? 0 : __real_ioctl(fd, request, arg);
}

static int open_disk(bool direct)
{
	int fd = direct ? open("/var/tmp", O_RDWR | O_TMPFILE | O_DIRECT | O_CLOEXEC, 0600)
			: memfd_create("disk", MFD_CLOEXEC);

	/*
	 * The disk that should use direct I/O is a memfd, like the other disk, if the file system
	 * of its file has no direct I/O.
	 */
	if (fd < 0)
		fd = memfd_create("disk", MFD_CLOEXEC);
	if (ftruncate(fd, DISK_LEN) < 0)
		abort();
	return fd;
}

union any {
	struct virtio_rng rng;
	struct virtio_console console;
	struct virtio_port port;
	struct {
		struct virtio_blk blk;
		struct blk_file file;
	};
	struct virtio_net net;
	struct virtio_balloon balloon;
	struct virtio_mem mem;
};

static struct virtio_device *make(
	union any *a, enum kind kind, const struct vm_memory *m, const int taps[2], int disk)
{
	const struct virtio_net_options o = {.pairs = kind == NET_PAIRS ? 2 : 1,
		.taps = {taps[0], taps[1]},
		.mtu = 1500,
		.offloads = kind == NET_OFFLOADS ? OFFLOADS : 0};

	switch (kind) {
	case RNG:
		virtio_rng_init(&a->rng, m);
		return &a->rng.dev;
	case CONSOLE:
		virtio_console_init(&a->console, m, -EBADF, -EBADF);
		return &a->console.dev;
	case PORT:
		virtio_port_init(&a->port, m,
			&(struct virtio_port_options){.name = "fuzz", .sock = taps[0]});
		return &a->port.console.dev;
	case BALLOON:
		virtio_balloon_init(&a->balloon, m);
		return &a->balloon.dev;
	case MEM:
		if (virtio_mem_init(&a->mem, m) < 0)
			return NULL;
		virtio_mem_request(&a->mem, MEM_REQUESTED);
		return &a->mem.dev;
	case NET:
	case NET_OFFLOADS:
	case NET_PAIRS:
		return virtio_net_init(&a->net, m, &o) < 0 ? NULL : &a->net.dev;
	default:
		if (blk_file_init(&a->file, disk, false) < 0 ||
			virtio_blk_init(&a->blk, m, &a->file.image,
				&(struct virtio_blk_options){.serial = "fuzz"}) < 0)
			return NULL;
		return &a->blk.dev;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static union any any;
	struct input in = {data, size, -EBADF};
	int pair[2], second[2];
	struct rig g;
	enum kind kind = take(&in, 1) % KINDS;

	if (size == 0)
		return 0;
	rig_memory_with(&g, kind == MEM ? MEM_BLOCKS * VIRTIO_MEM_BLOCK : 0);
	_cleanup_fd_ int disk = open_disk(kind == DIRECT_DISK);
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0 ||
		socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, second) < 0)
		abort();
	_cleanup_fd_ int tap = pair[0], wire = pair[1], tap2 = second[0], wire2 = second[1];
	in.wire = wire;
	struct virtio_device *d = make(&any, kind, &g.memory, (int[]){tap, tap2}, disk);
	if (!d)
		abort();
	rig_attach(&g, d);
	play(&g, &in);
	if (lseek(disk, 0, SEEK_END) != DISK_LEN)
		abort();
	bring_up(&g, 0);
	if (get(&g, VIRTIO_MMIO_STATUS) != 15 || get(&g, VIRTIO_MMIO_INTERRUPT_STATUS) != 0)
		abort();
	if (kind == MEM) {
		uint64_t requested, plugged;

		virtio_mem_read(&any.mem, &requested, &plugged);
		if (requested != MEM_REQUESTED || plugged > requested || plugged % VIRTIO_MEM_BLOCK)
			abort();
		virtio_mem_release(&any.mem);
	}
	if (kind == NET || kind == NET_OFFLOADS || kind == NET_PAIRS)
		virtio_net_release(&any.net);
	if (kind == DISK || kind == DIRECT_DISK) {
		virtio_blk_release(&any.blk);
		blk_file_release(&any.file);
	}
	rig_release(&g);
	return 0;
}
