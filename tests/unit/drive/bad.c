/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes registers, configuration, rings and chains as no driver would, to check that the devices
 * withstand it.
 */
#include "unit/drive/drive.h"

int memcmp(const void *a, const void *b, size_t n);
void *memcpy(void *to, const void *from, size_t n);

#define STATES 7
#define CONFIG_SWEEP 0x70
/* a guest address at which the machine has device registers and no memory */
#define OUTSIDE 0xd0000000UL

static void break_queue(struct device *d)
{
	d->ring[d->main_queue].avail.idx = 1000;
	kick(d, d->main_queue);
	await_broken(d);
}

static void to_state(struct device *d, unsigned state)
{
	set(d, VIRTIO_MMIO_STATUS, 0);
	if (state == 1 || state == 2)
		set(d, VIRTIO_MMIO_STATUS, 1);
	if (state == 2)
		set(d, VIRTIO_MMIO_STATUS, 3);
	if (state == 3)
		CHECK(d, negotiate(d));
	if (state >= 4)
		CHECK(d, bring_up(d));
	if (state == 5)
		set(d, VIRTIO_MMIO_STATUS, STATUS_OK | 128);
	if (state == 6)
		break_queue(d);
}

/*
 * Reads and writes a register of the device with each width of access. Bytes that an access has
 * beyond the register must have no effect.
 */
static void poke(const struct device *d, uint32_t offset)
{
	static const uint32_t values[] = {0, 1, 0xff, 0x8000, 0xffffffff};
	const uint64_t at = d->base + offset;

	for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		set(d, offset, values[i]);
	*(volatile uint8_t *)at = *(volatile uint8_t *)at | 0xf0;
	*(volatile uint16_t *)(at + 1) = *(volatile uint16_t *)(at + 1) | 0xf0;
	*(volatile uint64_t *)at = *(volatile uint64_t *)at | 0xf0f0;
	(void)get(d, offset);
}

/*
 * Checks that a driver cannot change the size and the addresses of a queue while the device has the
 * status DRIVER_OK (CVE-2026-5747).
 */
static void frozen(struct device *d)
{
	struct vring_used_elem e;

	CHECK(d, bring_up(d));
	for (unsigned q = 0; q < d->queues; q++) {
		set(d, VIRTIO_MMIO_QUEUE_SEL, q);
		set(d, VIRTIO_MMIO_QUEUE_READY, 0);
		set(d, VIRTIO_MMIO_QUEUE_NUM, 256);
		for (uint32_t r = VIRTIO_MMIO_QUEUE_DESC_LOW; r <= VIRTIO_MMIO_QUEUE_USED_HIGH;
			r += 4)
			set(d, r, 0xffffffff);
		CHECK(d, get(d, VIRTIO_MMIO_QUEUE_READY) == 1);
	}
	begin_work(d);
	CHECK(d, await(d, d->main_queue, &e));
}

void sweep_registers(struct device *d)
{
	for (unsigned state = 0; state < STATES; state++) {
		if (state == 6 && d->id == ID_FS)
			break;
		progress(d, "registers in each state");
		to_state(d, state);
		for (uint32_t offset = 0; offset < VIRTIO_MMIO_CONFIG; offset += 4) {
			bool moves =
				offset == VIRTIO_MMIO_STATUS || offset == VIRTIO_MMIO_QUEUE_READY;

			if (moves)
				to_state(d, state);
			poke(d, offset);
			if (moves)
				to_state(d, state);
		}
		progress(d, "use after registers in each state");
		CHECK(d, use_device(d));
	}
	progress(d, "frozen registers");
	frozen(d);
}

static void sweep_at(const struct device *d, uint32_t offset)
{
	const uint64_t at = d->base + VIRTIO_MMIO_CONFIG + offset;

	*(volatile uint8_t *)at = (uint8_t)(*(volatile uint8_t *)at ^ 0xff);
	*(volatile uint16_t *)at = (uint16_t)(*(volatile uint16_t *)at ^ 0xffff);
	*(volatile uint32_t *)at = *(volatile uint32_t *)at ^ 0xffffffff;
	*(volatile uint64_t *)at = *(volatile uint64_t *)at ^ ~0UL;
}

static bool is_zero(const uint8_t *at, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (at[i])
			return false;
	return true;
}

