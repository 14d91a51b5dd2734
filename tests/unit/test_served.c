/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the vhost-user back end for disk images, without its jail: a qcow2 image behind a virtio
 * block device with three queues, each served by a thread, and a front end that drives them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "disk/served.h"
#include "images/disk/qcow2.h"
#include "unit/rig/child.h"
#include "unit/rig/vhost_front.h"
#include "vm/vhost/back.h"

#define QUEUES 3
#define CLUSTER 4096U
#define PART_LEN (1U << 20) /* bytes of the disk that each queue uses alone */
#define DISK_LEN (QUEUES * PART_LEN)
/* bytes of guest memory that each queue uses; the constants below are offsets in this memory */
#define BASE_LEN 0x100000U
#define AVAIL_AT 0x1000U
#define USED_AT 0x2000U
#define HEADER_AT 0x3000U
#define STATUS_AT 0x3100U
#define DATA_AT 0x10000U
#define LEN_MAX 0x20000U

struct driver {
	struct front *f;
	unsigned queue;
	int kick, call;
	uint16_t avail;
	uint64_t base; /* offset in the guest's memory of the part that this queue uses */
	uint8_t *ram;
	unsigned seed;
	uint8_t model[PART_LEN];
};

struct back {
	struct front f;
	int sock, fd, result;
	int wake; /* eventfd: makes the device call resize_disk() */
	char why[ERR_MAX];
	struct disk *disk;
	struct served served;
	struct virtio_blk blk;
	pthread_t thread;
	struct driver drivers[QUEUES];
};

static void *serve(void *arg)
{
	struct back *b = arg;

	b->result = vhost_serve_threads(&b->blk.dev, b->sock, -EBADF);
	snprintf(b->why, sizeof(b->why), "%s", b->result < 0 ? err_msg() : "");
	close(b->sock);
	return NULL;
}

static void open_image(struct back *b, bool write)
{
	const struct disk_options o = {
		.format = "qcow2", .name = "image", .write = write, .alone = !write};

	CHECK(disk_open(&b->disk, fcntl(b->fd, F_DUPFD_CLOEXEC, 3), &o) >= 0);
}

/* Makes the disk larger by PART_LEN, as caisson-disk does when the monitor asks for that. */
static void resize_disk(void *ctx)
{
	struct back *b = ctx;
	eventfd_t n;

	CHECK(eventfd_read(b->wake, &n) == 0);
	CHECK(disk_resize(b->disk, disk_size(b->disk) + PART_LEN) >= 0);
	b->served.image.size = disk_size(b->disk);
	virtio_blk_resized(&b->blk);
}

static void start_queue(struct back *b, unsigned i)
{
	struct driver *d = &b->drivers[i];

	*d = (struct driver){.f = &b->f,
		.queue = i,
		.base = i * (uint64_t)BASE_LEN,
		.ram = b->f.ram + (size_t)i * BASE_LEN,
		.seed = i + 1};
	d->kick = eventfd(0, EFD_CLOEXEC);
	d->call = eventfd(0, EFD_CLOEXEC);
	CHECK(d->kick >= 0 && d->call >= 0);
	front_set_vring(&b->f, 8, i, QUEUE);
	front_set_vring(&b->f, 10, i, 0);
	front_set_addr(
		&b->f, i, USER + d->base, USER + d->base + AVAIL_AT, USER + d->base + USED_AT);
	front_set_fd(&b->f, 13, i, d->call);
	front_set_fd(&b->f, 12, i, d->kick);
	front_set_vring(&b->f, 18, i, 1);
}

static struct back *begin(bool write, bool write_through)
{
	const struct qcow2_create c = {
		.name = "image", .size = DISK_LEN, .version = 3, .cluster_size = CLUSTER};
	struct back *b = calloc(1, sizeof(*b));

