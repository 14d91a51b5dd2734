/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/virtio/mmio.h"

#include <endian.h>
#include <inttypes.h>
#include <linux/virtio_mmio.h>
#include <string.h>

#define MAGIC 0x74726976  /* register MagicValue: "virt" */
#define VENDOR 0x53494143 /* register VendorID: "CAIS" */
#define NO_SHARED_MEMORY 0xffffffff

static void on_signal(void *transport, int queue)
{
	struct virtio_mmio *t = transport;
	uint32_t bit =
		queue == VIRTIO_SIGNAL_CONFIG ? VIRTIO_MMIO_INT_CONFIG : VIRTIO_MMIO_INT_VRING;

	__atomic_fetch_or(&t->interrupts, bit, __ATOMIC_SEQ_CST);
	t->raise(t->irq);
}

void virtio_mmio_init(
	struct virtio_mmio *t, struct virtio_device *d, void (*raise)(void *irq), void *irq)
{
	*t = (struct virtio_mmio){.device = d, .raise = raise, .irq = irq};
	d->signal = on_signal;
	d->transport = t;
}

void virtio_mmio_exchange(struct virtio_mmio *t, struct virtio_device *d)
{
	const struct virtio_mmio old = *t;

	virtio_mmio_init(t, d, old.raise, old.irq);
	t->kick = old.kick;
	t->kick_ctx = old.kick_ctx;
}

static uint32_t read_register(const struct virtio_mmio *t, uint64_t offset)
{
	const struct virtio_device *d = t->device;
	bool is_queue = t->queue_select < d->queue_count;

	switch (offset) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return MAGIC;
	case VIRTIO_MMIO_VERSION:
		return 2;
	case VIRTIO_MMIO_DEVICE_ID:
		return d->id;
	case VIRTIO_MMIO_VENDOR_ID:
		return VENDOR;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		return t->features_select < 2 ? virtio_features(d, t->features_select) : 0;
	case VIRTIO_MMIO_QUEUE_NUM_MAX:
		return is_queue ? VIRTIO_MMIO_QUEUE_MAX : 0;
	case VIRTIO_MMIO_QUEUE_READY:
		return is_queue && d->queues[t->queue_select].ready;
	case VIRTIO_MMIO_STATUS:
		return d->status;
	case VIRTIO_MMIO_SHM_LEN_LOW:
	case VIRTIO_MMIO_SHM_LEN_HIGH:
	case VIRTIO_MMIO_SHM_BASE_LOW:
	case VIRTIO_MMIO_SHM_BASE_HIGH:
		return NO_SHARED_MEMORY;
	case VIRTIO_MMIO_CONFIG_GENERATION:
		return d->generation;
	default: /* registers that are write-only or reserved read as 0 */
		return 0;
	}
}

static void set_half(uint64_t *address, bool high, uint32_t value)
{
	if (high)
		*address = (*address & 0xffffffff) | (uint64_t)value << 32;
	else
		*address = (*address & ~UINT64_C(0xffffffff)) | value;
}

/*
 * Sets the size or an address of the selected queue. The driver may write these registers until the
 * queue is ready, and never after DRIVER_OK.
 */
static void write_queue(struct virtio_mmio *t, uint64_t offset, uint32_t value)
{
	struct virtq *q = virtio_open_queue(t->device, t->queue_select);

	if (!q || q->ready)
		return;
	switch (offset) {
	case VIRTIO_MMIO_QUEUE_NUM:
		/*
		 * Stores a queue size that is too large as 0, which virtq_enable() refuses, because
		 * cutting the size to 16 bits could make it a valid one.
		 */
		q->size = value <= VIRTIO_MMIO_QUEUE_MAX ? (uint16_t)value : 0;
		break;
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
		set_half(&q->desc_at, offset == VIRTIO_MMIO_QUEUE_DESC_HIGH, value);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
		set_half(&q->avail_at, offset == VIRTIO_MMIO_QUEUE_AVAIL_HIGH, value);
		break;
	case VIRTIO_MMIO_QUEUE_USED_LOW:
	case VIRTIO_MMIO_QUEUE_USED_HIGH:
		set_half(&q->used_at, offset == VIRTIO_MMIO_QUEUE_USED_HIGH, value);
		break;
	default:
		break;
	}
}

static void write_register(struct virtio_mmio *t, uint64_t offset, uint32_t value)
{
	struct virtio_device *d = t->device;

	switch (offset) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		t->features_select = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		t->driver_select = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		if (t->driver_select < 2)
			virtio_set_features(d, t->driver_select, value);
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		t->queue_select = value;
		break;
	case VIRTIO_MMIO_QUEUE_READY:
		if (value <= 1)
			virtio_set_ready(d, t->queue_select, value);
		break;
	case VIRTIO_MMIO_STATUS:
		virtio_set_status(d, value);
		if (d->status == 0) {
			/*
			 * Clears the pending interrupts, because a device that was reset has none
			 * (virtio 1.2, 4.2.2).
			 */
			__atomic_store_n(&t->interrupts, 0, __ATOMIC_SEQ_CST);
			t->features_select = t->driver_select = t->queue_select = 0;
		}
		break;
	default:
		write_queue(t, offset, value);
	}
}

