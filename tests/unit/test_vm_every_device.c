/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests what must hold for every device behind the mmio transport, whatever the driver writes to
 * each register in each state and to each byte of the configuration in each width, and that every
 * device is the one of earlier commits. The test uses plain memory and no KVM; the file system's
 * server is a fake one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "unit/machine_abi.h"
#include "unit/rig/vhost_back.h"
#include "unit/rig/vhost_device.h"
#include "vm/virtio/balloon.h"
#include "vm/virtio/fs.h"
#include "vm/virtio/mem.h"
#include "vm/virtio/virtio_net.h"
#include "vm/virtio/vsock.h"

#define STATES 7

/* what the memory device can give: a part of the machine, which other devices do not see */
#define MEM_RANGE (4 * VIRTIO_MEM_BLOCK)

struct every {
	struct wired w;
	union {
		struct virtio_rng rng;
		struct virtio_console console;
		struct virtio_port port;
		struct {
			struct virtio_blk blk;
			struct blk_file file;
		};
		struct virtio_net net;
		struct virtio_vsock vsock;
		struct virtio_balloon balloon;
		struct virtio_mem mem;
		struct virtio_fs fs;
	};
	struct back back;
	int fds[2];
};

/*
 * A kind of device, and the shape of a request that the device answers at once: the request goes
 * into queue number `queue`, with `read` bytes for the device to read and `write` bytes to write.
 */
struct kind {
	const char *name;
	struct virtio_device *(*make)(struct every *e);
	void (*release)(struct every *e);
	unsigned queue;
	uint32_t read, write;
	/* the part of the configuration that the driver may write, and that a reset sets back */
	size_t own, own_len;
};

#define OK(call) \
	do { \
		if ((call) < 0) \
			fail_msg("%s: %s", #call, err_msg()); \
	} while (0)

static struct virtio_device *make_rng(struct every *e)
{
	virtio_rng_init(&e->rng, &e->w.g.memory);
	return &e->rng.dev;
}

static struct virtio_device *make_console(struct every *e)
{
	virtio_console_init(&e->console, &e->w.g.memory, -EBADF, -EBADF);
	return &e->console.dev;
}

static struct virtio_device *make_port(struct every *e)
{
	virtio_port_init(&e->port, &e->w.g.memory,
		&(struct virtio_port_options){.name = "every", .sock = -EBADF});
	return &e->port.console.dev;
}

static struct virtio_device *make_blk(struct every *e)
{
	e->fds[0] = memfd_create("disk", MFD_CLOEXEC);
	assert_int_equal(ftruncate(e->fds[0], 64 * 512), 0);
	OK(blk_file_init(&e->file, e->fds[0], false));
	OK(virtio_blk_init(&e->blk, &e->w.g.memory, &e->file.image,
		&(struct virtio_blk_options){.serial = "every"}));
	return &e->blk.dev;
}

static void release_blk(struct every *e)
{
	virtio_blk_release(&e->blk);
	blk_file_release(&e->file);
}

static struct virtio_device *make_net(struct every *e)
{
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, e->fds), 0);
	OK(virtio_net_init(&e->net, &e->w.g.memory,
		&(struct virtio_net_options){
			.taps = {e->fds[0]}, .mac = {2, 3, 4, 5, 6, 7}, .mtu = 1500}));
	return &e->net.dev;
}

static void release_net(struct every *e)
{
	virtio_net_release(&e->net);
}

static int refuse(void *ctx, uint32_t guest_port, uint32_t port, unsigned *ret_use)
{
	return -ECONNREFUSED;
}

static struct virtio_device *make_vsock(struct every *e)
{
	OK(virtio_vsock_init(&e->vsock, &e->w.g.memory,
		&(struct virtio_vsock_options){
			.cid = 0x12345678, .event_queue = true, .connect = refuse}));
	return &e->vsock.dev;
}

static void release_vsock(struct every *e)
{
	virtio_vsock_release(&e->vsock);
}

static struct virtio_device *make_balloon(struct every *e)
{
	virtio_balloon_init(&e->balloon, &e->w.g.memory);
	virtio_balloon_set_target(&e->balloon, 0x1234);
	return &e->balloon.dev;
}

