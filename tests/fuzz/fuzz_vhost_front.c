/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the vhost-user front end with a hostile back end; the driver of the device behaves well. A
 * thread answers each request as the input says. Besides the sanitizers, the fuzzer checks that
 * nothing waits longer than its time limit, that a device that has failed says so once and stays
 * failed, and that every descriptor is closed.
 *
 * Byte 0: bit 0 chooses a disk (else a file system), bit 1 says that the back end may reconnect,
 * bits 2-4 are the protocol features that it offers. Byte 1: number of bytes of operations that
 * follow; the rest is for the back end. Operations, by the first byte modulo 7:
 *   0 bring the device up      1 reset it             2 offset, value: write the configuration
 *   3 run the event loop once  4 give a device a new connection if it asked for one
 *   5 register, value: write a register
 *   6 odd: the back end sends without being asked; even: it hangs up
 * The back end's answer to each request that has one, modulo 8:
 *   0-2 the right answer       3 len, bytes: overwrite its header and what follows
 *   4 len, bytes: overwrite its payload and keep its length        5 it hangs up
 *   6 the right answer with a descriptor                           7 half of it, and then the rest
 */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "unit/rig/descriptors.h"
#include "unit/rig/vhost_back.h"
#include "unit/rig/vhost_device.h"
#include "vm/virtio/fs.h"
#include "vm/virtio/vhost_blk.h"

#define TIMEOUT_MS 20

struct input {
	const uint8_t *p;
	size_t left;
};

struct foe {
	struct back b;
	struct input in;
	bool running;
};

static uint8_t take(struct input *in)
{
	return in->left > 0 ? in->left--, *in->p++ : 0;
}

static void take_over(struct input *in, uint8_t *to, size_t len)
{
	for (size_t n = take(in); n > 0 && len > 0 && in->left > 0; n--, len--)
		*to++ = take(in);
}

/*
 * Sends the back end's answer to a request in the way that the input says. Returns false if the
 * device under test has hung up.
 */
static bool answer(struct foe *f, struct back_message *m)
{
	size_t len = sizeof(m->h) + m->h.size;

	switch (take(&f->in) % 8) {
	case 3:
		take_over(&f->in, (uint8_t *)&m->h, sizeof(m->h) + sizeof(m->p));
		len = sizeof(m->h) + m->h.size;
		len = len < sizeof(m->h) + sizeof(m->p) ? len : sizeof(m->h) + sizeof(m->p);
		break;
	case 4:
		take_over(&f->in, (uint8_t *)&m->p, m->h.size);
		break;
	case 5:
		return false;
	case 6:
		back_send(&f->b, &m->h, len, true);
		return true;
	case 7:
		back_send(&f->b, &m->h, 5, false);
		back_send(&f->b, (uint8_t *)&m->h + 5, len - 5, false);
		return true;
	default:
		if (m->h.request == VHOST_USER_GET_INFLIGHT_FD) {
			back_send(&f->b, &m->h, len, true);
			return true;
		}
	}
	back_send(&f->b, &m->h, len, false);
	return true;
}

static void *serve(void *arg)
{
	struct foe *f = arg;
	struct back_message m;
	bool on = true;

	while (on && back_receive(&f->b, &m)) {
		if (!back_answer(&f->b, &m))
			continue;
		m.h.flags = 5;
		on = answer(f, &m);
		/*
		 * After the first answer the front end may use any protocol feature that the back
		 * end has offered, such as acknowledgements.
		 */
		f->b.protocol |= BACK_ACK;
	}
	shutdown(f->b.sock, SHUT_RDWR);
	return NULL;
}

/* Starts the back end's thread. Returns the end of the socket that the device under test gets. */
static int start(struct foe *f, unsigned protocol, struct input in)
{
	int s[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s) < 0)
		abort();
	f->in = in;
	f->b = (struct back){.sock = s[1],
		.features = BACK_V1 | BACK_PROTOCOL_BIT | BACK_RINGS,
		.protocol = BACK_MQ | (protocol & 1 ? BACK_ACK : 0) |
			    (protocol & 2 ? 0 : BACK_CONFIG) | (protocol & 4 ? 0 : BACK_INFLIGHT),
		.queues = 2};
	f->running = true;
	if (pthread_create(&f->b.thread, NULL, serve, f) != 0)
		abort();
	return s[0];
}

