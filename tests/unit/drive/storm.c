/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resets devices while requests are under way: vCPUs write a device's registers while the host's
 * event loop (or another process) serves the device's queues. A reset must not come in the middle
 * of a request, and after the reset the device must not change the guest's memory (CVE-2026-45782).
 */
#include "unit/drive/drive.h"

void *memset(void *to, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);

#define ROUNDS 24
#define AP_AT 0x8000
#define APIC 0xfee00000UL
#define PATTERN 0xa5

extern const uint8_t ap_start[], ap_end[];

static struct device *target; /* device whose registers the second vCPU writes */
static unsigned quiet;        /* set by the second vCPU while it writes to no device */

static void spin(unsigned turns)
{
	for (; turns > 0; turns--)
		pause();
}

static bool all(const void *at, size_t len)
{
	const uint64_t *p = at, want = PATTERN * 0x0101010101010101UL;
	bool same = true;

	for (size_t i = 0; i < len / sizeof(*p); i += 3)
		same &= __atomic_load_n(&p[i], __ATOMIC_RELAXED) == want;
	return same;
}

void reset_storm(struct device *d)
{
	progress(d, "resets under way");
	for (unsigned i = 0; i < ROUNDS; i++) {
		CHECK(d, bring_up(d));
		begin_work(d);
		spin(random32() % 64 * (i % 8));
		set(d, VIRTIO_MMIO_STATUS, 0);
		CHECK(d, get(d, VIRTIO_MMIO_STATUS) == 0);
		memset(d->ring, PATTERN, d->queues * sizeof(d->ring[0]));
		memset(work_in, PATTERN, 256);
		for (unsigned q = 0; q < d->queues; q++)
			kick(d, q);
		spin(100);
		CHECK(d, all(d->ring, d->queues * sizeof(d->ring[0])));
		CHECK(d, all(work_in, 256));
	}
}

/*
 * Writes a random register or ring entry of the device. The addresses that it writes there always
 * lie outside of memory, so that the device never writes into this program.
 */
static void disturb(struct device *d, uint32_t r)
{
	static const uint16_t registers[] = {VIRTIO_MMIO_QUEUE_DESC_LOW,
		VIRTIO_MMIO_QUEUE_AVAIL_HIGH, VIRTIO_MMIO_QUEUE_USED_LOW,
		VIRTIO_MMIO_QUEUE_USED_HIGH};
	struct ring *ring = &d->ring[r / 8 % d->queues];
	/*
	 * The test does not write to the rings of a device that another process serves, because
	 * that process ends the connection for good if a guest breaks its rings.
	 */
	unsigned what = d->id == ID_FS ? r % 3 : r % 8;

	if (what == 0)
		set(d, VIRTIO_MMIO_STATUS, 0);
	else if (what == 1)
		kick(d, r / 8 % 4);
	else if (what == 2)
		set(d, VIRTIO_MMIO_STATUS, r / 8 & 15);
	else if (what == 3)
		set(d, VIRTIO_MMIO_QUEUE_READY, r / 8 & 1);
	else if (what == 4)
		set(d, registers[r / 8 % 4], 0xd0000000);
	else if (what == 5)
		ring->desc[r / 32 % RING].len = r;
	else if (what == 6)
		ring->desc[r / 32 % RING].addr = edges[0] - r % 128;
	else
		ring->avail.idx = (uint16_t)(ring->avail.idx + r % 4);
	if (r % 128 == 0)
		*(volatile uint32_t *)(d->base + VIRTIO_MMIO_CONFIG + r / 128 % 64) = r;
}

void ap_main(void);

void ap_main(void)
{
	uint32_t state = 77;

	for (;;) {
		struct device *d = __atomic_load_n(&target, __ATOMIC_SEQ_CST);

		state = state * 1664525 + 1013904223;
		__atomic_store_n(&quiet, d == NULL, __ATOMIC_SEQ_CST);
		if (d)
			disturb(d, state >> 8);
		else
			pause();
	}
}

static void start_ap(void)
{
	volatile uint32_t *const spurious = (uint32_t *)(APIC + 0xf0);
	volatile uint32_t *const icr = (uint32_t *)(APIC + 0x300);

	memcpy((void *)AP_AT, ap_start, (size_t)(ap_end - ap_start));
	*spurious = 0x1ff;
	/* sends the second vCPU the interrupts INIT and then SIPI, which start it */
	icr[4] = 0x01000000;
	icr[0] = 0x4500;
	icr[4] = 0x01000000;
	icr[0] = 0x4600 | AP_AT >> 12;
	while (!__atomic_load_n(&quiet, __ATOMIC_SEQ_CST))
		pause();
}

void race(struct device *d)
{
	static bool started;

	progress(d, "another vCPU's start");
	if (!started)
		start_ap();
	started = true;
	progress(d, "another vCPU writes too");
	__atomic_store_n(&target, d, __ATOMIC_SEQ_CST);
	for (unsigned i = 0; i < ROUNDS; i++) {
		(void)bring_up(d);
		begin_work(d);
		spin(random32() % 64 * (i % 4));
	}
	/*
	 * This vCPU clears `target` before `quiet`. So if the second vCPU sets `quiet` again, it
	 * has already seen that `target` is NULL.
	 */
	__atomic_store_n(&target, NULL, __ATOMIC_SEQ_CST);
	__atomic_store_n(&quiet, 0, __ATOMIC_SEQ_CST);
	while (!__atomic_load_n(&quiet, __ATOMIC_SEQ_CST))
		pause();
}
