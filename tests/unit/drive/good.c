/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Uses each device for its purpose. The host's side (test_vm_drive.c) echoes what the network and
 * vsock devices send.
 */
#include <linux/fuse.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_vsock.h>

#include "unit/drive/drive.h"

int memcmp(const void *a, const void *b, size_t n);
void *memset(void *to, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);

#define SECTOR 512
#define ECHO_PORT 7
#define NET_HEADER 12

static uint8_t out[4096] __attribute__((aligned(4096)));
uint8_t work_in[4096] __attribute__((aligned(4096)));
#define in work_in

static void fill(uint8_t *to, size_t n)
{
	uint32_t seed = random32();

	for (size_t i = 0; i < n; i++)
		to[i] = (uint8_t)(seed + i * 7);
}

bool use_device(struct device *d)
{
	return bring_up(d) && d->use(d);
}

bool console_say(struct device *d, const char *text, size_t len)
{
	return request(d, 1, &(struct part){text, (uint32_t)len, false}, 1) == 0;
}

/* Checks the console: the guest writes "?", and the host must answer with "!". */
bool use_console(struct device *d)
{
	struct vring_used_elem e;

	offer(d, 0, put(d, 0, &(struct part){in, 1, true}, 1));
	kick(d, 0);
	in[0] = 0;
	return console_say(d, "?", 1) && await(d, 0, &e) && e.len == 1 && in[0] == '!';
}

bool use_rng(struct device *d)
{
	uint8_t any = 0;

	memset(in, 0, 64);
	if (request(d, 0, (struct part[]){{in, 24, true}, {in + 24, 40, true}}, 2) != 64)
		return false;
	for (unsigned i = 32; i < 64; i++)
		any |= in[i];
	return any;
}

static int blk(struct device *d, uint32_t type, uint64_t sector, struct part data)
{
	static struct virtio_blk_outhdr h;
	static uint8_t status;
	const struct part parts[] = {{&h, 16, false}, data, {&status, 1, true}};
	const struct part bare[] = {parts[0], parts[2]};

	h = (struct virtio_blk_outhdr){.type = type, .sector = sector};
	status = 0xff;
	int64_t n = data.len ? request(d, 0, parts, 3) : request(d, 0, bare, 2);
	return n < 0 ? -1 : status;
}

bool use_blk(struct device *d)
{
	uint64_t sector = random32() % 8;

	fill(out, SECTOR);
	memset(in, 0, SECTOR);
	return blk(d, VIRTIO_BLK_T_OUT, sector, (struct part){out, SECTOR, false}) == 0 &&
	       blk(d, VIRTIO_BLK_T_FLUSH, 0, (struct part){0}) == 0 &&
	       blk(d, VIRTIO_BLK_T_IN, sector, (struct part){in, SECTOR, true}) == 0 &&
	       memcmp(in, out, SECTOR) == 0 &&
	       blk(d, VIRTIO_BLK_T_GET_ID, 0, (struct part){in, 20, true}) == 0 &&
	       memcmp(in, "drive", 6) == 0;
}

bool use_net(struct device *d)
{
	const uint32_t len = NET_HEADER + 60;
	struct vring_used_elem e;

	memset(out, 0, NET_HEADER);
	fill(out + NET_HEADER, 60);
	/*
	 * The guest may first receive frames that the host has sent before the device was reset. If
	 * the host is busy, its socket holds some hundreds of such frames.
	 */
	for (unsigned i = 0; i < 2000; i++) {
		offer(d, 0, put(d, 0, &(struct part){in, 2048, true}, 1));
		kick(d, 0);
		if (i == 0 && request(d, 1, &(struct part){out, len, false}, 1) != 0)
			return false;
		if (!await(d, 0, &e))
			return false;
		if (e.len == len && memcmp(in + NET_HEADER, out + NET_HEADER, 60) == 0)
			return true;
	}
	return false;
}

static bool vsock_send(struct device *d, uint32_t port, uint16_t op, uint32_t flags, uint32_t len)
{
	struct virtio_vsock_hdr h = {
		.src_cid = *(volatile uint32_t *)(d->base + VIRTIO_MMIO_CONFIG),
		.dst_cid = 2,
		.src_port = port,
		.dst_port = ECHO_PORT,
		.len = len,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = op,
		.flags = flags,
		.buf_alloc = sizeof(in)};

	memcpy(out, &h, sizeof(h));
	return request(d, 1, &(struct part){out, (uint32_t)sizeof(h) + len, false}, 1) == 0;
}

/*
 * Receives packets, each into the same buffer, until a packet for this port has the operation `op`.
 */
static bool vsock_await(struct device *d, uint32_t port, uint16_t op)
{
	const struct virtio_vsock_hdr *h = (const struct virtio_vsock_hdr *)in;
	struct vring_used_elem e;

	do {
		offer(d, 0, put(d, 0, &(struct part){in, 512, true}, 1));
		kick(d, 0);
		if (!await(d, 0, &e) || e.len < sizeof(*h))
			return false;
	} while (h->op != op || h->dst_port != port);
	return true;
}

