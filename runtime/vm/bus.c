/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/bus.h"

#include <inttypes.h>
#include <string.h>

int vm_bus_add(struct vm_bus *b, const struct vm_bus_entry *entry)
{
	unsigned at = 0;

	if (b->count == VM_BUS_MAX)
		return err_set(ENOSPC, "device %s: the bus holds %u devices at most", entry->name,
			VM_BUS_MAX);
	if (entry->len == 0 || entry->base > UINT64_MAX - entry->len)
		return err_set(EINVAL,
			"device %s: invalid range: 0x%" PRIx64 " bytes at 0x%" PRIx64, entry->name,
			entry->len, entry->base);
	for (; at < b->count && b->entries[at].base < entry->base; at++)
		;
	const struct vm_bus_entry *below = at > 0 ? &b->entries[at - 1] : NULL;
	const struct vm_bus_entry *above = at < b->count ? &b->entries[at] : NULL;
	if (below && entry->base - below->base < below->len)
		above = below;
	else if (above && above->base - entry->base >= entry->len)
		above = NULL;
	if (above)
		return err_set(EEXIST, "device %s at 0x%" PRIx64 " overlaps %s at 0x%" PRIx64,
			entry->name, entry->base, above->name, above->base);
	memmove(&b->entries[at + 1], &b->entries[at], (b->count - at) * sizeof(b->entries[0]));
	b->entries[at] = *entry;
	b->count++;
	return 0;
}

/*
 * Returns the device that answers an access of `len` bytes at `addr`. Returns NULL if no device is
 * there, or if the device does not support this width.
 */
static const struct vm_bus_entry *find_device(const struct vm_bus *b, uint64_t addr, unsigned len)
{
	unsigned low = 0, high = b->count;

	while (low < high) {
		unsigned mid = (low + high) / 2;
		const struct vm_bus_entry *e = &b->entries[mid];

		if (addr < e->base)
			high = mid;
		else if (addr - e->base >= e->len)
			low = mid + 1;
		else
			return e->len - (addr - e->base) >= len && (e->ops->widths & len) ? e
											  : NULL;
	}
	return NULL;
}

static bool is_width(unsigned len)
{
	return len == 1 || len == 2 || len == 4 || len == 8;
}

void vm_bus_read(const struct vm_bus *b, uint64_t addr, void *ret_data, unsigned len)
{
	memset(ret_data, 0xff, len);
	if (!is_width(len))
		return;
	const struct vm_bus_entry *e = find_device(b, addr, len);
	if (e && e->ops->read)
		e->ops->read(e->device, addr - e->base, ret_data, len);
}

void vm_bus_write(const struct vm_bus *b, uint64_t addr, const void *data, unsigned len)
{
	if (!is_width(len))
		return;
	const struct vm_bus_entry *e = find_device(b, addr, len);
	if (e && e->ops->write)
		e->ops->write(e->device, addr - e->base, data, len);
}
