/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saves a network device's configuration to a snapshot, and compares it with the device's when the
 * snapshot is loaded.
 */
#include <endian.h>
#include <string.h>

#include "vm/virtio/net_internal.h"

/*
 * The section of a device with several pairs also has the number of pairs that the driver uses. A
 * device with one pair has no control queue, so the number is always 1 and is not saved.
 */
int virtio_net_save(struct virtio_device *d, struct snapshot_writer *w)
{
	const struct virtio_net *n = (const struct virtio_net *)d;
	const uint16_t active = htole16((uint16_t)n->active);
	int r = snapshot_put(w, &n->config, sizeof(n->config));

	return r < 0 || n->options.pairs == 1 ? r : snapshot_put(w, &active, sizeof(active));
}

static int load_pairs(struct virtio_net *n, struct snapshot_part *p)
{
	uint16_t active;
	int r = snapshot_get(p, &active, sizeof(active));

	if (r < 0)
		return r;
	if (le16toh(active) < 1 || le16toh(active) > n->options.pairs)
		return err_set(EBADMSG,
			"the driver uses %u pairs of queues: expected a number from 1 to %u",
			le16toh(active), n->options.pairs);
	return net_set_pairs(n, le16toh(active));
}

/*
 * Refuses a snapshot whose interface has another MAC address or MTU than this machine's, because
 * the driver has read both once and does not read them again. A device that no driver had when the
 * snapshot was made, as in a template, may differ. The state of the link is not compared, because
 * each machine has its own. virtio_load() has compared the number of queues.
 */
int virtio_net_load(struct virtio_device *d, struct snapshot_part *p)
{
	struct virtio_net *n = (struct virtio_net *)d;
	struct virtio_net_space s;
	int r = snapshot_get(p, &s, sizeof(s));

	if (r < 0)
		return r;
	if ((d->status & VIRTIO_CONFIG_S_DRIVER) &&
		(memcmp(s.mac, n->config.mac, sizeof(s.mac)) != 0 || s.mtu != n->config.mtu))
		return err_set(ENOTSUP,
			"the snapshot's interface " STR_MAC_FORMAT " has MTU %u: this "
			"machine's has another address, or MTU %u",
			STR_MAC_ARGS(s.mac), le16toh(s.mtu), n->options.mtu);
	n->loaded = virtio_is_live(d);
	return n->options.pairs == 1 ? 0 : load_pairs(n, p);
}