static void read_config(
	const struct virtio_device *d, uint64_t offset, void *ret_data, unsigned len)
{
	/* Bytes behind the end of the configuration read as 0, for any access width and offset. */
	memset(ret_data, 0, len);
	if (offset >= d->config_len)
		return;
	uint64_t there = d->config_len - offset;
	memcpy(ret_data, (const uint8_t *)d->config + offset, there < len ? (size_t)there : len);
}

static void mmio_read(void *device, uint64_t offset, void *ret_data, unsigned len)
{
	struct virtio_mmio *t = device;
	uint32_t value;

	if (offset >= VIRTIO_MMIO_CONFIG) {
		read_config(t->device, offset - VIRTIO_MMIO_CONFIG, ret_data, len);
		return;
	}
	memset(ret_data, 0, len);
	if (len != 4 || offset % 4)
		return;
	/*
	 * Reads INTERRUPT_STATUS without the lock, because the driver reads this register at each
	 * interrupt and must not wait while the event loop does I/O.
	 */
	if (offset == VIRTIO_MMIO_INTERRUPT_STATUS) {
		value = __atomic_load_n(&t->interrupts, __ATOMIC_SEQ_CST);
		/*
		 * Sets the bit for used buffers at every interrupt of a device with remote queues,
		 * because the process or the kernel that serves these queues signals used buffers
		 * to the driver without this process. The interrupt line is edge-triggered, so an
		 * extra bit causes no second interrupt.
		 */
		if (t->device->remote_queues > 0 && virtio_is_live(t->device))
			value |= VIRTIO_MMIO_INT_VRING;
	} else {
		pthread_mutex_lock(&t->device->lock);
		value = read_register(t, offset);
		pthread_mutex_unlock(&t->device->lock);
	}
	value = htole32(value);
	memcpy(ret_data, &value, 4);
}

static void write_config(struct virtio_device *d, uint64_t offset, const void *data, unsigned len)
{
	if (!d->ops->configure || offset >= d->config_len || len > d->config_len - offset)
		return;
	pthread_mutex_lock(&d->lock);
	d->ops->configure(d, (uint32_t)offset, data, len);
	pthread_mutex_unlock(&d->lock);
}

static void mmio_write(void *device, uint64_t offset, const void *data, unsigned len)
{
	struct virtio_mmio *t = device;
	uint32_t value;

	if (offset >= VIRTIO_MMIO_CONFIG) {
		write_config(t->device, offset - VIRTIO_MMIO_CONFIG, data, len);
		return;
	}
	if (len != 4 || offset % 4)
		return;
	memcpy(&value, data, 4);
	value = le32toh(value);
	if (offset == VIRTIO_MMIO_INTERRUPT_ACK) {
		__atomic_fetch_and(&t->interrupts, ~value, __ATOMIC_SEQ_CST);
	} else if (offset == VIRTIO_MMIO_QUEUE_NOTIFY) {
		if (value >= t->device->queue_count)
			return;
		if (t->kick)
			t->kick(t->kick_ctx, value);
		else
			(void)virtio_kick(t->device, value);
	} else {
		pthread_mutex_lock(&t->device->lock);
		write_register(t, offset, value);
		pthread_mutex_unlock(&t->device->lock);
	}
}

const struct vm_bus_ops virtio_mmio_bus = {1 | 2 | 4 | 8, mmio_read, mmio_write};

/* The part of a snapshot with the registers of this transport, before the device's own state. */
struct transport_state {
	uint32_t interrupts, features_select, driver_select, queue_select;
};

int virtio_mmio_save(struct virtio_mmio *t, struct snapshot_writer *w)
{
	const struct transport_state s = {__atomic_load_n(&t->interrupts, __ATOMIC_SEQ_CST),
		t->features_select, t->driver_select, t->queue_select};
	int r = snapshot_put(w, &s, sizeof(s));

	return r < 0 ? r : virtio_save(t->device, w);
}

int virtio_mmio_load(struct virtio_mmio *t, struct snapshot_part *p)
{
	struct transport_state s;
	int r = snapshot_get(p, &s, sizeof(s));

	if (r >= 0 && s.interrupts & ~(uint32_t)(VIRTIO_MMIO_INT_CONFIG | VIRTIO_MMIO_INT_VRING))
		r = err_set(EBADMSG, "%s: interrupt status 0x%" PRIx32 ": expected bits 0 and 1",
			t->device->name, s.interrupts);
	if (r < 0)
		return r;
	t->features_select = s.features_select;
	t->driver_select = s.driver_select;
	t->queue_select = s.queue_select;
	__atomic_store_n(&t->interrupts, s.interrupts, __ATOMIC_SEQ_CST);
	return virtio_load(t->device, p);
}

int virtio_mmio_read_id(struct snapshot_part *p, uint32_t *ret)
{
	struct transport_state s;
	int r = snapshot_get(p, &s, sizeof(s));

	/* The device's state, which comes next, begins with the device's type (device_state.c). */
	return r < 0 ? r : snapshot_get(p, ret, sizeof(*ret));
}

void virtio_mmio_nudge(struct virtio_mmio *t)
{
	pthread_mutex_lock(&t->device->lock);
	bool live = virtio_is_live(t->device);
	pthread_mutex_unlock(&t->device->lock);
	if (live)
		on_signal(t, 0);
}