static void stop(struct foe *f)
{
	if (!f->running)
		return;
	shutdown(f->b.sock, SHUT_RDWR);
	pthread_join(f->b.thread, NULL);
	fd_close(&f->b.sock);
	f->running = false;
}

/*
 * Gives the device under test a new connection if it has asked for one, as engine/connector.c does.
 */
static void come_back(struct foe *f, int channel, unsigned protocol)
{
	char byte;

	if (channel < 0 || recv(channel, &byte, 1, MSG_DONTWAIT) != 1)
		return;
	stop(f);
	struct input rest = f->in;
	_cleanup_fd_ int fd = take(&rest) % 8 ? start(f, protocol, rest) : -EBADF;
	if (fd_send(channel, "", 1, fd) < 0)
		abort();
}

static void play(struct wired *w, struct foe *f, struct input in, int channel, unsigned protocol)
{
	struct rig *g = &w->g;

	while (in.left > 0) {
		switch (take(&in) % 7) {
		case 0:
			(void)negotiate(g, V1 | g->dev->features);
			for (unsigned i = 0; i < g->dev->queue_count && i < 2; i++)
				set_queue(g, i, DESC(i), AVAIL(i), USED(i));
			set(g, VIRTIO_MMIO_STATUS, 15);
			break;
		case 1:
			set(g, VIRTIO_MMIO_STATUS, 0);
			break;
		case 2: {
			uint64_t offset = VIRTIO_MMIO_CONFIG + take(&in);
			set(g, offset, take(&in) * 0x01010101U);
			break;
		}
		case 3:
			(void)wired_serve_event(w, 1);
			break;
		case 4:
			come_back(f, channel, protocol);
			break;
		case 6:
			if (take(&in) & 1)
				back_send(&f->b, "unasked", 7, false);
			else
				shutdown(f->b.sock, SHUT_RDWR);
			break;
		default: {
			uint64_t offset = take(&in) * 4UL;
			set(g, offset, take(&in));
		}
		}
	}
}

/*
 * Checks that a device that has failed reports it once, whatever happens then, and does not start
 * again.
 */
static void check(struct wired *w, struct vhost_user *v)
{
	if (w->lost > 1 || (w->lost && !v->failed))
		abort();
	if (!v->failed || v->why[0] == '\0')
		return;
	(void)wired_serve_event(w, 0);
	if (w->lost != 1 || strcmp(w->why, v->why) != 0 || v->dev.event_fd >= 0)
		abort();
	(void)negotiate(&w->g, V1);
	set(&w->g, VIRTIO_MMIO_STATUS, 15);
	if (v->dev.status & VIRTIO_CONFIG_S_DRIVER_OK && virtio_is_live(&v->dev))
		abort();
}

static void run(struct input in)
{
	static struct virtio_fs fs;
	static struct vhost_user disk;
	static struct wired w;
	static struct foe f;
	unsigned kind = take(&in), protocol = kind >> 2;
	size_t ops = take(&in);
	int ends[2] = {-EBADF, -EBADF};

	ops = ops < in.left ? ops : in.left;
	struct vhost_user *v = kind & 1 ? &disk : &fs.vhost;
	bool back = (kind & 3) == 3;
	if (back && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		abort();
	w = (struct wired){.lost = 0};
	rig_memory(&w.g);
	int sock = start(&f, protocol, (struct input){in.p + ops, in.left - ops});
	int r = kind & 1 ? virtio_blk_remote_init(v, &w.g.memory,
				   &(struct virtio_blk_remote_options){.sock = sock,
					   .peer = "a foe",
					   .reconnect = back ? ends[0] : 0,
					   .queues = (kind >> 2 & 1) + 1})
			 : virtio_fs_init(&fs, &w.g.memory, "share", sock, false);
	if (r >= 0) {
		v->timeout_ms = TIMEOUT_MS;
		wired_attach(&w, v);
		play(&w, &f, (struct input){in.p, ops}, ends[1], protocol);
		check(&w, v);
		set(&w.g, VIRTIO_MMIO_STATUS, 0);
	}
	stop(&f);
	if (r >= 0) {
		vhost_user_release(v);
		wired_release(&w);
	} else {
		vm_memory_release(&w.g.memory);
	}
	fd_close(&sock);
	fd_close(&ends[0]);
	fd_close(&ends[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned before = descriptors_below(1024);

	signal(SIGPIPE, SIG_IGN);
	run((struct input){data, size});
	err_clear();
	if (descriptors_below(1024) != before)
		abort();
	return 0;
}
