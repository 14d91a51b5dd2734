/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/rig/vhost_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "unit/rig/child.h"
#include "unit/rig/vhost_front.h"

static void answer(struct device *d, unsigned queue, struct virtq_chain *c, const char *text)
{
	size_t n = virtq_write(c, 0, text, strlen(text));

	virtq_push(&d->dev.queues[queue], c->head, (uint32_t)n);
	virtio_signal_queue(&d->dev, queue);
}

static int serve(struct virtio_device *dev, unsigned index, unsigned budget)
{
	struct device *d = (struct device *)dev;
	char what;

	for (; budget > 0; budget--) {
		int r = virtq_pop(&dev->queues[index], &d->chain);
		if (r < 0)
			return r;
		if (r == 0) {
			if (virtq_arm(&dev->queues[index]))
				continue;
			break;
		}
		__atomic_fetch_add(&d->served, 1, __ATOMIC_SEQ_CST);
		if (virtq_read(&d->chain, 0, &what, 1) != 1)
			return err_set(EPROTO, "an empty request");
		if (what == 'H' && d->held_count < HELD_MAX) {
			d->held[d->held_count].queue = index;
			d->held[d->held_count++].chain = d->chain;
		} else {
			answer(d, index, &d->chain, "echo");
		}
	}
	return budget == 0;
}

static int event(struct virtio_device *dev)
{
	struct device *d = (struct device *)dev;
	uint64_t n;

	CHECK(read(dev->event_fd, &n, sizeof(n)) == sizeof(n));
	pthread_mutex_lock(&dev->lock);
	while (d->held_count > 0) {
		d->held_count--;
		answer(d, d->held[d->held_count].queue, &d->held[d->held_count].chain, "event");
	}
	pthread_mutex_unlock(&dev->lock);
	return 0;
}

static void quiesce(struct virtio_device *dev, unsigned index)
{
	struct device *d = (struct device *)dev;
	unsigned left = 0;

	d->quiesced++;
	for (unsigned i = 0; i < d->held_count; i++) {
		if (d->held[i].queue == index)
			answer(d, index, &d->held[i].chain, "stopped");
		else
			d->held[left++] = d->held[i];
	}
	d->held_count = left;
}

static void reset(struct virtio_device *dev)
{
	struct device *d = (struct device *)dev;

	/*
	 * The server must have stopped the queues and called quiesce() before it called reset(), so
	 * the device must hold no request any more.
	 */
	CHECK(d->held_count == 0);
	d->resets++;
}

static void configure(struct virtio_device *dev, uint32_t offset, const void *data, unsigned len)
{
	memcpy(((struct device *)dev)->config + offset, data, len);
}

static const struct virtio_ops ops = {
	.serve = serve, .reset = reset, .event = event, .configure = configure, .quiesce = quiesce};

void *server_run(void *arg)
{
	struct server *s = arg;

	s->result = vhost_serve(&s->d.dev, s->sock, s->stop);
	snprintf(s->why, sizeof(s->why), "%s", s->result < 0 ? err_msg() : "");
	close(s->sock);
	return NULL;
}

struct server *server_begin(bool with_config)
{
	struct server *s = calloc(1, sizeof(*s));

	CHECK(s);
	s->sock = front_open(&s->f);
	s->stop = eventfd(0, EFD_CLOEXEC);
	memcpy(s->d.config, "configuration...", sizeof(s->d.config));
	s->d.dev = (struct virtio_device){
		.ops = &ops, .name = "test", .features = 1, .queue_count = 3};
	if (with_config) {
		s->d.dev.config = s->d.config;
		s->d.dev.config_len = sizeof(s->d.config);
	}
	virtio_init(&s->d.dev, NULL);
	s->d.dev.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	CHECK(pthread_create(&s->thread, NULL, server_run, s) == 0);
	return s;
}

void server_end(struct server *s, int result, const char *why)
{
	shutdown(s->f.sock, SHUT_WR);
	CHECK(pthread_join(s->thread, NULL) == 0);
	if (s->result != result || (why && !strstr(s->why, why)))
		fprintf(stderr, "# the server ended with %d: %s; expected %d: %s\n", s->result,
			s->why, result, why ? why : "");
	CHECK(s->result == result && (!why || strstr(s->why, why)));
	/*
	 * After the end of the connection, whatever its reason, the device must have no memory,
	 * signal or status left.
	 */
	CHECK(s->d.dev.memory == NULL && s->d.dev.signal == NULL && s->d.dev.status == 0);
	CHECK(s->d.held_count == 0 && s->d.resets > 0);
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		CHECK(!s->d.dev.queues[i].ready);
	virtio_release(&s->d.dev);
	close(s->d.dev.event_fd);
	close(s->stop);
	front_close(&s->f);
	free(s);
}

void server_request(struct server *s, unsigned slot, char what)
{
	s->f.ram[DATA_IN + slot * 64] = (uint8_t)what;
	memset(s->f.ram + DATA_OUT + slot * 64, 0, 64);
	front_desc(&s->f, 2 * slot, GUEST + DATA_IN + slot * 64UL, 1, VRING_DESC_F_NEXT,
		(uint16_t)(2 * slot + 1));
	front_desc(&s->f, 2 * slot + 1, GUEST + DATA_OUT + slot * 64UL, 64, VRING_DESC_F_WRITE, 0);
	front_kick(&s->f, (uint16_t)(2 * slot));
}

bool server_answered(const struct server *s, unsigned slot, const char *text)
{
	return strcmp((const char *)s->f.ram + DATA_OUT + slot * 64, text) == 0;
}

uint16_t server_used_index(const struct server *s)
{
	return __atomic_load_n(&((struct vring_used *)(s->f.ram + USED))->idx, __ATOMIC_SEQ_CST);
}

void server_settle(struct server *s)
{
	CHECK(front_ask(&s->f, 17, 0) == 3);
}

void server_check_works(struct server *s)
{
	server_request(s, 0, 'E');
	CHECK(front_wait(&s->f) == 4 && server_answered(s, 0, "echo"));
}