static struct virtio_device *make_mem(struct every *e)
{
	OK(virtio_mem_init(&e->mem, &e->w.g.memory));
	return &e->mem.dev;
}

static void release_mem(struct every *e)
{
	virtio_mem_release(&e->mem);
}

static struct virtio_device *make_fs(struct every *e)
{
	e->back = (struct back){.features = BACK_V1 | BACK_PROTOCOL_BIT | BACK_RINGS,
		.protocol = BACK_MQ | BACK_ACK,
		.queues = 2};
	e->fds[0] = back_start(&e->back);
	OK(virtio_fs_init(&e->fs, &e->w.g.memory, "every", e->fds[0], false));
	return &e->fs.vhost.dev;
}

static void release_fs(struct every *e)
{
	vhost_user_release(&e->fs.vhost);
	back_end(&e->back, &e->fds[0]);
}

static const struct kind kinds[] = {
	{"rng", make_rng, NULL, 0, 0, 64, 0, 0},
	{"console", make_console, NULL, 1, 16, 0, 0, 0},
	{"blk", make_blk, release_blk, 0, 16, 513, offsetof(struct virtio_blk_config, wce), 1},
	{"net", make_net, release_net, 1, 72, 0, 0, 0},
	{"vsock", make_vsock, release_vsock, 1, 44, 0, 0, 0},
	{"balloon", make_balloon, NULL, 0, 4, 0, offsetof(struct virtio_balloon_config, actual), 4},
	{"fs", make_fs, release_fs, 0, 0, 0, 0, 0},
	{"mem", make_mem, release_mem, 0, 24, 10, 0, 0},
	{"port", make_port, NULL, 3, 8, 0, 0, 0},
};

static void begin(struct every *e, const struct kind *k)
{
	*e = (struct every){.fds = {-EBADF, -EBADF}};
	rig_memory_with(&e->w.g, MEM_RANGE);
	struct virtio_device *d = k->make(e);
	if (d->remote_queues > 0) {
		wired_attach(&e->w, (struct vhost_user *)d);
		return;
	}
	rig_attach(&e->w.g, d);
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		e->w.kicks[i] = -EBADF;
	e->w.call = -EBADF;
}

static void end(struct every *e, const struct kind *k)
{
	assert_int_equal(e->w.lost, 0);
	if (k->release)
		k->release(e);
	wired_release(&e->w);
	fd_close(&e->fds[0]);
	fd_close(&e->fds[1]);
}

static void check_works(struct rig *g, const struct kind *k)
{
	bring_up(g, g->dev->features);
	assert_int_equal(get(g, VIRTIO_MMIO_STATUS), 15);
	if (g->dev->remote_queues > 0)
		return; /* the fake file server handles no queue, so it answers no request */
	memset(at(g, DATA, 4096), 0, 4096);
	put_desc(desc(g, k->queue, 0), DATA, k->read, k->write ? NEXT : 0, 1);
	put_desc(desc(g, k->queue, 1), DATA + 4096, k->write, WRITE, 0);
	offer(g, k->queue, 0);
	kick(g, k->queue);
	if (is_broken(g) || used(g, k->queue)->idx != 1)
		fail_msg("%s does not work: %s", k->name, g->dev->broken);
}

static void to_state(struct rig *g, const struct kind *k, unsigned which)
{
	static const uint32_t early[] = {0, 1, 3};

	set(g, VIRTIO_MMIO_STATUS, 0);
	if (which < 3) {
		for (unsigned i = 0; i <= which; i++)
			set(g, VIRTIO_MMIO_STATUS, early[i]);
	} else if (which == 3) {
		assert_true(negotiate(g, V1 | g->dev->features));
	} else {
		bring_up(g, g->dev->features);
		if (which == 5)
			set(g, VIRTIO_MMIO_STATUS, 15 | VIRTIO_CONFIG_S_FAILED);
		if (which == 6 && g->dev->remote_queues == 0) {
			avail(g, k->queue)->idx = 1000;
			kick(g, k->queue);
			assert_true(is_broken(g));
		}
	}
}

