/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhost-user as a transport, with a device of the test's own behind it and a fake front end before
 * it: what the protocol asks for, and front ends and drivers that break it. The server is a thread
 * of the test's child process.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/str.h"
#include "unit/rig/child.h"
#include "unit/rig/vhost_front.h"
#include "vm/vhost/back.h"

#define PROTOCOL_REPLY_ACK 8
#define PROTOCOL_CONFIG (1 << 9)
#define PROTOCOL_RESET (1 << 13)
#define HELD_MAX 16

/* Answers a request 'E' at once, and keeps one 'H' until its event_fd is readable. */
struct device {
	struct virtio_device dev;
	struct virtq_chain chain;
	struct {
		unsigned queue;
		struct virtq_chain chain;
	} held[HELD_MAX];
	unsigned held_count;
	uint8_t config[16];
	unsigned served, resets, quiesced; /* quiesced: calls */
};

struct server {
	struct front f;
	struct device d;
	pthread_t thread;
	int sock, stop;
	int result;
	char why[ERR_MAX];
};

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

	CHECK(d->held_count == 0); /* queues stop first, and are asked to quiesce */
	d->resets++;
}

static void configure(struct virtio_device *dev, uint32_t offset, const void *data, unsigned len)
{
	memcpy(((struct device *)dev)->config + offset, data, len);
}

static const struct virtio_ops ops = {
	.serve = serve, .reset = reset, .event = event, .configure = configure, .quiesce = quiesce};

static void *run(void *arg)
{
	struct server *s = arg;

	s->result = vhost_serve(&s->d.dev, s->sock, s->stop);
	snprintf(s->why, sizeof(s->why), "%s", s->result < 0 ? err_msg() : "");
	close(s->sock);
	return NULL;
}

static struct server *begin(bool with_config)
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
	CHECK(pthread_create(&s->thread, NULL, run, s) == 0);
	return s;
}

