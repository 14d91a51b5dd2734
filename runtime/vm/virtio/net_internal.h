/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the network device share. virtio_net.c has the device and the transmit queues,
 * net_rx.c the receive queues, net_pairs.c the control queue, net_vhost.c the pairs that the kernel
 * serves, net_state.c the snapshots. The caller of each function holds the device's lock.
 */
#pragma once
#include <linux/virtio_net.h>

#include "vm/virtio/virtio_net.h"

#define NET_HEADER sizeof(struct virtio_net_hdr_v1)
#define NET_ETHERNET 18 /* bytes of an Ethernet header with a VLAN tag */
/* bytes of the largest frame that segmentation offload makes */
#define NET_FRAME_MAX (NET_HEADER + NET_ETHERNET + 65536)

static inline unsigned net_rx_queue(unsigned pair)
{
	return 2 * pair;
}

static inline unsigned net_tx_queue(unsigned pair)
{
	return 2 * pair + 1;
}

static inline bool net_has_feature(const struct virtio_net *n, unsigned feature)
{
	return n->dev.driver_features >> feature & 1;
}

/* --- virtio_net.c --- */

/*
 * Makes the device's epoll descriptor report those events of the pair's tap for which the device
 * waits at the moment.
 */
void net_update_watch(struct virtio_net *n, unsigned pair);
/* Handles a tap that another process has deleted: the guest sees it as a cable that was pulled. */
void net_lose_tap(struct virtio_net *n);

/* --- net_rx.c --- */

int net_rx_init(struct net_rx **ret) must_check;
/* Prepares a receive queue for a driver that has accepted these offloads (TUN_F_*). */
void net_rx_start(const struct virtio_net *n, struct net_rx *rx, unsigned offloads);
/* Implements the function serve() of struct virtio_ops for the receive queue of a pair. */
int net_rx_serve(struct virtio_net *n, unsigned pair, unsigned budget) must_check;
/* Drops the buffers that the device holds, and a frame that waits for more of them. */
void net_rx_forget(struct net_rx *rx);
/*
 * Puts the buffers that the device holds back into the queue, so that they count as not taken. This
 * is possible because they are the last buffers that the device has taken, and are in order.
 */
void net_rx_give_back(struct virtio_net *n, unsigned pair);

/* --- net_pairs.c --- */

/*
 * Sets how many pairs of queues the driver uses. If the tap refuses, returns -errno with a message,
 * and the pairs before the failed one are in use.
 */
int net_set_pairs(struct virtio_net *n, unsigned count) must_check;
/* Returns the index of the control queue; -1: the driver has not accepted it. */
int net_control_queue(const struct virtio_net *n);
/* Implements the function serve() of struct virtio_ops for the control queue `index`. */
int net_control_serve(struct virtio_net *n, unsigned index, unsigned budget) must_check;

/* --- net_vhost.c --- */

/*
 * Makes vhost-net serve the pair's queues that are ready and not served yet. They continue at the
 * request that is the next one according to struct virtq.
 */
int net_vhost_start(struct virtio_net *n, unsigned pair) must_check;
/*
 * Stops the queue `index`. Afterwards vhost-net does not use the driver's rings any more, and
 * struct virtq says which request is the next one.
 */
void net_vhost_stop(struct virtio_net *n, unsigned index);

/* --- net_state.c: the functions save() and load() of the device's struct virtio_ops --- */

int virtio_net_save(struct virtio_device *d, struct snapshot_writer *w) must_check;
int virtio_net_load(struct virtio_device *d, struct snapshot_part *p) must_check;