	CHECK(b);
	b->wake = eventfd(0, EFD_CLOEXEC);
	const struct virtio_blk_options o = {.serial = "served",
		.queues = QUEUES,
		.write_through = write_through,
		.event_fd = b->wake,
		.event = resize_disk,
		.event_ctx = b};
	b->fd = memfd_create("image", MFD_CLOEXEC);
	CHECK(b->fd >= 0 && qcow2_create(b->fd, &c) >= 0);
	open_image(b, write);
	CHECK(served_init(&b->served, b->disk) >= 0);
	CHECK(virtio_blk_init(&b->blk, NULL, &b->served.image, &o) >= 0);
	b->sock = front_open(&b->f);
	CHECK(pthread_create(&b->thread, NULL, serve, b) == 0);
	front_set(&b->f, 2, UINT64_C(1) << 32 | 1U << 30 | (write_through ? 0 : 1U << 9));
	front_set_memory(&b->f, GUEST, MEMORY, USER, 0);
	for (unsigned i = 0; i < QUEUES; i++)
		start_queue(b, i);
	return b;
}

/*
 * Ends the connection to the back end. After that the image must be sound, and each queue's part of
 * the disk must have the content of its model.
 */
static void end(struct back *b, int result, const char *why)
{
	static uint8_t got[PART_LEN];
	struct disk_check check = {0};

	shutdown(b->f.sock, SHUT_WR);
	CHECK(pthread_join(b->thread, NULL) == 0);
	if (b->result != result || !strstr(b->why, why))
		fprintf(stderr, "# the back end ended with %d: %s\n", b->result, b->why);
	CHECK(b->result == result && strstr(b->why, why));
	CHECK(!b->blk.dev.memory && !b->blk.dev.signal && !b->blk.dev.status);
	virtio_blk_release(&b->blk);
	CHECK(disk_flush(b->disk) >= 0);
	disk_close(b->disk);
	open_image(b, false);
	CHECK(disk_run_check(b->disk, &check) >= 0 && check.errors == 0 && check.leaks == 0);
	for (unsigned i = 0; i < QUEUES; i++) {
		CHECK(disk_read(b->disk, got, PART_LEN, (uint64_t)i * PART_LEN) >= 0);
		CHECK(memcmp(got, b->drivers[i].model, PART_LEN) == 0);
		close(b->drivers[i].kick);
		close(b->drivers[i].call);
	}
	disk_close(b->disk);
	close(b->fd);
	close(b->wake);
	front_close(&b->f);
	free(b);
}

static void put_desc(struct driver *d, uint16_t i, uint64_t at, uint32_t len, uint16_t flags)
{
	((struct vring_desc *)d->ram)[i] =
		(struct vring_desc){GUEST + d->base + at, len, flags, (uint16_t)(i + 1)};
}

static void kick(struct driver *d)
{
	struct vring_avail *a = (void *)(d->ram + AVAIL_AT);
	uint64_t one = 1;

	a->ring[d->avail++ % QUEUE] = 0;
	__atomic_store_n(&a->idx, d->avail, __ATOMIC_SEQ_CST);
	CHECK(write(d->kick, &one, 8) == 8);
}

/*
 * Waits until the back end has answered the driver's request. Returns the number of bytes in the
 * answer, or -1 if the connection has ended.
 */
static int await(struct driver *d)
{
	struct vring_used *u = (void *)(d->ram + USED_AT);
	struct pollfd p[2] = {
		{.fd = d->call, .events = POLLIN}, {.fd = d->f->sock, .events = POLLRDHUP}};
	uint64_t n;

	while (__atomic_load_n(&u->idx, __ATOMIC_SEQ_CST) != d->avail) {
		CHECK(poll(p, 2, 20000) > 0);
		if (p[1].revents)
			return -1;
		CHECK(read(d->call, &n, 8) == 8);
	}
	return (int)u->ring[(uint16_t)(d->avail - 1) % QUEUE].len;
}

/*
 * Sends a request whose data, at DATA_AT, is cut into two descriptors. Returns the status byte in
 * the answer.
 */
static int request(struct driver *d, uint32_t type, uint64_t sector, uint32_t len)
{
	const struct virtio_blk_outhdr header = {.type = type, .sector = sector};
	bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
	uint16_t flags = VRING_DESC_F_NEXT | (in ? VRING_DESC_F_WRITE : 0), n = 0;
	uint32_t cut = len ? 1 + (uint32_t)rand_r(&d->seed) % len : 0;

	memcpy(d->ram + HEADER_AT, &header, sizeof(header));
	d->ram[STATUS_AT] = 0xee;
	put_desc(d, n++, HEADER_AT, sizeof(header), VRING_DESC_F_NEXT);
	if (cut)
		put_desc(d, n++, DATA_AT, cut, flags);
	if (len > cut)
		put_desc(d, n++, DATA_AT + cut, len - cut, flags);
	put_desc(d, n, STATUS_AT, 1, VRING_DESC_F_WRITE);
	kick(d);
	int written = await(d);
	if (type == VIRTIO_BLK_T_IN && d->ram[STATUS_AT] == VIRTIO_BLK_S_OK)
		CHECK(written == (int)len + 1);
	return d->ram[STATUS_AT];
}