/* Hangs up, and waits for the server's end: `result`, with a message that mentions `why`. */
static void end(struct server *s, int result, const char *why)
{
	shutdown(s->f.sock, SHUT_WR);
	CHECK(pthread_join(s->thread, NULL) == 0);
	if (s->result != result || (why && !strstr(s->why, why)))
		fprintf(stderr, "# the server ended with %d: %s; expected %d: %s\n", s->result,
			s->why, result, why ? why : "");
	CHECK(s->result == result && (!why || strstr(s->why, why)));
	/* Whatever happened, nothing of the connection is left in the device. */
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

/* Offers a request of one letter on queue 1. */
static void request(struct server *s, unsigned slot, char what)
{
	s->f.ram[DATA_IN + slot * 64] = (uint8_t)what;
	memset(s->f.ram + DATA_OUT + slot * 64, 0, 64);
	front_desc(&s->f, 2 * slot, GUEST + DATA_IN + slot * 64UL, 1, VRING_DESC_F_NEXT,
		(uint16_t)(2 * slot + 1));
	front_desc(&s->f, 2 * slot + 1, GUEST + DATA_OUT + slot * 64UL, 64, VRING_DESC_F_WRITE, 0);
	front_kick(&s->f, (uint16_t)(2 * slot));
}

static bool says(const struct server *s, unsigned slot, const char *text)
{
	return strcmp((const char *)s->f.ram + DATA_OUT + slot * 64, text) == 0;
}

static uint16_t used_index(const struct server *s)
{
	return __atomic_load_n(&((struct vring_used *)(s->f.ram + USED))->idx, __ATOMIC_SEQ_CST);
}

/* The server has acted on all that was sent: it answers in order. */
static void settle(struct server *s)
{
	CHECK(front_ask(&s->f, 17, 0) == 3);
}

static void check_works(struct server *s)
{
	request(s, 0, 'E');
	CHECK(front_wait(&s->f) == 4 && says(s, 0, "echo"));
}

static void run_works(void)
{
	struct server *s = begin(false);

	CHECK(front_ask(&s->f, 1, 0) == (UINT64_C(1) << 32 | 1U << 30 | 1U << 29 | 1U << 28 | 1));
	CHECK(front_ask(&s->f, 15, 0) == (1 | PROTOCOL_REPLY_ACK | PROTOCOL_RESET));
	CHECK(front_ask(&s->f, 17, 0) == 3);
	front_start_queue(&s->f);
	check_works(s);
	check_works(s);
	/* Answers in another order than that of the requests. */
	request(s, 1, 'H');
	request(s, 0, 'E');
	while (used_index(s) != 3)
		usleep(1000);
	CHECK(says(s, 0, "echo") && says(s, 1, ""));
	CHECK(write(s->d.dev.event_fd, &(uint64_t){1}, 8) == 8);
	CHECK(front_wait(&s->f) == 5 && says(s, 1, "event"));
	end(s, 0, NULL);
}

/* From a base near the end of the index, and with the largest ring. */
static void run_resumes(void)
{
	struct server *s = begin(false);
	struct vring_avail *avail = (void *)(s->f.ram + AVAIL);
	struct vring_used *used = (void *)(s->f.ram + USED);

	front_start_queue(&s->f);
	CHECK(front_ask(&s->f, 11, 1) == 1);
	s->f.avail = avail->idx = used->idx = 0xfffe;
	front_set_vring(&s->f, 10, 1, 0xfffe);
	front_set_fd(&s->f, 12, 1, s->f.kick);
	for (int i = 0; i < 5; i++)
		check_works(s);
	CHECK(front_ask(&s->f, 11, 1) == (UINT64_C(3) << 32 | 1));
	CHECK(front_ask(&s->f, 11, 1) == (UINT64_C(3) << 32 | 1)); /* stopped already */
	/* A ring of 1024. */
	front_set_memory(&s->f, GUEST, MEMORY, USER, 0);
	front_set_vring(&s->f, 8, 1, 1024);
	front_set_addr(&s->f, 1, USER + 0x10000, USER + 0x20000, USER + 0x30000);
	front_set_vring(&s->f, 10, 1, 0);
	front_set_fd(&s->f, 12, 1, s->f.kick);
	settle(s);
	CHECK(s->d.dev.queues[1].ready && s->d.dev.queues[1].size == 1024);
	end(s, 0, NULL);
}

/* A queue that stops, is disabled, or whose memory is replaced gives back what is under way. */
static void run_quiesces(void)
{
	struct server *s = begin(false);

	front_start_queue(&s->f);
	request(s, 0, 'H');
	request(s, 1, 'H');
	request(s, 2, 'E');
	while (used_index(s) != 1)
		usleep(1000);
	CHECK(front_ask(&s->f, 11, 1) == (UINT64_C(3) << 32 | 1));
	CHECK(used_index(s) == 3 && says(s, 0, "stopped") && says(s, 1, "stopped"));
	/* Stopped: kicks are not listened to. */
	request(s, 0, 'E');
	settle(s);
	CHECK(used_index(s) == 3);
	front_set_vring(&s->f, 10, 1, 3);
	front_set_fd(&s->f, 12, 1, s->f.kick);
	CHECK(front_wait(&s->f) == 4 && says(s, 0, "echo"));
	/* Disabled. */
	request(s, 0, 'H');
	while (__atomic_load_n(&s->d.served, __ATOMIC_SEQ_CST) != 5)
		usleep(1000);
	front_set_vring(&s->f, 18, 1, 0);
	CHECK(front_wait(&s->f) == 7 && says(s, 0, "stopped"));
	request(s, 0, 'E');
	settle(s);
	CHECK(used_index(s) == 5);
	front_set_vring(&s->f, 18, 1, 1);
	CHECK(front_wait(&s->f) == 4);
	/* Other memory: the same bytes elsewhere in the guest. */
	request(s, 0, 'H');
	while (__atomic_load_n(&s->d.served, __ATOMIC_SEQ_CST) != 7)
		usleep(1000);
	unsigned before = s->d.quiesced;
	front_set_memory(&s->f, GUEST, MEMORY, USER, 0);
	CHECK(front_wait(&s->f) == 7 && says(s, 0, "stopped"));
	settle(s);
	CHECK(s->d.quiesced > before);
	check_works(s);
	/* And the connection's end. */
	request(s, 0, 'H');
	while (__atomic_load_n(&s->d.served, __ATOMIC_SEQ_CST) != 9)
		usleep(1000);
	end(s, 0, NULL);
}

/* Kicks that come before the features are agreed upon, or while the queue is not enabled, wait. */
static void run_kick_before_driver_ok(void)
{
	struct server *s = begin(false);

	front_set_memory(&s->f, GUEST, MEMORY, USER, 0);
	front_set_vring(&s->f, 8, 1, QUEUE);
	front_set_addr(&s->f, 1, USER, USER + AVAIL, USER + USED);
	front_set_fd(&s->f, 13, 1, s->f.call);
	front_set_fd(&s->f, 12, 1, s->f.kick);
	front_set_vring(&s->f, 18, 1, 1);
	request(s, 0, 'E');
	settle(s);
	usleep(20000);
	CHECK(s->d.served == 0 && used_index(s) == 0);
	/* Features that concern the rings can't change any more; none at all is what they were. */
	front_set(&s->f, 2, 0);
	CHECK(front_wait(&s->f) == 4);
	end(s, 0, NULL);

	s = begin(false);
	front_start_queue(&s->f);
	front_set_vring(&s->f, 18, 1, 0);
	settle(s);
	request(s, 0, 'E');
	usleep(20000);
	CHECK(s->d.served == 0);
	front_set_vring(&s->f, 18, 1, 1);
	CHECK(front_wait(&s->f) == 4);
	front_set(&s->f, 2, UINT64_C(1) << 32);
	end(s, -EPROTO, "features changed while queue 1 runs");
}

struct config_message {
	uint32_t request, flags, size, offset, len, config_flags;
	uint8_t data[256];
};

static int ask_config(struct server *s, uint32_t offset, uint32_t len, struct config_message *m)
{
	*m = (struct config_message){
		.request = 24, .flags = 1, .size = 12, .offset = offset, .len = len};
	front_send_raw(&s->f, m, 24, NULL, 0);
	return (int)recv(s->f.sock, m, sizeof(*m), 0);
}

static void run_config(void)
{
	struct server *s = begin(true);
	struct config_message m;

	CHECK(front_ask(&s->f, 15, 0) & PROTOCOL_CONFIG);
	front_set(&s->f, 16, PROTOCOL_CONFIG);
	CHECK(ask_config(s, 0, 16, &m) == 40 && m.flags == 5 && m.size == 28 && m.len == 16);
	CHECK(memcmp(m.data, "configuration...", 16) == 0);
	CHECK(ask_config(s, 13, 3, &m) == 27 && memcmp(m.data, "...", 3) == 0);
	/* An error is an answer without payload. */
	static const uint32_t bad[][2] = {{0, 17}, {16, 1}, {17, 0}, {UINT32_MAX, 1},
		{1, UINT32_MAX}, {UINT32_MAX, UINT32_MAX}, {0, 257}};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK(ask_config(s, bad[i][0], bad[i][1], &m) == 12 && m.size == 0);
	m = (struct config_message){
		.request = 25, .flags = 1, .size = 15, .offset = 13, .len = 3, .data = "new"};
	front_send_raw(&s->f, &m, 27, NULL, 0);
	CHECK(ask_config(s, 10, 6, &m) == 30 && memcmp(m.data, "ionnew", 6) == 0);
	/* Longer than what was sent. */
	m = (struct config_message){.request = 25, .flags = 1, .size = 13, .offset = 0, .len = 3};
	front_send_raw(&s->f, &m, 25, NULL, 0);
	end(s, -EPROTO, "of the configuration in a payload of 13");

	/* Not negotiated; and not even offered. */
	s = begin(true);
	CHECK(ask_config(s, 0, 1, &m) <= 0);
	end(s, -EPROTO, "request 24, which was not negotiated");
	s = begin(false);
	front_set(&s->f, 16, PROTOCOL_CONFIG);
	end(s, -EPROTO, "protocol features 0x200, expected some of 0x2009");
}

static void run_reset(void)
{
	struct server *s = begin(false);
	struct front_message m = {.request = 34};

	front_set(&s->f, 16, PROTOCOL_RESET);
	front_start_queue(&s->f);
	check_works(s);
	request(s, 0, 'H');
	while (__atomic_load_n(&s->d.served, __ATOMIC_SEQ_CST) != 2)
		usleep(1000);
	front_send(&s->f, &m, NULL, 0);
	settle(s);
	CHECK(says(s, 0, "stopped") && s->d.resets == 1 && s->d.dev.status == 0);
	CHECK(front_ask(&s->f, 11, 1) == 1);
	/* As new. */
	memset(s->f.ram, 0, 0x4000);
	s->f.avail = 0;
	front_start_queue(&s->f);
	check_works(s);
	end(s, 0, NULL);
	/* Stopping queues is no reset: a paused machine goes on. */
	s = begin(false);
	front_start_queue(&s->f);
	CHECK(front_ask(&s->f, 11, 1) == 1);
	CHECK(s->d.resets == 0);
	end(s, 0, NULL);
}

static void run_stop(void)
{
	struct server *s = begin(false);
	struct front_message half = {.request = 18, .flags = 1, .size = 8};

	front_start_queue(&s->f);
	check_works(s);
	request(s, 0, 'H');
	while (__atomic_load_n(&s->d.served, __ATOMIC_SEQ_CST) != 2)
		usleep(1000);
	CHECK(write(s->stop, &(uint64_t){1}, 8) == 8);
	CHECK(pthread_join(s->thread, NULL) == 0);
	CHECK(s->result == 0 && says(s, 0, "stopped"));
	/* The device can be served again, by another connection. */
	CHECK(read(s->stop, &(uint64_t){0}, 8) == 8);
	struct front old = s->f;
	memset(old.ram, 0, 0x4000);
	s->sock = front_open(&s->f);
	CHECK(pthread_create(&s->thread, NULL, run, s) == 0);
	front_close(&old);
	front_start_queue(&s->f);
	check_works(s);
	/* In the middle of a message, too. */
	front_send_raw(&s->f, &half, 14, NULL, 0);
	usleep(20000);
	CHECK(write(s->stop, &(uint64_t){1}, 8) == 8);
	end(s, 0, NULL);
}

static void run_acks(void)
{
	struct server *s = begin(false);
	struct front_message m = {.request = 8, .flags = 8, .size = 8, .p.u32 = {1, QUEUE}};

	front_set(&s->f, 16, PROTOCOL_REPLY_ACK);
	front_send(&s->f, &m, NULL, 0);
	CHECK(recv(s->f.sock, &m, sizeof(m), 0) == 20 && m.request == 8 && m.flags == 5 &&
		m.size == 8 && m.p.u64[0] == 0);
	m = (struct front_message){.request = 8, .flags = 8, .size = 8, .p.u32 = {3, QUEUE}};
	front_send(&s->f, &m, NULL, 0);
	CHECK(recv(s->f.sock, &m, sizeof(m), 0) == 20 && m.p.u64[0] == 1);
	end(s, -EPROTO, "queue 3, expected less than 3");
}

/* SET_MEM_TABLE of two regions: {guest, size, user, offset} each. */
static void set_two(struct server *s, const uint64_t a[4], const uint64_t b[4])
{
	struct front_message m = {.request = 5, .size = 72, .p.u64 = {2}};
	int fds[2] = {s->f.memory, s->f.memory};

	memcpy(&m.p.u64[1], a, 32);
	memcpy(&m.p.u64[5], b, 32);
	front_send(&s->f, &m, fds, 2);
}

static void run_regions(void)
{
	static const struct {
		uint64_t a[4], b[4];
		const char *why;
	} bad[] = {
		{{0, 0x2000, USER, 0}, {0x1000, 0x2000, USER + 0x10000, 0}, "overlaps"},
		{{0x1000, 0x2000, USER, 0}, {0, 0x10000, USER + 0x10000, 0}, "overlaps"},
		{{0, 0x2000, USER, 0}, {0x10000, 0x2000, USER + 0x1000, 0}, "overlaps"},
		{{0, 0x2000, USER, 0}, {0, 0x2000, USER, 0}, "overlaps"},
		{{0, 0x2000, USER, 0}, {UINT64_MAX - 0xfff, 0x2000, USER + 0x10000, 0}, "wrap"},
		{{0, 0x2000, USER, 0}, {0x10000, 0x2000, UINT64_MAX - 0xfff, 0}, "wrap"},
		{{0, 0x2000, USER, 0}, {0x10000, 0x2000, USER + 0x10000, INT64_MAX - 0xfff},
			"wrap"},
		{{0, 0x2000, USER, 0}, {0x10000, 0, USER + 0x10000, 0}, "wrap"},
		{{0, 0x2000, USER, 0}, {0x10001, 0x2000, USER + 0x10000, 0}, "whole pages"},
		{{0, 0x2000, USER, 0}, {0x10000, 0x2000, USER + 0x10000, 1}, "whole pages"},
		{{0, 0x2000, USER, 0}, {0x10000, 0x2000, USER + 0x10000, MEMORY - 0x1000},
			"beyond its file"},
	};
	static const uint64_t low[4] = {0, 0x100000, USER + 0x1000000, 0};
	static const uint64_t high[4] = {GUEST, MEMORY, USER, 0};
	struct server *s;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		s = begin(false);
		set_two(s, bad[i].a, bad[i].b);
		end(s, -EPROTO, bad[i].why);
	}
	/* Two that are neighbours of nothing; a request in each, and one across the end of one. */
	s = begin(false);
	front_start_queue(&s->f);
	set_two(s, low, high);
	settle(s);
	check_works(s);
	s->f.ram[0x5000] = 'E';
	front_desc(&s->f, 0, 0x5000, 1, VRING_DESC_F_NEXT, 1);
	front_kick(&s->f, 0);
	CHECK(front_wait(&s->f) == 4);
	front_desc(&s->f, 0, 0x100000 - 1, 2, VRING_DESC_F_NEXT, 1);
	front_kick(&s->f, 0);
	CHECK(front_wait(&s->f) == -1);
	end(s, -EPROTO, "2 bytes at 0xfffff of chain 0 are not in guest memory");
	/* A file that can't be mapped, one that is no file. */
	s = begin(false);
	struct front_message m = {.request = 5, .size = 40, .p.u64 = {1, GUEST, 4096, USER, 0}};
	front_send(&s->f, &m, &s->f.kick, 1);
	end(s, -EPROTO, "beyond its file");
	/* No memory at all, while a queue runs: its rings are gone. */
	s = begin(false);
	front_start_queue(&s->f);
	request(s, 0, 'H');
	while (__atomic_load_n(&s->d.served, __ATOMIC_SEQ_CST) != 1)
		usleep(1000);
	m = (struct front_message){.request = 5, .size = 8};
	front_send(&s->f, &m, NULL, 0);
	end(s, -EPROTO, "which is not in the memory that it told of");
}