/*
 * Checks that the device still works after writes of special values to every register, with every
 * width and alignment, in every state.
 */
static void every_register_in_every_state(void **state)
{
	static const uint64_t values[] = {0, 1, 2, 0xff, 0x8000, 0xffffffff, UINT64_MAX};
	uint64_t data;
	struct every e;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const struct kind *k = &kinds[i];
		struct rig *g = &e.w.g;

		begin(&e, k);
		/*
		 * The test leaves out most bytes of a vhost-user device, because each start of such
		 * a device takes a dozen messages.
		 */
		uint64_t step = g->dev->remote_queues > 0 ? 4 : 1;
		for (unsigned n = 0; n < STATES * 0x140 * 4; n++) {
			uint64_t offset = n / 4 % 0x140;
			unsigned width = 1U << n % 4, s = n / 4 / 0x140;

			if (offset % step == 0) {
				to_state(g, k, s);
				vm_bus_read(&g->bus, offset, &data, width);
				for (size_t v = 0; v < ARRAY_SIZE(values); v++)
					vm_bus_write(&g->bus, offset, &values[v], width);
				kick(g, k->queue);
			}
			if (n % (0x140 * 4) == 0)
				check_works(g, k);
		}
		for (uint64_t offset = 0x140; offset < 0x1010; offset++)
			vm_bus_write(&g->bus, offset, &values[6], 4);
		check_works(g, k);
		end(&e, k);
	}
}

/*
 * Writes ones with each width at each offset of the configuration, but not in the one way in which
 * a driver may change it. Checks that the configuration stays equal to `want`.
 */
static void sweep(struct rig *g, const struct kind *k, const uint8_t *want)
{
	uint8_t got[8], ones[8];

	memset(ones, 0xff, sizeof(ones));
	for (uint64_t offset = 0; offset < 0x100; offset++) {
		for (unsigned width = 1; width <= 8; width *= 2) {
			if (k->own_len != width || offset != k->own)
				vm_bus_write(&g->bus, VIRTIO_MMIO_CONFIG + offset, ones, width);
			memset(got, 0xcc, sizeof(got));
			vm_bus_read(&g->bus, VIRTIO_MMIO_CONFIG + offset, got, width);
			assert_memory_equal(got, want + offset, width);
		}
	}
	/* A read that goes beyond the end of the register page must give all ones. */
	for (unsigned width = 2; width <= 8; width *= 2) {
		vm_bus_write(&g->bus, VIRTIO_MMIO_LEN - 1, ones, width);
		vm_bus_read(&g->bus, VIRTIO_MMIO_LEN - 1, got, width);
		assert_memory_equal(got, ones, width);
	}
}

/*
 * Checks accesses of every width at every offset of the configuration, also across its end. A sweep
 * of this kind found CVE-2021-45464.
 */
static void every_byte_of_the_configuration(void **state)
{
	struct every e;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const struct kind *k = &kinds[i];
		struct rig *g = &e.w.g;
		uint8_t want[0x108] = {0};
		uint32_t own = 0, one = 1;

		begin(&e, k);
		set(g, VIRTIO_MMIO_STATUS, 0);
		assert_true(g->dev->config_len < 0x100);
		if (g->dev->config_len > 0)
			memcpy(want, g->dev->config, g->dev->config_len);
		for (unsigned s = 0; s < STATES; s++) {
			to_state(g, k, s);
			sweep(g, k, want);
		}
		check_works(g, k);
		if (k->own_len > 0) {
			memcpy(&own, want + k->own, k->own_len);
			one = own ? 0 : 1;
			vm_bus_write(
				&g->bus, VIRTIO_MMIO_CONFIG + k->own, &one, (unsigned)k->own_len);
			vm_bus_read(
				&g->bus, VIRTIO_MMIO_CONFIG + k->own, &own, (unsigned)k->own_len);
			assert_int_equal(own, one);
			set(g, VIRTIO_MMIO_STATUS, 0);
			sweep(g, k, want);
		}
		end(&e, k);
	}
}

/* --- the machine's ABI --- */

/*
 * Writes what the guest sees of a device: its type, the features that it offers, the sizes of its
 * queues, and its configuration.
 */
