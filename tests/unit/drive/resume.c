/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Uses the devices across a snapshot. The guest writes "#" to the console, and waits for a key.
 * The host makes the snapshot, and presses the key afterwards: "!" in the machine that goes on,
 * "r" in one that was restored.
 */
#include <linux/fuse.h>
#include <linux/virtio_vsock.h>

#include "unit/drive/drive.h"

/* more than the number of entries of a ring, so that the indices have wrapped around in the ring */
#define TURNS 40

/*
 * node and file handle of the share's directory "here", which the guest keeps open during the
 * snapshot
 */
static uint64_t node, handle;

static struct virtio_vsock_event event = {.id = ~0U};

static uint64_t read_tsc(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

struct device *find_device(struct device *devices, unsigned count, uint32_t id)
{
	for (unsigned i = 0; i < count; i++)
		if (devices[i].id == id)
			return &devices[i];
	return &devices[0];
}

uint8_t ask_host(struct device *console)
{
	static uint8_t key;
	struct vring_used_elem e;

	offer(console, 0, put(console, 0, &(struct part){&key, 1, true}, 1));
	kick(console, 0);
	CHECK(console, console_say(console, "#", 1));
	CHECK(console, await(console, 0, &e) && e.len == 1);
	return key;
}

/*
 * Checks that the vsock device has told the guest of the restore (TRANSPORT_RESET), in the event
 * buffer that the guest had offered before the snapshot.
 */
static void expect_event(struct device *vsock)
{
	struct vring_used_elem e;

	CHECK(vsock, await(vsock, 2, &e));
	CHECK(vsock, e.len == sizeof(event));
	CHECK(vsock, event.id == VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
}

static const void *fuse_reply(void)
{
	return work_in + sizeof(struct fuse_out_header);
}

static void open_directory(struct device *fs)
{
	const struct fuse_open_in in = {0};

	CHECK(fs, fuse(fs, FUSE_LOOKUP, 1, "here", 5) == 0);
	node = ((const struct fuse_entry_out *)fuse_reply())->nodeid;
	CHECK(fs, fuse(fs, FUSE_OPENDIR, node, &in, sizeof(in)) == 0);
	handle = ((const struct fuse_open_out *)fuse_reply())->fh;
}

/* Checks that the guest can use the node and the file handle from before the snapshot. */
static void read_directory(struct device *fs)
{
	const struct fuse_read_in in = {.fh = handle, .size = 1024};
	const struct fuse_getattr_in none = {0};

	CHECK(fs, fuse(fs, FUSE_GETATTR, node, &none, sizeof(none)) == 0);
	CHECK(fs, fuse(fs, FUSE_READDIR, node, &in, sizeof(in)) == 0);
	CHECK(fs, ((const struct fuse_out_header *)work_in)->len > 2 * sizeof(struct fuse_dirent));
}

void survive(struct device *devices, unsigned count)
{
	struct device *console = find_device(devices, count, ID_CONSOLE);
	struct device *vsock = find_device(devices, count, ID_VSOCK);
	struct device *fs = find_device(devices, count, ID_FS);

	for (unsigned i = 0; i < count; i++) {
		struct device *d = &devices[i];

		progress(d, "use before the snapshot");
		CHECK(d, use_device(d));
		for (unsigned turn = 0; turn < (d->id == ID_RNG ? TURNS : 1); turn++)
			CHECK(d, d->use(d));
	}
	offer(vsock, 2, put(vsock, 2, &(struct part){&event, sizeof(event), true}, 1));
	kick(vsock, 2);
	if (fs->id == ID_FS)
		open_directory(fs);
	progress(console, "wait for the snapshot");
	uint64_t before = read_tsc();
	uint8_t key = ask_host(console);
	CHECK(console, read_tsc() > before);
	progress(vsock, "expect the event");
	if (key == 'r')
		expect_event(vsock);
	else
		CHECK(vsock, event.id == ~0U);
	if (fs->id == ID_FS)
		read_directory(fs);
	for (unsigned i = 0; i < count; i++) {
		struct device *d = &devices[i];

		progress(d, "use after the snapshot");
		for (unsigned turn = 0; turn < TURNS; turn++)
			CHECK(d, d->use(d));
	}
}
