/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lets a vhost-user back end serve a device although it cannot map guest memory, because guest
 * memory is private to this process (a machine that starts from a template). The back end gets a
 * small memory of its own, the shadow, with a ring for each of the device's queues. This process
 * copies each request of the guest into the shadow, and the answer back:
 *
 *	s = vhost_shadow_new(queues, sock)     the caller tells the back end of s->memory and of the
 *	                                      rings, whose addresses are in struct shadow_queue
 *	vhost_shadow_start(s, i, q)           empties the ring
 *	vhost_shadow_forward(s, i, q, budget) after a kick of the guest
 *	vhost_shadow_event(s, d, started)     when s->event is readable
 *	vhost_shadow_stop(s, i, q)            once the back end does not use the ring any more
 *
 * So the back end sees the bytes of requests, and nothing else of the guest. The back end is
 * trusted no more than the guest: each number that it writes is checked.
 *
 * Theory of operation. Only this process writes the descriptors of a shadow's ring. A request has
 * one descriptor for the bytes that the back end reads and one for those that it writes, both in
 * one range of pages. The request's place in the table stands for it until the back end has
 * answered. Then the guest's chain is read once more, because the guest may not change it in the
 * meantime, and a guest that does so harms only itself: each address is checked again.
 */
#pragma once
#include "vm/virtio/device.h"

#define SHADOW_REQUESTS 64 /* how many requests of a queue the back end gets at a time */
#define SHADOW_DESCRIPTORS (2 * SHADOW_REQUESTS)
/* size of the shadow in bytes; only what requests have used takes up the host's memory */
#define SHADOW_SIZE (UINT64_C(16) << 20)
#define SHADOW_PAGES (SHADOW_SIZE / 4096)

struct shadow_request {
	bool under_way;
	uint16_t head;        /* the chain's number in the guest's ring */
	uint32_t page, pages; /* the range of pages in the shadow */
	uint32_t read_len, write_len;
};

struct shadow_queue {
	uint64_t desc_at, avail_at, used_at; /* addresses in the shadow */
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	int kick, call; /* eventfds for the back end */
	uint16_t next_avail, next_used;
	unsigned under_way; /* number of requests */
	bool full;          /* a request of the guest waits for room in the shadow */
	struct shadow_request requests[SHADOW_REQUESTS];
};

struct vhost_shadow {
	struct vm_memory memory;
	int event; /* epoll descriptor, readable when the back end has answered a request */
	unsigned queue_count;
	/*
	 * The guest gets all bytes that a request has room for, and not only as many as the back
	 * end says. A disk needs this: the status is a request's last byte, and a back end that has
	 * read nothing says that it has written none from the start (virtio 1.2, 2.7.8.2).
	 */
	bool whole;
	struct shadow_queue queues[VIRTIO_QUEUES_MAX];
	uint64_t used_pages[SHADOW_PAGES / 64]; /* a bit for each page */
	struct virtq_chain chain;
};

/*
 * Makes a shadow. `sock`, the connection to the back end, is watched by the member `event` too.
 * `whole` is that of struct vhost_shadow.
 * Returns NULL with a message if the shadow cannot be made.
 */
struct vhost_shadow *vhost_shadow_new(unsigned queue_count, int sock, bool whole) must_check;
void vhost_shadow_free(struct vhost_shadow *s);

/*
 * Empties the shadow of a queue. The used index in the guest's ring says how many requests the
 * guest has got back so far.
 */
void vhost_shadow_start(struct vhost_shadow *s, unsigned index, struct virtq *guest);
/*
 * Copies at most `budget` requests from the guest's queue to the back end. Returns 1 if there may
 * be more, 0 if not, or -EPROTO with a message if the driver broke the rules.
 */
int vhost_shadow_forward(struct vhost_shadow *s, unsigned index, struct virtq *q, unsigned budget)
	must_check;
/*
 * Copies the answers of the back end to the guest. The caller raises the interrupt. Returns how
 * many there were, or -EPROTO with a message if the back end or the driver broke the rules.
 */
int vhost_shadow_return(struct vhost_shadow *s, unsigned index, struct virtq *q) must_check;
/*
 * Copies the answers in all queues to the driver, and then the requests for which there was no room
 * before. started[i] says whether the back end serves queue i. The caller holds the device's lock.
 */
void vhost_shadow_event(struct vhost_shadow *s, struct virtio_device *d, const bool *started);
/*
 * Copies the last answers, and makes the requests that the back end has not served count as not
 * taken. The back end has stopped the queue before.
 */
void vhost_shadow_stop(struct vhost_shadow *s, unsigned index, struct virtq *q);
