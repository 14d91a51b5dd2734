/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/qemu_carry.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/qemu_internal.h"
#include "engine/qemu_registers.h"
#include "engine/qemu_talk.h"
#include "engine/share.h"
#include "vm/vhost/carry.h"

#define BUS "virtio-mmio-bus."
#define PATH "/machine/peripheral/"

void qemu_carry_init(struct engine *e, const struct engine_description *d)
{
	struct qemu *q = e->state;

	q->carried[q->carried_count++] = (struct qemu_carried){.id = QEMU_VSOCK_ID,
		.driver = "vhost-user-vsock-device",
		.chardev = QEMU_VSOCK_CHARDEV,
		.options = "",
		.sock = -EBADF};
	if (d->share < 0)
		return;
	q->carried[q->carried_count++] = (struct qemu_carried){.id = QEMU_SHARE_ID,
		.driver = "vhost-user-fs-device",
		.chardev = QEMU_SHARE_CHARDEV,
		.options = ",\"tag\":\"" SHARE_TAG "\",\"queue-size\":" QEMU_SHARE_QUEUE,
		.sock = d->share_carrier};
}

void qemu_carry_release(struct engine *e)
{
	struct qemu *q = e->state;

	for (unsigned i = 0; i < q->carried_count; i++)
		strbuf_release(&q->carried[i].state);
	fd_close(&q->registers);
}

/* --- questions to QEMU --- */

/* Takes the number of the transport out of the path of its bus. */
static void take_bus(void *ctx, const struct json *answer)
{
	struct qemu_carried *c = ctx;
	const char *path = answer && answer->type == JSON_STRING ? answer->text : NULL;
	const char *bus = path ? strstr(path, BUS) : NULL;

	c->transport = bus ? (unsigned)strtoul(bus + strlen(BUS), NULL, 10) : QEMU_TRANSPORTS;
}

int qemu_carry_locate(struct engine *e, struct qemu_carried *c)
{
	char arguments[128];
	const struct qemu_question question = {
		.command = "qom-get", .arguments = arguments, .take = take_bus, .ctx = c};

	snprintf(arguments, sizeof(arguments),
		"{\"path\":\"" PATH "%s\",\"property\":\"parent_bus\"}", c->id);
	int r = qemu_ask(e, &question);
	if (r >= 0 && c->transport >= QEMU_TRANSPORTS)
		r = err_set(EPROTO, "QEMU does not tell the transport of the device %s", c->id);
	return r;
}

static void take_count(void *ctx, const struct json *answer)
{
	struct qemu_carried *c = ctx;
	uint64_t n = 0;

	c->queue_count = json_get_u64(answer, "num-vqs", &n) >= 0 && n <= VIRTIO_QUEUES_MAX
				 ? (unsigned)n
				 : 0;
}

struct ring_answer {
	struct qemu_ring *ring;
	bool complete;
};

static void take_ring(void *ctx, const struct json *answer)
{
	struct ring_answer *a = ctx;
	uint64_t size = 0, base = 0;
	struct vhost_rings *g = &a->ring->rings;

	a->complete = json_get_u64(answer, "vring-num", &size) >= 0 &&
		      json_get_u64(answer, "vring-desc", &g->desc) >= 0 &&
		      json_get_u64(answer, "vring-avail", &g->avail) >= 0 &&
		      json_get_u64(answer, "vring-used", &g->used) >= 0 &&
		      json_get_u64(answer, "last-avail-idx", &base) >= 0 && size <= UINT16_MAX &&
		      base <= UINT16_MAX;
	g->size = g->desc ? (uint16_t)size : 0;
	a->ring->base = (uint16_t)base;
}

static int query_ring(struct engine *e, struct qemu_carried *c, unsigned i)
{
	struct ring_answer a = {.ring = &c->queues[i]};
	char arguments[128];
	const struct qemu_question question = {.command = "x-query-virtio-queue-status",
		.arguments = arguments,
		.take = take_ring,
		.ctx = &a};

	snprintf(arguments, sizeof(arguments), "{\"path\":\"" PATH "%s\",\"queue\":%u}", c->id, i);
	int r = qemu_ask(e, &question);
	if (r >= 0 && !a.complete)
		r = err_set(
			EPROTO, "QEMU does not tell where queue %u of the device %s is", i, c->id);
	return r;
}

int qemu_carry_query(struct engine *e, struct qemu_carried *c)
{
	char arguments[128];
	const struct qemu_question question = {.command = "x-query-virtio-status",
		.arguments = arguments,
		.take = take_count,
		.ctx = c};

	snprintf(arguments, sizeof(arguments), "{\"path\":\"" PATH "%s\"}", c->id);
	int r = qemu_carry_locate(e, c);
	if (r >= 0)
		r = qemu_ask(e, &question);
	if (r >= 0 && c->queue_count == 0)
		r = err_set(EPROTO, "QEMU does not tell the queues of the device %s", c->id);
	for (unsigned i = 0; r >= 0 && i < c->queue_count; i++)
		r = query_ring(e, c, i);
	return r;
}

/* --- the device is taken away, and put back --- */

static int set_handler(struct engine *e, const struct qemu_carried *c)
{
	char arguments[160];
	const struct qemu_question question = {.command = "qom-set", .arguments = arguments};

	snprintf(arguments, sizeof(arguments), QEMU_HANDLER_ARGUMENTS, c->transport,
		QEMU_PLUGGER_BUS);
	return qemu_ask(e, &question);
}