static void describe(struct rig *g, const struct kind *k, struct strbuf *ret)
{
	uint32_t features[2];

	for (unsigned i = 0; i < 2; i++) {
		set(g, VIRTIO_MMIO_DEVICE_FEATURES_SEL, i);
		features[i] = get(g, VIRTIO_MMIO_DEVICE_FEATURES);
	}
	OK(strbuf_addf(ret, "%s: type %u, features 0x%08x%08x, queues", k->name,
		get(g, VIRTIO_MMIO_DEVICE_ID), features[1], features[0]));
	for (unsigned q = 0; q < g->dev->queue_count; q++) {
		set(g, VIRTIO_MMIO_QUEUE_SEL, q);
		OK(strbuf_addf(ret, " %u", get(g, VIRTIO_MMIO_QUEUE_NUM_MAX)));
	}
	OK(strbuf_addf(ret, ", configuration "));
	for (size_t i = 0; i < g->dev->config_len; i++)
		OK(strbuf_addf(ret, "%02x", ((const uint8_t *)g->dev->config)[i]));
}

static void save(struct rig *g, struct snapshot_writer *w)
{
	OK(snapshot_begin(w));
	w->abi = ABI_OF_DEVICES;
	OK(snapshot_section(w, SNAPSHOT_DEVICE, 0));
	OK(virtio_mmio_save(&g->mmio, w));
	OK(snapshot_finish(w));
}

static void load(struct rig *g, const char *hex)
{
	uint8_t bytes[4096];
	size_t len = strlen(hex) / 2;
	struct snapshot s;
	struct snapshot_part p;

	assert_true(len <= sizeof(bytes));
	for (size_t i = 0; i < len; i++)
		assert_int_equal(sscanf(hex + 2 * i, "%2hhx", &bytes[i]), 1);
	OK(snapshot_open(&s, bytes, len));
	OK(snapshot_find(&s, SNAPSHOT_DEVICE, 0, &p));
	OK(virtio_mmio_load(&g->mmio, &p));
}

static void expect_snapshot(struct rig *g, const struct kind *k, const char *want)
{
	struct snapshot_writer w;
	_cleanup_strbuf_ struct strbuf hex = {0};

	save(g, &w);
	for (size_t i = 0; i < w.bytes.len; i++)
		OK(strbuf_addf(&hex, "%02x", (uint8_t)w.bytes.s[i]));
	snapshot_release(&w);
	if (strcmp(strbuf_str(&hex), want) != 0)
		fail_msg("a snapshot of the device %s has changed, so SNAPSHOT_FORMAT must change "
			 "too: it is\n%s, and was\n%s",
			k->name, strbuf_str(&hex), want);
}

/*
 * Compares each device with what the guest saw of it in version ABI_OF_DEVICES, and with the
 * snapshot that was made of it then. The device that is loaded from that snapshot must work. A
 * device that another process serves is compared without a snapshot.
 */
static void as_in_earlier_commits(void **state)
{
	struct every e;

	assert_in_range(ABI_OF_DEVICES, MACHINE_ABI_OLDEST, MACHINE_ABI);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const struct kind *k = &kinds[i];
		struct rig *g = &e.w.g;
		_cleanup_strbuf_ struct strbuf text = {0};

		begin(&e, k);
		describe(g, k, &text);
		if (strcmp(strbuf_str(&text), abi[i].seen) != 0)
			fail_msg("the guest sees another device, so MACHINE_ABI must change too: "
				 "it is\n%s, and was\n%s",
				strbuf_str(&text), abi[i].seen);
		if (g->dev->remote_queues == 0) {
			check_works(g, k);
			expect_snapshot(g, k, abi[i].snapshot);
		}
		end(&e, k);
		begin(&e, k);
		if (g->dev->remote_queues == 0) {
			load(g, abi[i].snapshot);
			expect_snapshot(g, k, abi[i].snapshot);
			check_works(g, k);
		}
		end(&e, k);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_register_in_every_state),
		cmocka_unit_test(every_byte_of_the_configuration),
		cmocka_unit_test(as_in_earlier_commits),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