/*
 * Sets a range of the model of the disk to zeros. For a discard it sets only the whole clusters in
 * the range.
 */
static void model_zero(struct driver *d, uint32_t type, uint32_t at, uint32_t len)
{
	uint32_t stop = at + len;

	if (type == VIRTIO_BLK_T_DISCARD) {
		at = (at + CLUSTER - 1) / CLUSTER * CLUSTER;
		stop = stop / CLUSTER * CLUSTER;
	}
	if (at < stop)
		memset(d->model + at, 0, stop - at);
}

static void random_request(struct driver *d)
{
	static const uint32_t types[] = {VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_OUT,
		VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_T_FLUSH};
	const uint32_t type = types[(unsigned)rand_r(&d->seed) % ARRAY_SIZE(types)];
	const uint64_t first = (uint64_t)d->queue * PART_LEN / 512;
	uint32_t at = (uint32_t)rand_r(&d->seed) % (PART_LEN / 512) * 512;
	uint32_t most = PART_LEN - at < LEN_MAX ? PART_LEN - at : LEN_MAX;
	uint32_t len = (1 + (uint32_t)rand_r(&d->seed) % (most / 512)) * 512;
	struct virtio_blk_discard_write_zeroes z = {first + at / 512, len / 512, 0};

	switch (type) {
	case VIRTIO_BLK_T_FLUSH:
		CHECK(request(d, type, 0, 0) == VIRTIO_BLK_S_OK);
		break;
	case VIRTIO_BLK_T_IN:
		memset(d->ram + DATA_AT, 0xdd, len);
		CHECK(request(d, type, first + at / 512, len) == VIRTIO_BLK_S_OK);
		CHECK(memcmp(d->ram + DATA_AT, d->model + at, len) == 0);
		break;
	case VIRTIO_BLK_T_OUT:
		for (uint32_t i = 0; i < len; i++)
			d->ram[DATA_AT + i] = (uint8_t)rand_r(&d->seed);
		memcpy(d->model + at, d->ram + DATA_AT, len);
		CHECK(request(d, type, first + at / 512, len) == VIRTIO_BLK_S_OK);
		break;
	default:
		if (type == VIRTIO_BLK_T_WRITE_ZEROES)
			z.flags = rand_r(&d->seed) & 1;
		memcpy(d->ram + DATA_AT, &z, sizeof(z));
		model_zero(d, type, at, len);
		CHECK(request(d, type, 0, sizeof(z)) == VIRTIO_BLK_S_OK);
	}
}

static void *drive(void *arg)
{
	for (int i = 0; i < 1500; i++)
		random_request(arg);
	return NULL;
}

/*
 * Drives all queues at the same time with random requests, and compares the results with a model of
 * the disk. Meanwhile the front end sends messages for which the back end must pause the queues.
 */