bool use_vsock(struct device *d)
{
	uint32_t port = 1024 + random32() % 60000;

	if (!vsock_send(d, port, VIRTIO_VSOCK_OP_REQUEST, 0, 0) ||
		!vsock_await(d, port, VIRTIO_VSOCK_OP_RESPONSE))
		return false;
	memcpy(out + sizeof(struct virtio_vsock_hdr), "hello", 5);
	return vsock_send(d, port, VIRTIO_VSOCK_OP_RW, 0, 5) &&
	       vsock_await(d, port, VIRTIO_VSOCK_OP_RW) &&
	       memcmp(in + sizeof(struct virtio_vsock_hdr), "hello", 5) == 0 &&
	       vsock_send(d, port, VIRTIO_VSOCK_OP_SHUTDOWN, 3, 0) &&
	       vsock_await(d, port, VIRTIO_VSOCK_OP_RST);
}

/*
 * Gives the balloon as many pages as the host asks for, and then asks the device to give the pages
 * back.
 */
bool use_balloon(struct device *d)
{
	volatile uint32_t *config = (volatile uint32_t *)(d->base + VIRTIO_MMIO_CONFIG);
	static uint32_t pages[64];
	uint32_t count = config[0];

	if (count == 0 || count > 64)
		return false;
	for (uint32_t i = 0; i < count; i++) {
		pages[i] = (uint32_t)(SPARE_AT / 4096 + i);
		*(volatile uint64_t *)(pages[i] * 4096UL) = ~0UL;
	}
	if (request(d, 0, &(struct part){pages, count * 4, false}, 1) != 0)
		return false;
	config[1] = count;
	for (uint32_t i = 0; i < count; i++)
		if (*(volatile uint64_t *)(pages[i] * 4096UL) != 0)
			return false;
	return config[1] == count &&
	       request(d, 1, &(struct part){pages, count * 4, false}, 1) == 0 &&
	       request(d, 2, &(struct part){(void *)SPARE_AT, 8192, true}, 1) == 0;
}

int32_t fuse(struct device *d, uint32_t opcode, uint64_t node, const void *args, uint32_t len)
{
	struct fuse_in_header h = {
		.len = (uint32_t)sizeof(h) + len, .opcode = opcode, .unique = 9, .nodeid = node};
	const struct fuse_out_header *answer = (const struct fuse_out_header *)in;

	memcpy(out, &h, sizeof(h));
	memcpy(out + sizeof(h), args, len);
	int64_t n = request(d, 1, (struct part[]){{out, h.len, false}, {in, sizeof(in), true}}, 2);
	return n >= (int64_t)sizeof(*answer) && answer->unique == 9 ? answer->error : -9999;
}

bool use_fs(struct device *d)
{
	struct fuse_init_in init = {.major = 7, .minor = 31};

	return fuse(d, FUSE_INIT, 1, &init, sizeof(init)) == 0 &&
	       fuse(d, FUSE_LOOKUP, 1, "here", 5) == 0 && fuse(d, FUSE_LOOKUP, 1, "gone", 5) == -2;
}

void begin_work(struct device *d)
{
	static const struct virtio_blk_outhdr read_it = {.type = VIRTIO_BLK_T_IN};
	const unsigned q = d->main_queue;
	struct part parts[3] = {{out, 64, false}};
	unsigned count = 1;

	if (d->id == ID_RNG) {
		parts[0] = (struct part){in, 4096, true};
	} else if (d->id == ID_BLK) {
		parts[0] = (struct part){&read_it, 16, false};
		parts[1] = (struct part){in, 2048, true};
		parts[2] = (struct part){in + 2048, 1, true};
		count = 3;
	} else if (d->id == ID_BALLOON) {
		for (unsigned i = 0; i < 16; i++)
			((uint32_t *)out)[i] = (uint32_t)(SPARE_AT / 4096 + i);
	} else if (d->id == ID_FS) {
		*(struct fuse_in_header *)out = (struct fuse_in_header){
			.len = 64, .opcode = FUSE_GETATTR, .unique = 1, .nodeid = 1};
		parts[1] = (struct part){in, 4096, true};
		count = 2;
	} else if (d->id == ID_CONSOLE) {
		memset(out, '.', 64);
	} else {
		/* A packet of the network or vsock device begins with a header, here of zeros. */
		memset(out, 0, 64);
		offer(d, 0, put(d, 0, &(struct part){in, 2048, true}, 1));
		kick(d, 0);
	}
	for (unsigned i = 0; i < 5; i++) {
		offer(d, q, put(d, q, parts, count));
		if (i % 2 == 0)
			kick(d, q);
	}
}
