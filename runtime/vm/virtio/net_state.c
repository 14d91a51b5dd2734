/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saves a network device's configuration to a snapshot, and compares it with the device's when the
 * snapshot is loaded.
 */
#include <endian.h>
#include <string.h>

#include "vm/virtio/virtio_net.h"

int virtio_net_save(struct virtio_device *d, struct snapshot_writer *w)
{
	const struct virtio_net *n = (const struct virtio_net *)d;

	return snapshot_put(w, &n->config, sizeof(n->config));
}

/*
 * Refuses a snapshot whose interface has another MAC address or MTU than this machine's, because
 * the driver has read both once and does not read them again. A device that no driver had when the
 * snapshot was made, as in a template, may differ. The state of the link is not compared, because
 * each machine has its own.
 */
int virtio_net_load(struct virtio_device *d, struct snapshot_part *p)
{
	const struct virtio_net *n = (const struct virtio_net *)d;
	struct virtio_net_space s;
	int r = snapshot_get(p, &s, sizeof(s));

	if (r < 0)
		return r;
	if (!d->status)
		return 0;
	if (memcmp(s.mac, n->config.mac, sizeof(s.mac)) != 0 || s.mtu != n->config.mtu)
		return err_set(ENOTSUP,
			"the snapshot's interface %02x:%02x:%02x:%02x:%02x:%02x has MTU %u: this "
			"machine's has another address, or MTU %u",
			s.mac[0], s.mac[1], s.mac[2], s.mac[3], s.mac[4], s.mac[5], le16toh(s.mtu),
			n->options.mtu);
	return 0;
}