/* Each ring in turn outside, at the end of, or crooked in memory. */
static void run_rings(void)
{
	static const uint64_t at[] = {USER - 16, USER + MEMORY, USER + MEMORY - 16, USER + 1, 0,
		UINT64_MAX, UINT64_MAX - 15};
	struct server *s;

	for (size_t i = 0; i < 3 * ARRAY_SIZE(at); i++) {
		uint64_t ring[3] = {USER, USER + AVAIL, USER + USED};

		ring[i % 3] = at[i / 3];
		s = begin(false);
		front_set(&s->f, 2, UINT64_C(1) << 32);
		front_set_memory(&s->f, GUEST, MEMORY, USER, 0);
		front_set_vring(&s->f, 8, 1, QUEUE);
		front_set_addr(&s->f, 1, ring[0], ring[1], ring[2]);
		front_set_fd(&s->f, 12, 1, s->f.kick);
		end(s, -EPROTO, "queue 1: ");
	}
	/* Before there is any memory. */
	s = begin(false);
	front_set_vring(&s->f, 8, 1, QUEUE);
	front_set_addr(&s->f, 1, USER, USER + AVAIL, USER + USED);
	front_set_fd(&s->f, 12, 1, s->f.kick);
	end(s, -EPROTO, "descriptor ring at the monitor's address");
	/* A driver that breaks its queue ends the connection, with what it did. */
	s = begin(false);
	front_start_queue(&s->f);
	request(s, 0, 'H');
	front_desc(&s->f, 6, GUEST - 1, 1, 0, 0);
	front_kick(&s->f, 6);
	while (front_wait(&s->f) != -1)
		;
	end(s, -EPROTO, "test: queue 1: 1 bytes at 0x3fffffff of chain 6");
}

