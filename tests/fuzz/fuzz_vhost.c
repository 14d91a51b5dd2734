/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the vhost-user server with a hostile front end and a hostile driver; the server serves the
 * entropy device or a disk. All messages are put into the socket, and guest memory is written,
 * before the server starts in the same thread. The server must end, and leave nothing in the
 * device.
 *
 * Byte 0 chooses the device: with bit 0 a disk, with bits 0 and 1 a disk with three queues, each of
 * which has a thread. Operations follow; the first byte modulo 7 says which:
 *   0 request, flags, size[2], descriptors, len, bytes   send this message unchanged
 *   1 count, {guest, pages, user, offset} * count        SET_MEM_TABLE, in pages
 *   2 queue, size, {desc, avail, used}[2], base[2]       set up a queue, from NUM to ENABLE
 *   3 features                                           SET_FEATURES, SET_PROTOCOL_FEATURES
 *   4 where[2], len, bytes                               write guest memory at where * 16
 *   5 queue                                              GET_VRING_BASE
 *   6 queue, on                                          SET_VRING_ENABLE
 */
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "fuzz/input.h"
#include "vm/vhost/back.h"
#include "vm/vhost/proto.h"
#include "vm/virtio/blk_file.h"
#include "vm/virtio/devices.h"

#define PAGE 4096ULL
#define PAGES 64
#define USER 0x7f0000000000ULL

struct front {
	int sock, memory, event;
	uint8_t *ram;
};

static void put(struct front *f, uint32_t request, const void *data, size_t len, int fd, size_t fds)
{
	struct vhost_user_header h = {request & 0xff, 1 | request >> 8, (uint32_t)len};
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(10 * sizeof(int))];
	} control = {0};
	struct iovec v[2] = {{&h, sizeof(h)}, {(void *)data, len < 512 ? len : 512}};
	struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};

	if (fds > 0) {
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(fds * sizeof(int));
		control.align =
			(struct cmsghdr){CMSG_LEN(fds * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
		for (size_t i = 0; i < fds; i++)
			memcpy(CMSG_DATA(&control.align) + i * sizeof(int), &fd, sizeof(fd));
	}
	(void)!sendmsg(f->sock, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void put_state(struct front *f, uint32_t request, uint32_t index, uint32_t num)
{
	struct vhost_user_vring_state s = {index, num};

	put(f, request, &s, sizeof(s), -1, 0);
}

static void put_raw(struct front *f, struct input *in)
{
	uint8_t bytes[512] = {0};
	uint32_t request = take(in, 1), flags = take(in, 1), size = take(in, 2), fds = take(in, 1);

	take_bytes(in, bytes, take(in, 1));
	put(f, request | flags << 8, bytes, size % 600, fds & 0x80 ? f->memory : f->event,
		fds % 11);
}

static void put_memory(struct front *f, struct input *in)
{
	struct vhost_user_memory m = {.count = take(in, 1) % 10};

	for (uint32_t i = 0; i < m.count && i < VHOST_USER_REGIONS_MAX; i++) {
		m.regions[i].guest = PAGE * take(in, 1);
		m.regions[i].size = PAGE * take(in, 1);
		m.regions[i].user = USER + PAGE * take(in, 1);
		m.regions[i].offset = PAGE * take(in, 1);
	}
	put(f, VHOST_USER_SET_MEM_TABLE, &m, sizeof(m), f->memory, m.count);
}

static void put_queue(struct front *f, struct input *in)
{
	uint64_t queue = take(in, 1) % 4;
	uint32_t size = 1U << take(in, 1) % 12;
	struct vhost_user_vring_addr a = {.index = (uint32_t)queue};

	a.desc = USER + take(in, 2) * 16ULL;
	a.avail = USER + take(in, 2) * 16ULL;
	a.used = USER + take(in, 2) * 16ULL;
	put_state(f, VHOST_USER_SET_VRING_NUM, (uint32_t)queue, size);
	put(f, VHOST_USER_SET_VRING_ADDR, &a, sizeof(a), -1, 0);
	put_state(f, VHOST_USER_SET_VRING_BASE, (uint32_t)queue, take(in, 2));
	put(f, VHOST_USER_SET_VRING_CALL, &queue, sizeof(queue), f->event, 1);
	put(f, VHOST_USER_SET_VRING_KICK, &queue, sizeof(queue), f->event, 1);
	put_state(f, VHOST_USER_SET_VRING_ENABLE, (uint32_t)queue, 1);
}

static void play(struct front *f, struct input *in)
{
	while (in->left > 0) {
		switch (take(in, 1) % 7) {
		case 0:
			put_raw(f, in);
			break;
		case 1:
			put_memory(f, in);
			break;
		case 2:
			put_queue(f, in);
			break;
		case 3: {
			uint64_t features = 1ULL << 32 | (uint64_t)(take(in, 1) & 7) << 28;
			uint64_t protocol = 1 << 3 | 1 << 13;
			put(f, VHOST_USER_SET_FEATURES, &features, 8, -1, 0);
			put(f, VHOST_USER_SET_PROTOCOL_FEATURES, &protocol, 8, -1, 0);
			break;
		}
		case 4: {
			size_t at = take(in, 2) * 16ULL % (PAGES * PAGE), len = take(in, 1);
			size_t room = PAGES * PAGE - at;
			take_bytes(in, f->ram + at, len < room ? len : room);
			break;
		}
		case 5:
			put_state(f, VHOST_USER_GET_VRING_BASE, take(in, 1), 0);
			break;
		default: {
			uint32_t queue = take(in, 1);
			put_state(f, VHOST_USER_SET_VRING_ENABLE, queue, take(in, 1) & 1);
		}
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct virtio_rng rng;
	static struct virtio_blk blk;
	static struct blk_file file;
	struct input in = {data, size};
	struct front f = {
		.memory = memfd_create("guest", MFD_CLOEXEC), .event = eventfd(1, EFD_CLOEXEC)};
	int disk = memfd_create("disk", MFD_CLOEXEC), pair[2];
	unsigned kind = take(&in, 1);
	bool is_disk = kind & 1, threads = (kind & 3) == 3;
	const struct virtio_blk_options o = {.serial = "fuzz", .queues = threads ? 3 : 1};

	if (ftruncate(f.memory, PAGES * PAGE) < 0 || ftruncate(disk, 64 * 512) < 0 ||
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	f.sock = pair[0];
	f.ram = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, f.memory, 0);
	if (f.ram == MAP_FAILED)
		abort();
	if (!is_disk)
		virtio_rng_init(&rng, NULL);
	else if (blk_file_init(&file, disk, false) < 0 ||
		 virtio_blk_init(&blk, NULL, &file.image, &o) < 0)
		abort();
	struct virtio_device *d = is_disk ? &blk.dev : &rng.dev;
	play(&f, &in);
	shutdown(f.sock, SHUT_WR);
	int r = threads ? vhost_serve_threads(d, pair[1], -EBADF) : vhost_serve(d, pair[1], -EBADF);
	if ((r != 0 && r != -EPROTO) || d->memory || d->signal || d->status)
		abort();
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		if (d->queues[i].ready)
			abort();
	if (lseek(disk, 0, SEEK_END) != 64 * 512)
		abort();
	virtio_release(d);
	if (is_disk)
		virtio_blk_release(&blk);
	munmap(f.ram, PAGES * PAGE);
	for (int i = 0; i < 5; i++)
		close((int[]){f.memory, f.event, disk, pair[0], pair[1]}[i]);
	return 0;
}