/*
 * Checks that writes do not change the device's configuration, and that reads beyond its end return
 * zeros.
 */
void sweep_config(struct device *d)
{
	uint8_t before[CONFIG_SWEEP], after[CONFIG_SWEEP];

	progress(d, "configuration at each offset");
	for (unsigned state = 0; state < STATES; state += 4) {
		set(d, VIRTIO_MMIO_STATUS, 0);
		for (uint32_t i = 0; i < CONFIG_SWEEP; i++)
			before[i] = *(volatile uint8_t *)(d->base + VIRTIO_MMIO_CONFIG + i);
		CHECK(d, is_zero(before + d->config_len, CONFIG_SWEEP - d->config_len));
		to_state(d, state);
		for (uint32_t i = 0; i < CONFIG_SWEEP; i++)
			sweep_at(d, i);
		/*
		 * The test reads and writes the last bytes of the device's register page; some
		 * accesses reach across the page's end.
		 */
		for (uint32_t i = 0xef0; i < 0xf00; i++)
			sweep_at(d, i);
		set(d, VIRTIO_MMIO_STATUS, 0);
		for (uint32_t i = 0; i < CONFIG_SWEEP; i++)
			after[i] = *(volatile uint8_t *)(d->base + VIRTIO_MMIO_CONFIG + i);
		CHECK(d, memcmp(before, after, CONFIG_SWEEP) == 0);
	}
}

static void refused(struct device *d, uint64_t desc, uint64_t avail, uint64_t used)
{
	CHECK(d, negotiate(d));
	set_queue(d, d->main_queue, desc, avail, used);
	CHECK(d, get(d, VIRTIO_MMIO_STATUS) & STATUS_NEEDS_RESET);
	CHECK(d, get(d, VIRTIO_MMIO_QUEUE_READY) == 0);
	set(d, VIRTIO_MMIO_STATUS, STATUS_OK);
	kick(d, d->main_queue);
}

/*
 * Checks that the device accepts a queue with these ring addresses. The device finds no request in
 * the queue, because the memory at the addresses is zero.
 */
static void taken(struct device *d, uint64_t desc, uint64_t avail, uint64_t used)
{
	CHECK(d, negotiate(d));
	set_queue(d, d->main_queue, desc, avail, used);
	CHECK(d, get(d, VIRTIO_MMIO_QUEUE_READY) == 1);
	set(d, VIRTIO_MMIO_STATUS, STATUS_OK);
	kick(d, d->main_queue);
	CHECK(d, get(d, VIRTIO_MMIO_STATUS) == STATUS_OK);
}

static void bad_sizes(struct device *d)
{
	static const uint32_t sizes[] = {0, 3, 17, 257, 512, 0x10000, 0x10010, 0xffffffff};
	const struct ring *r = &d->ring[d->main_queue];

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		CHECK(d, negotiate(d));
		set(d, VIRTIO_MMIO_QUEUE_SEL, d->main_queue);
		set(d, VIRTIO_MMIO_QUEUE_NUM, sizes[i]);
		set(d, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)(uint64_t)r->desc);
		set(d, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)(uint64_t)&r->avail);
		set(d, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)(uint64_t)&r->used);
		set(d, VIRTIO_MMIO_QUEUE_READY, 1);
		CHECK(d, get(d, VIRTIO_MMIO_STATUS) & STATUS_NEEDS_RESET);
	}
}

void bad_rings(struct device *d)
{
	const struct ring *r = &d->ring[d->main_queue];
	const uint64_t desc = (uint64_t)r->desc, avail = (uint64_t)&r->avail,
		       used = (uint64_t)&r->used;
	const uint64_t bad[] = {edges[0], edges[0] - 16, edges[1] - 16, edges[2], edges[2] - 16,
		OUTSIDE, 0xfee00000, 1UL << 63, ~0UL - 15};

	progress(d, "rings at each edge of memory");
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		refused(d, bad[i], avail, used);
		refused(d, desc, bad[i], used);
		refused(d, desc, avail, bad[i]);
	}
	refused(d, desc + 8, avail, used);
	refused(d, desc, avail + 1, used);
	refused(d, desc, avail, used + 2);
	taken(d, edges[0] - 16 * RING, edges[0] - 512, edges[0] - 1024);
	taken(d, SPARE_AT, edges[0] - 6 - 2 * RING, SPARE_AT + 4096);
	if (edges[2] > edges[1]) {
		taken(d, edges[1], edges[2] - 512, edges[1] + 512);
		taken(d, edges[2] - 16 * RING, edges[1], edges[2] - 1024);
		taken(d, SPARE_AT, edges[2] - 6 - 2 * RING, edges[2] - 512 - 8 * RING - 8);
	}
	bad_sizes(d);
}