/* Descriptors that would block the server or kill it, too few and too many. */
static void run_descriptors(void)
{
	struct front_message kick = {.request = 12, .size = 8, .p.u64 = {1}};
	struct server *s;
	int many[16], pipes[2];

	for (unsigned how = 0; how < 9; how++) {
		s = begin(false);
		for (size_t i = 0; i < ARRAY_SIZE(many); i++)
			many[i] = s->f.kick;
		CHECK(pipe(pipes) == 0);
		close(pipes[0]);
		front_start_queue(&s->f);
		switch (how) {
		case 0:
			front_set_fd(&s->f, 13, 1, pipes[1]);
			break;
		case 1:
			front_set_fd(&s->f, 12, 1, pipes[1]);
			break;
		case 2:
			front_set_fd(&s->f, 13, 1, s->f.sock);
			break;
		case 3:
			front_set_fd(&s->f, 12, 1, s->f.memory);
			break;
		case 4: /* none, and yet no flag that says so; and the reverse */
			front_send(&s->f, &kick, NULL, 0);
			break;
		case 5:
			front_set_fd(&s->f, 13, 1 | 0x100, s->f.call);
			break;
		case 6:
			front_send(&s->f, &kick, many, 2);
			break;
		case 7:
			front_send(&s->f, &kick, many, 16);
			break;
		default: /* of a queue that is not there */
			front_set_fd(&s->f, 14, 3, s->f.kick);
		}
		close(pipes[1]);
		end(s, -EPROTO, how < 4 ? "is no eventfd" : "");
	}
}

