/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Uses devices that the host attaches to a spare slot of the running machine. Each time that the
 * guest writes "#" to the console, the host attaches a device or detaches it, and then presses a
 * key.
 */
#include "unit/drive/drive.h"

#define TURNS 20

/*
 * Writes the registers of a slot that has no device, as a driver does that does not know that the
 * slot is empty.
 */
static void use_empty(struct device *d)
{
	CHECK(d, get(d, VIRTIO_MMIO_DEVICE_ID) == 0);
	for (uint32_t at = VIRTIO_MMIO_DEVICE_FEATURES_SEL; at < VIRTIO_MMIO_CONFIG + 64; at += 4) {
		set(d, at, 1);
		set(d, at, ~0U);
		(void)get(d, at);
	}
	for (uint32_t status = 1; status < 32; status = status * 2 + 1)
		set(d, VIRTIO_MMIO_STATUS, status);
	for (unsigned q = 0; q < QUEUES; q++)
		kick(d, q);
	CHECK(d, get(d, VIRTIO_MMIO_QUEUE_NUM_MAX) == 0);
}

void plug_in(struct device *devices, unsigned count, struct device *spares, unsigned spare_count)
{
	struct device *console = find_device(devices, count, ID_CONSOLE);
	struct device *d = &spares[0];

	CHECK(console, spare_count > 0);
	CHECK(console, use_device(console));
	d->name = "spare";
	use_empty(d);
	while (ask_host(console) != 'e') {
		CHECK(console, identify(d));
		/* The new device is as after a reset, whatever was written to the empty slot. */
		CHECK(d, get(d, VIRTIO_MMIO_STATUS) == 0);
		progress(d, "use an attached device");
		CHECK(d, use_device(d));
		for (unsigned turn = 0; turn < TURNS; turn++)
			CHECK(d, d->use(d));
		/* The device has requests when the host takes it away. */
		begin_work(d);
		(void)ask_host(console);
		use_empty(d);
		for (unsigned i = 0; i < count; i++) {
			progress(&devices[i], "use beside an empty slot");
			CHECK(&devices[i], use_device(&devices[i]));
		}
		CHECK(console, use_device(console));
	}
}
