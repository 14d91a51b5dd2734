/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control queue (virtio 1.2, 5.1.6.5). Its only command says how many pairs of queues the
 * driver uses. The device detaches the tap's queues of the other pairs, because the kernel would
 * otherwise pass frames to them that no driver takes.
 */
#include <endian.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>

#include "vm/virtio/net_internal.h"

static int attach_tap(const struct virtio_net *n, unsigned pair, bool attach)
{
	struct ifreq q = {.ifr_flags = attach ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE};

	/* ENOTTY: the descriptor is of a socket, which has no queues. */
	if (ioctl(n->options.taps[pair], TUNSETQUEUE, &q) < 0 && errno != ENOTTY)
		return err_sys("%s queue %u of a tap device (TUNSETQUEUE)",
			attach ? "attach" : "detach", pair);
	return 0;
}

static int disable_last(struct virtio_net *n)
{
	const unsigned pair = --n->active;

	net_vhost_stop(n, net_rx_queue(pair));
	net_vhost_stop(n, net_tx_queue(pair));
	net_rx_give_back(n, pair);
	net_update_watch(n, pair);
	return attach_tap(n, pair, false);
}

static int enable_next(struct virtio_net *n)
{
	const unsigned pair = n->active;
	int r = attach_tap(n, pair, true);

	if (r < 0)
		return r;
	n->active++;
	n->pairs[pair].rx_wait = n->pairs[pair].tx_full = false;
	if (n->options.in_kernel && n->started)
		r = net_vhost_start(n, pair);
	net_update_watch(n, pair);
	return r;
}

int net_set_pairs(struct virtio_net *n, unsigned count)
{
	int r = 0;

	while (r >= 0 && n->active > count)
		r = disable_last(n);
	while (r >= 0 && n->active < count)
		r = enable_next(n);
	return r;
}

int net_control_queue(const struct virtio_net *n)
{
	if (!net_has_feature(n, VIRTIO_NET_F_CTRL_VQ))
		return -1;
	return net_has_feature(n, VIRTIO_NET_F_MQ) ? 2 * (int)n->options.pairs : 2;
}

/* Does the command in n->chain. Returns the answer for the driver. */
static virtio_net_ctrl_ack do_command(struct virtio_net *n)
{
	struct {
		struct virtio_net_ctrl_hdr head;
		struct virtio_net_ctrl_mq mq;
	} __attribute__((packed)) c;

	if (virtq_read(n->chain, 0, &c, sizeof(c)) < sizeof(c) ||
		c.head.class != VIRTIO_NET_CTRL_MQ ||
		c.head.cmd != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET ||
		!net_has_feature(n, VIRTIO_NET_F_MQ))
		return VIRTIO_NET_ERR;
	const unsigned count = le16toh(c.mq.virtqueue_pairs);
	if (count < 1 || count > n->options.pairs)
		return VIRTIO_NET_ERR;
	if (net_set_pairs(n, count) < 0) {
		err_clear();
		return VIRTIO_NET_ERR;
	}
	return VIRTIO_NET_OK;
}

int net_control_serve(struct virtio_net *n, unsigned index, unsigned budget)
{
	struct virtq *q = &n->dev.queues[index];
	int r = 0;

	for (; budget > 0; budget--) {
		r = virtq_next(q, n->chain);
		if (r <= 0)
			break;
		if (n->chain->write_len < sizeof(virtio_net_ctrl_ack)) {
			r = err_set(EPROTO, "a command without room for its answer");
			break;
		}
		virtio_net_ctrl_ack ack = do_command(n);
		(void)virtq_write(n->chain, 0, &ack, sizeof(ack));
		virtq_push(q, n->chain->head, sizeof(ack));
	}
	virtio_signal_queue(&n->dev, index);
	return r < 0 ? r : budget == 0;
}
