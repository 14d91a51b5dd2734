/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lets the kernel move the frames (linux/vhost.h). vhost-net reads the rings and copies between
 * guest memory and the tap, in a thread of the kernel for each pair. It gets the addresses that
 * virtq_enable() has checked, and can reach no memory but this process's. Nothing here needs a
 * privilege beside the descriptor: the functions run in the jail, in a vCPU's thread that sets the
 * status or in the thread of the event loop.
 *
 * The kernel may make its thread as one of this process's (Linux 6.4), which is why this process
 * becomes the owner of the descriptor only when the driver is ready and the jail has been entered.
 */
#include <linux/vhost.h>
#include <sys/ioctl.h>

#include "vm/virtio/net_internal.h"

#define BIT(n) (UINT64_C(1) << (n))
/* The features that vhost-net has to know. The others concern the tap, or the control queue. */
#define FEATURES (VIRTIO_COMMON_FEATURES | BIT(VIRTIO_NET_F_MRG_RXBUF))

#define CALL(fd, request, arg) (ioctl(fd, request, arg) < 0 ? err_sys("vhost-net: " #request) : 0)

/* Tells vhost-net where in this process guest memory is. */
static int set_memory(int fd, const struct vm_memory *memory)
{
	union {
		struct vhost_memory table;
		char room[sizeof(struct vhost_memory) +
			  VM_MEMORY_REGIONS_MAX * sizeof(struct vhost_memory_region)];
	} m = {.table.nregions = memory->count};

	for (unsigned i = 0; i < memory->count; i++) {
		const struct vm_memory_region *g = &memory->regions[i];

		m.table.regions[i] = (struct vhost_memory_region){.guest_phys_addr = g->guest,
			.memory_size = g->size,
			.userspace_addr = (uintptr_t)g->host};
	}
	return CALL(fd, VHOST_SET_MEM_TABLE, &m.table);
}

static int set_up_pair(struct virtio_net *n, unsigned pair)
{
	const int fd = n->options.vhost[pair];
	const uint64_t features = n->dev.driver_features & FEATURES;
	int r = n->pairs[pair].owned ? 0 : CALL(fd, VHOST_SET_OWNER, NULL);

	if (r < 0)
		return r;
	n->pairs[pair].owned = true;
	r = CALL(fd, VHOST_SET_FEATURES, &features);
	return r < 0 ? r : set_memory(fd, n->dev.memory);
}

/* Starts the receive queue (`which` is 0) or the transmit queue of a pair. */
static int start_queue(struct virtio_net *n, unsigned pair, unsigned which)
{
	const int fd = n->options.vhost[pair];
	const unsigned index = 2 * pair + which;
	const struct virtq *q = &n->dev.queues[index];
	const struct vhost_vring_addr addr = {.index = which,
		.desc_user_addr = (uintptr_t)q->desc,
		.used_user_addr = (uintptr_t)q->used,
		.avail_user_addr = (uintptr_t)q->avail};
	int r = CALL(fd, VHOST_SET_VRING_NUM, (&(struct vhost_vring_state){which, q->size}));

	if (r >= 0)
		r = CALL(fd, VHOST_SET_VRING_BASE,
			(&(struct vhost_vring_state){which, q->next_avail}));
	if (r >= 0)
		r = CALL(fd, VHOST_SET_VRING_ADDR, &addr);
	if (r >= 0)
		r = CALL(
			fd, VHOST_SET_VRING_CALL, (&(struct vhost_vring_file){which, n->dev.call}));
	if (r >= 0)
		r = CALL(fd, VHOST_SET_VRING_KICK,
			(&(struct vhost_vring_file){which, n->dev.kicks[index]}));
	if (r >= 0)
		r = CALL(fd, VHOST_NET_SET_BACKEND,
			(&(struct vhost_vring_file){which, n->options.taps[pair]}));
	n->pairs[pair].running[which] = r >= 0;
	return r < 0 ? err_ctx(r, "queue %u", index) : 0;
}

int net_vhost_start(struct virtio_net *n, unsigned pair)
{
	int r = set_up_pair(n, pair);

	for (unsigned i = 0; r >= 0 && i < 2; i++)
		if (n->dev.queues[2 * pair + i].ready && !n->pairs[pair].running[i])
			r = start_queue(n, pair, i);
	return r;
}

void net_vhost_stop(struct virtio_net *n, unsigned index)
{
	const unsigned pair = index / 2, which = index % 2;
	struct virtq *q = &n->dev.queues[index];
	struct vhost_vring_state base = {.index = which, .num = q->next_avail};
	const struct vhost_vring_file none = {which, -1};

	if (!n->pairs[pair].running[which])
		return;
	n->pairs[pair].running[which] = false;
	/* The kernel refuses neither call, because this process is the owner. */
	(void)ioctl(n->options.vhost[pair], VHOST_NET_SET_BACKEND, &none);
	(void)ioctl(n->options.vhost[pair], VHOST_GET_VRING_BASE, &base);
	if (virtq_resume(q, n->dev.memory, (uint16_t)base.num) < 0)
		err_clear();
}