int qemu_carry_read(struct engine *e, struct qemu_carried *c)
{
	struct qemu *q = e->state;

	strbuf_reset(&c->state);
	if (c->sock >= 0)
		return vhost_carry_out(c->sock, QEMU_SHARE_PEER, &c->state, &c->features);
	pthread_mutex_lock(&q->vsock.dev.lock);
	c->features = q->vsock.dev.driver_features;
	pthread_mutex_unlock(&q->vsock.dev.lock);
	return 0;
}

int qemu_carry_remove(struct engine *e, struct qemu_carried *c)
{
	char arguments[64];
	const struct qemu_question question = {.command = "device_del", .arguments = arguments};

	snprintf(arguments, sizeof(arguments), "{\"id\":\"%s\"}", c->id);
	qemu_expect_deletion(e, c->id);
	int r = set_handler(e, c);
	if (r >= 0)
		r = qemu_ask(e, &question);
	c->removed = r >= 0;
	return r < 0 ? r : qemu_await_deletion(e);
}

int qemu_carry_add(struct engine *e, struct qemu_carried *c)
{
	char arguments[256];
	const struct qemu_question question = {.command = "device_add", .arguments = arguments};

	snprintf(arguments, sizeof(arguments),
		"{\"driver\":\"%s\",\"id\":\"%s\",\"bus\":\"" BUS "%u\",\"chardev\":\"%s\"%s}",
		c->driver, c->id, c->transport, c->chardev, c->options);
	int r = qemu_carry_keep(e, c);
	if (r >= 0)
		r = qemu_ask(e, &question);
	if (r >= 0) {
		c->removed = false;
		c->blank = true;
	}
	return r;
}

int qemu_carry_keep(struct engine *e, const struct qemu_carried *c)
{
	struct qemu *q = e->state;
	int bases[VIRTIO_QUEUES_MAX];
	int r = 0;

	for (unsigned i = 0; i < c->queue_count; i++)
		bases[i] = c->queues[i].rings.size ? c->queues[i].base : -1;
	if (c->sock >= 0)
		return vhost_carry_bases(c->sock, QEMU_SHARE_PEER, bases, c->queue_count);
	pthread_mutex_lock(&q->vsock.dev.lock);
	for (unsigned i = 0; r >= 0 && i < c->queue_count && i < VSOCK_QUEUE_EVENT; i++)
		if (bases[i] >= 0)
			r = vhost_keep_base(q->served, i, (uint32_t)bases[i]);
	pthread_mutex_unlock(&q->vsock.dev.lock);
	return r;
}

int qemu_carry_configure(struct engine *e)
{
	struct qemu *q = e->state;
	int r = 0;

	for (unsigned i = 0; r >= 0 && i < q->carried_count; i++) {
		if (!q->carried[i].blank)
			continue;
		r = qemu_registers_drive(e, &q->carried[i]);
		q->carried[i].blank = r < 0;
	}
	return r;
}

/* --- the device in a snapshot --- */

struct saved_device {
	char id[16];
	uint64_t features;
	uint32_t transport, queue_count;
};

struct saved_ring {
	uint64_t desc, avail, used;
	uint16_t size, base;
	uint32_t unused;
};

int qemu_carry_save(const struct qemu_carried *c, struct snapshot_writer *w)
{
	struct saved_device s = {
		.features = c->features, .transport = c->transport, .queue_count = c->queue_count};

	snprintf(s.id, sizeof(s.id), "%s", c->id);
	int r = snapshot_put(w, &s, sizeof(s));
	for (unsigned i = 0; r >= 0 && i < c->queue_count; i++) {
		const struct qemu_ring *g = &c->queues[i];
		const struct saved_ring ring = {
			g->rings.desc, g->rings.avail, g->rings.used, g->rings.size, g->base, 0};

		r = snapshot_put(w, &ring, sizeof(ring));
	}
	return r < 0 ? r : snapshot_put(w, c->state.s, c->state.len);
}

int qemu_carry_load(struct qemu_carried *c, struct snapshot_part *p)
{
	struct saved_device s;
	int r = snapshot_get(p, &s, sizeof(s));

	if (r < 0)
		return r;
	if (strncmp(s.id, c->id, sizeof(s.id)) != 0)
		return err_set(ENOTSUP,
			"the snapshot has another device in the place of %s: disks, shares and "
			"interfaces must be the same",
			c->id);
	if (s.queue_count > VIRTIO_QUEUES_MAX || s.transport >= QEMU_TRANSPORTS)
		return err_set(EBADMSG, "the snapshot's device %s has %" PRIu32 " queues", c->id,
			s.queue_count);
	c->features = s.features;
	c->transport = s.transport;
	c->queue_count = s.queue_count;
	for (unsigned i = 0; r >= 0 && i < c->queue_count; i++) {
		struct saved_ring ring;

		r = snapshot_get(p, &ring, sizeof(ring));
		if (r >= 0)
			c->queues[i] = (struct qemu_ring){
				{ring.desc, ring.avail, ring.used, ring.size}, ring.base};
	}
	if (r >= 0)
		r = strbuf_add(&c->state, p->at, p->left);
	if (r >= 0)
		*p = (struct snapshot_part){.at = p->at + p->left, .name = p->name};
	return r;
}