/* Every request with every length, and at every byte of it the front end's death. */
static void run_garbage(void)
{
	static const uint32_t sizes[] = {0, 1, 7, 8, 11, 12, 16, 39, 40, 72, 264, 272};
	struct front_message m;
	struct server *s;
	unsigned seed = 1;

	for (uint32_t r = 0; r < 45; r++) {
		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
			s = begin(r & 1);
			front_set(&s->f, 16, r & 1 ? PROTOCOL_CONFIG : PROTOCOL_RESET);
			front_start_queue(&s->f);
			m = (struct front_message){.request = r, .flags = 1, .size = sizes[i]};
			for (size_t n = 0; n < ARRAY_SIZE(m.p.u32); n++)
				m.p.u32[n] = i & 1 ? (uint32_t)rand_r(&seed) : UINT32_MAX;
			front_send(&s->f, &m, &s->f.kick, i % 3 == 0);
			shutdown(s->f.sock, SHUT_WR);
			CHECK(pthread_join(s->thread, NULL) == 0);
			CHECK(s->result == 0 || s->result == -EPROTO);
			CHECK(!s->d.dev.memory && s->d.held_count == 0);
			virtio_release(&s->d.dev);
			close(s->d.dev.event_fd);
			close(s->stop);
			front_close(&s->f);
			free(s);
		}
	}
	for (size_t cut = 1; cut < 52; cut++) {
		s = begin(false);
		m = (struct front_message){
			.request = 5, .flags = 1, .size = 40, .p.u64 = {1, GUEST, MEMORY, USER, 0}};
		front_send_raw(&s->f, &m, cut, &s->f.memory, 1);
		end(s, -EPROTO, "the connection ends");
	}
}

/* A front end that asks on and on and reads nothing. */
static void run_deaf(void)
{
	struct server *s = begin(false);
	struct front_message m = {.request = 1, .flags = 1};

	for (int i = 0; i < 100000; i++)
		if (send(s->f.sock, &m, 12, MSG_NOSIGNAL) < 0)
			break;
	end(s, -EPROTO, "does not read its replies");
}

#define TEST(name) \
	static void test_##name(void **state) \
	{ \
		in_child(run_##name); \
	}
TEST(works)
TEST(resumes)
TEST(quiesces)
TEST(kick_before_driver_ok)
TEST(config)
TEST(reset)
TEST(stop)
TEST(acks)
TEST(regions)
TEST(rings)
TEST(descriptors)
TEST(garbage)
TEST(deaf)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_works),
		cmocka_unit_test(test_resumes),
		cmocka_unit_test(test_quiesces),
		cmocka_unit_test(test_kick_before_driver_ok),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_acks),
		cmocka_unit_test(test_regions),
		cmocka_unit_test(test_rings),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_deaf),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