static void run_random_requests(void)
{
	struct back *b = begin(true, false);
	pthread_t threads[QUEUES];

	CHECK(front_ask(&b->f, 17, 0) == QUEUES);
	for (unsigned i = 0; i < QUEUES; i++)
		CHECK(pthread_create(&threads[i], NULL, drive, &b->drivers[i]) == 0);
	for (int i = 0; i < 100; i++) {
		front_set_memory(&b->f, GUEST, MEMORY, USER, 0);
		CHECK(front_ask(&b->f, 17, 0) == QUEUES);
		usleep(1000);
	}
	for (unsigned i = 0; i < QUEUES; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	for (unsigned i = 0; i < QUEUES; i++)
		CHECK(front_ask(&b->f, 11, i) == ((uint64_t)b->drivers[i].avail << 32 | i));
	end(b, 0, "");
}

static void run_bad_requests(void)
{
	const uint64_t sectors = DISK_LEN / 512;
	struct virtio_blk_discard_write_zeroes z[17] = {{0, 8, 0}, {sectors - 1, 2, 0}};
	struct back *b = begin(true, false);
	struct driver *d = &b->drivers[1];

	memset(d->ram + DATA_AT, 0xab, LEN_MAX);
	CHECK(request(d, VIRTIO_BLK_T_OUT, sectors - 1, 1024) == VIRTIO_BLK_S_IOERR);
	CHECK(request(d, VIRTIO_BLK_T_OUT, sectors, 512) == VIRTIO_BLK_S_IOERR);
	CHECK(request(d, VIRTIO_BLK_T_OUT, UINT64_MAX, 512) == VIRTIO_BLK_S_IOERR);
	CHECK(request(d, VIRTIO_BLK_T_OUT, UINT64_MAX / 512 + 1, 512) == VIRTIO_BLK_S_IOERR);
	CHECK(request(d, VIRTIO_BLK_T_IN, sectors, 512) == VIRTIO_BLK_S_IOERR);
	CHECK(request(d, VIRTIO_BLK_T_OUT, 0, 513) == VIRTIO_BLK_S_IOERR);
	CHECK(request(d, VIRTIO_BLK_T_IN, 0, 511) == VIRTIO_BLK_S_IOERR);
	CHECK(request(d, 77, 0, 512) == VIRTIO_BLK_S_UNSUPP);
	CHECK(request(d, VIRTIO_BLK_T_GET_ID, 0, 19) == VIRTIO_BLK_S_IOERR);
	CHECK(request(d, VIRTIO_BLK_T_GET_ID, 0, 20) == VIRTIO_BLK_S_OK);
	CHECK(strcmp((const char *)d->ram + DATA_AT, "served") == 0);
	/*
	 * If one segment of a write-zeroes request is bad, the back end must refuse the whole
	 * request, and the data that was written before must stay.
	 */
	memset(d->ram + DATA_AT, 0xab, CLUSTER);
	memset(b->drivers[0].model, 0xab, CLUSTER);
	CHECK(request(d, VIRTIO_BLK_T_OUT, 0, CLUSTER) == VIRTIO_BLK_S_OK);
	memcpy(d->ram + DATA_AT, z, sizeof(z));
	CHECK(request(d, VIRTIO_BLK_T_WRITE_ZEROES, 0, 32) == VIRTIO_BLK_S_IOERR);
	CHECK(request(d, VIRTIO_BLK_T_DISCARD, 0, 32) == VIRTIO_BLK_S_IOERR);
	CHECK(request(d, VIRTIO_BLK_T_DISCARD, 0, sizeof(z)) == VIRTIO_BLK_S_IOERR);
	CHECK(request(d, VIRTIO_BLK_T_DISCARD, 0, 15) == VIRTIO_BLK_S_IOERR);
	z[0].flags = 1;
	memcpy(d->ram + DATA_AT, z, sizeof(z));
	CHECK(request(d, VIRTIO_BLK_T_DISCARD, 0, 16) == VIRTIO_BLK_S_UNSUPP);
	end(b, 0, "");
}

/* Serves a read-only image with several queues and without a write cache. */
static void run_read_only(void)
{
	struct back *b = begin(false, true);
	uint64_t features = front_ask(&b->f, 1, 0);

	CHECK(features & 1U << VIRTIO_BLK_F_RO && features & 1U << VIRTIO_BLK_F_MQ);
	CHECK(!(features & (1U << VIRTIO_BLK_F_FLUSH | 1U << VIRTIO_BLK_F_CONFIG_WCE)));
	memset(b->drivers[1].ram + DATA_AT, 0xab, 512);
	CHECK(request(&b->drivers[1], VIRTIO_BLK_T_OUT, 0, 512) == VIRTIO_BLK_S_IOERR);
	CHECK(request(&b->drivers[1], VIRTIO_BLK_T_IN, 0, 512) == VIRTIO_BLK_S_OK);
	CHECK(b->drivers[1].ram[DATA_AT] == 0 && b->drivers[1].ram[DATA_AT + 511] == 0);
	end(b, 0, "");
}

/*
 * Has a driver break a rule in one queue. The back end must then end the connection, which ends the
 * other queues too.
 */
static void bad_chain(void (*make)(struct driver *d), const char *why)
{
	struct back *b = begin(true, false);
	struct driver *d = &b->drivers[2];

	memset(d->ram + DATA_AT, 0, LEN_MAX);
	CHECK(request(&b->drivers[0], VIRTIO_BLK_T_FLUSH, 0, 0) == VIRTIO_BLK_S_OK);
	make(d);
	kick(d);
	CHECK(await(d) == -1);
	end(b, -EPROTO, why);
}

static void make_endless(struct driver *d)
{
	put_desc(d, 0, HEADER_AT, 16, VRING_DESC_F_NEXT);
	put_desc(d, 1, DATA_AT, 512, VRING_DESC_F_NEXT);
	((struct vring_desc *)d->ram)[1].next = 0;
}

static void make_short(struct driver *d)
{
	put_desc(d, 0, HEADER_AT, 15, VRING_DESC_F_NEXT);
	put_desc(d, 1, STATUS_AT, 1, VRING_DESC_F_WRITE);
}

static void make_without_status(struct driver *d)
{
	put_desc(d, 0, HEADER_AT, 16, 0);
}

static void make_outside(struct driver *d)
{
	put_desc(d, 0, HEADER_AT, 16, VRING_DESC_F_NEXT);
	put_desc(d, 1, MEMORY, 512, VRING_DESC_F_WRITE);
}

static void run_bad_chains(void)
{
	bad_chain(make_endless, "queue 2");
	bad_chain(make_short, "bytes of header");
	bad_chain(make_without_status, "bytes of header");
	bad_chain(make_outside, "queue 2");
}

/*
 * When the disk becomes larger, the back end must tell the front end that the configuration has
 * changed, over the socket that it got for that, and must serve the new part of the disk. The
 * queues run meanwhile.
 */
static void run_resize(void)
{
	struct {
		uint32_t request, flags, size, offset, len, config_flags;
		uint64_t capacity;
	} m = {.request = 24, .flags = 1, .size = 12, .len = 8};
	struct back *b = begin(true, false);
	uint32_t header[3];
	pthread_t thread;
	int socks[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks) == 0);
	CHECK((front_ask(&b->f, 15, 0) & 0x220) == 0x220);
	front_set(&b->f, 16, 0x220);
	front_set_fd(&b->f, 21, 0, socks[1]);
	close(socks[1]);
	/* The reply to a further message says that the back end has the socket. */
	CHECK((front_ask(&b->f, 15, 0) & 0x220) == 0x220);
	CHECK(request(&b->drivers[0], VIRTIO_BLK_T_OUT, DISK_LEN / 512, 512) == VIRTIO_BLK_S_IOERR);
	CHECK(pthread_create(&thread, NULL, drive, &b->drivers[1]) == 0);
	CHECK(eventfd_write(b->wake, 1) == 0);
	CHECK(recv(socks[0], header, sizeof(header), MSG_WAITALL) == sizeof(header));
	CHECK(header[0] == 2 && header[1] == 1 && header[2] == 0);
	front_send_raw(&b->f, &m, 24, NULL, 0);
	CHECK(recv(b->f.sock, &m, sizeof(m), MSG_WAITALL) == 32);
	CHECK(m.capacity == (DISK_LEN + PART_LEN) / 512);
	memset(b->drivers[0].ram + DATA_AT, 0x5a, 512);
	CHECK(request(&b->drivers[0], VIRTIO_BLK_T_OUT, DISK_LEN / 512, 512) == VIRTIO_BLK_S_OK);
	CHECK(pthread_join(thread, NULL) == 0);
	close(socks[0]);
	end(b, 0, "");
	/* A front end must negotiate the feature, and send one descriptor. */
	b = begin(true, false);
	front_set_fd(&b->f, 21, 0, b->fd);
	end(b, -EPROTO, "request 21, which was not negotiated");
	b = begin(true, false);
	front_set(&b->f, 16, 0x220);
	front_set(&b->f, 21, 0);
	end(b, -EPROTO, "SET_BACKEND_REQ_FD with 0 descriptors");
}

CHILD_TEST(random_requests)
CHILD_TEST(bad_requests)
CHILD_TEST(read_only)
CHILD_TEST(bad_chains)
CHILD_TEST(resize)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_requests),
		cmocka_unit_test(test_bad_requests),
		cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_bad_chains),
		cmocka_unit_test(test_resize),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
