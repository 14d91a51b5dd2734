/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Uses the devices across a snapshot. The guest writes "#" to the console, and waits for a key.
 * The host makes the snapshot, and presses the key afterwards: "!" in the machine that goes on,
 * "r" in one that was restored.
 */
#include <linux/virtio_vsock.h>

#include "unit/drive/drive.h"

#define TURNS 40 /* more than a ring has entries, so that indices and entries differ */

static struct virtio_vsock_event event = {.id = ~0U};

static uint64_t read_tsc(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

static struct device *find(struct device *devices, unsigned count, uint32_t id)
{
	for (unsigned i = 0; i < count; i++)
		if (devices[i].id == id)
			return &devices[i];
	return &devices[0];
}

/* Asks the host for the snapshot, with a request for a key under way. Returns the key. */
static uint8_t ask(struct device *console)
{
	static uint8_t key;
	struct vring_used_elem e;

	offer(console, 0, put(console, 0, &(struct part){&key, 1, true}, 1));
	kick(console, 0);
	CHECK(console, console_say(console, "#", 1));
	CHECK(console, await(console, 0, &e) && e.len == 1);
	return key;
}

/* Checks that the device has told of the restore, by the buffer that it got before. */
static void expect_event(struct device *vsock)
{
	struct vring_used_elem e;

	CHECK(vsock, await(vsock, 2, &e));
	CHECK(vsock, e.len == sizeof(event));
	CHECK(vsock, event.id == VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
}

void survive(struct device *devices, unsigned count)
{
	struct device *console = find(devices, count, ID_CONSOLE);
	struct device *vsock = find(devices, count, ID_VSOCK);

	for (unsigned i = 0; i < count; i++) {
		struct device *d = &devices[i];

		progress(d, "use before the snapshot");
		CHECK(d, use_device(d));
		for (unsigned turn = 0; turn < (d->id == ID_RNG ? TURNS : 1); turn++)
			CHECK(d, d->use(d));
	}
	offer(vsock, 2, put(vsock, 2, &(struct part){&event, sizeof(event), true}, 1));
	kick(vsock, 2);
	progress(console, "wait for the snapshot");
	uint64_t before = read_tsc();
	uint8_t key = ask(console);
	CHECK(console, read_tsc() > before);
	progress(vsock, "expect the event");
	if (key == 'r')
		expect_event(vsock);
	else
		CHECK(vsock, event.id == ~0U);
	for (unsigned i = 0; i < count; i++) {
		struct device *d = &devices[i];

		progress(d, "use after the snapshot");
		for (unsigned turn = 0; turn < TURNS; turn++)
			CHECK(d, d->use(d));
	}
}