#define NEXT VRING_DESC_F_NEXT
#define TABLE VRING_DESC_F_INDIRECT
#define LONG_TABLE 1100

static void bad_address(struct device *d, unsigned which, uint16_t flags)
{
	const struct {
		uint64_t at;
		uint32_t len;
	} ranges[] = {{edges[0], 1}, {edges[0] - 1, 2}, {edges[1] - 1, 2}, {edges[2], 64},
		{edges[2] - 1, 2}, {~0UL, 2}, {OUTSIDE, 4}, {4096, 0xffffffff}};

	d->ring[d->main_queue].desc[0] =
		(struct vring_desc){ranges[which].at, ranges[which].len, flags, 0};
}

static void bad_table(struct device *d, unsigned which)
{
	struct vring_desc *t = (struct vring_desc *)SPARE_AT, *first = d->ring[d->main_queue].desc;
	const uint32_t lens[] = {0, 15, 17, 16, 16, 16 * LONG_TABLE, 32};

	for (unsigned i = 0; i < LONG_TABLE; i++) {
		if (which < 5 && i == 2)
			break;
		t[i] = (struct vring_desc){SPARE_AT + 0x10000, 1, NEXT, (uint16_t)(i + 1)};
	}
	*first = (struct vring_desc){SPARE_AT, lens[which], TABLE, 0};
	if (which == 3) /* an indirect descriptor must not be in an indirect table */
		t[0] = (struct vring_desc){SPARE_AT, 16, TABLE, 0};
	if (which == 4)
		first->flags |= NEXT;
	if (which == 6) /* the `next` field points outside of the indirect table */
		first->addr = edges[0] - 16;
}

/*
 * Writes the descriptors of the broken chain number `which` into the queue. Returns false if there
 * is no chain of this number.
 */
static bool bad_chain(struct device *d, unsigned which)
{
	struct ring *r = &d->ring[d->main_queue];
	const uint16_t flags = d->id == ID_RNG ? VRING_DESC_F_WRITE : 0;
	const struct vring_desc fine = {SPARE_AT, 64, (uint16_t)(flags | NEXT), 1};

	r->desc[0] = fine;
	switch (which) {
	case 0:
		r->avail.idx = RING;
		break;
	case 1:
		r->avail.ring[0] = RING;
		r->avail.idx = 1;
		kick(d, d->main_queue);
		return true;
	case 2:
		r->desc[0].next = RING;
		break;
	case 3:
		r->desc[0].next = 0;
		break;
	case 4: /* the chain is a loop of buffers without length */
		for (unsigned i = 0; i < RING; i++)
			r->desc[i] = (struct vring_desc){0, 0, NEXT, (uint16_t)((i + 1) % RING)};
		break;
	case 5:
		r->desc[0].flags = NEXT | VRING_DESC_F_WRITE;
		r->desc[1] = (struct vring_desc){SPARE_AT, 64, 0, 0};
		break;
	case 6 ... 13:
		bad_address(d, which - 6, flags);
		break;
	case 14 ... 20:
		bad_table(d, which - 14);
		break;
	default:
		return false;
	}
	offer(d, d->main_queue, 0);
	kick(d, d->main_queue);
	return true;
}

void bad_chains(struct device *d)
{
	for (unsigned i = 0;; i++) {
		progress(d, "bad chains");
		CHECK(d, bring_up(d));
		if (!bad_chain(d, i))
			return;
		CHECK(d, await_broken(d));
		kick(d, d->main_queue);
		CHECK(d, d->ring[d->main_queue].used.idx == 0);
		progress(d, "use after a bad chain");
		if (i % 5 == 0)
			CHECK(d, use_device(d));
	}
}

void break_once(struct device *d)
{
	progress(d, "a broken queue");
	CHECK(d, use_device(d));
	break_queue(d);
	CHECK(d, !bring_up(d));
}
