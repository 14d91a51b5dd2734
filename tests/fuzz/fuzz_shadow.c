/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the shadow of a queue (vm/vhost/shadow.h): the guest's rings and the back end's answers
 * are both hostile. Besides the sanitizers, the fuzzer checks that a refusal has a message, that
 * the device gives each request back at most once, and that all pages are free in the end.
 *
 * The input is a list of actions, each a byte and its arguments.
 */
#include <stdlib.h>
#include <sys/socket.h>

#include "fuzz/input.h"
#include "vm/vhost/shadow.h"

#define SIZE 16 /* of the guest's queue */
#define DESC 0x1000
#define AVAIL 0x2000
#define USED 0x3000
#define MEMORY (2U << 20)

enum action { WRITE_DESC, OFFER, WRITE_MEMORY, FORWARD, ANSWER, RETURN, STOP, ACTIONS };

static struct vm_memory memory;
static struct vhost_shadow *shadow;

static void set_up(void)
{
	static int socks[2];
	const struct vm_memory_options o = {.size = MEMORY, .mergeable = true};

	if (vm_memory_init(&memory, &o) < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, socks) < 0)
		abort();
	shadow = vhost_shadow_new(1, socks[0], false);
	if (!shadow)
		abort();
}

static void check(int r)
{
	if (r < 0 && !*err_msg())
		abort();
}

/* Answers a request as a back end, which may write what it wants into its ring. */
static void answer(struct input *in)
{
	struct vring_used *u = shadow->queues[0].used;
	const uint32_t id = take(in, 1), len = take(in, 3);

	u->ring[u->idx % SHADOW_DESCRIPTORS] =
		(struct vring_used_elem){id == 255 ? UINT32_MAX : id, len};
	u->idx = (uint16_t)(u->idx + 1 + (take(in, 1) == 255));
}

static void act(struct virtq *q, struct input *in)
{
	struct vring_desc *d = &q->desc[take(in, 1) % SIZE];
	uint8_t *at;

	switch (take(in, 1) % ACTIONS) {
	case WRITE_DESC:
		*d = (struct vring_desc){
			take(in, 3), take(in, 3), (uint16_t)take(in, 1), (uint16_t)take(in, 1)};
		break;
	case OFFER:
		q->avail->ring[q->avail->idx % SIZE] = (uint16_t)take(in, 1);
		q->avail->idx = (uint16_t)(q->avail->idx + take(in, 1) % 3);
		break;
	case WRITE_MEMORY:
		at = vm_memory_at(&memory, take(in, 2), 64);
		if (at)
			(void)take_bytes(in, at, 32);
		break;
	case FORWARD:
		check(vhost_shadow_forward(shadow, 0, q, SIZE));
		break;
	case ANSWER:
		answer(in);
		break;
	case RETURN:
		check(vhost_shadow_return(shadow, 0, q));
		break;
	default:
		vhost_shadow_stop(shadow, 0, q);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct virtq q = {.desc_at = DESC,
		.avail_at = AVAIL,
		.used_at = USED,
		.size = SIZE,
		.indirect = true};

	if (!shadow)
		set_up();
	shadow->whole = size % 2;
	memset(vm_memory_at(&memory, DESC, 0x3000), 0, 0x3000);
	if (virtq_enable(&q, &memory) < 0)
		abort();
	vhost_shadow_start(shadow, 0, &q);
	while (in.left > 0) {
		act(&q, &in);
		if (shadow->queues[0].under_way > SHADOW_REQUESTS)
			abort();
	}
	vhost_shadow_start(shadow, 0, &q);
	/* Only the pages of the ring are in use when no request is under way. */
	for (size_t i = 1; i < SHADOW_PAGES / 64; i++)
		if (shadow->used_pages[i])
			abort();
	if (shadow->queues[0].under_way || shadow->used_pages[0] != 3)
		abort();
	return 0;
}
