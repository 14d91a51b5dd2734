/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. Output goes from guest memory to `out` by writev(2), without a buffer in
 * between. If `out` takes only a part, the request stays open, so the guest waits until the reader
 * of `out` has made room. Input is read straight into the guest's buffers, and only if the guest
 * has given some.
 */
#include <linux/virtio_ids.h>
#include <string.h>

#include "vm/virtio/devices.h"

enum { QUEUE_RX, QUEUE_TX }; /* the queues of a console, which is a device with one port */

/*
 * Writes the rest of the output request c->tx. Returns 1 if all is written, or 0 if `out` takes no
 * more at the moment.
 */
static int send_output(struct virtio_console *c)
{
	while (c->sent < c->tx.read_len) {
		unsigned n = virtq_slice(&c->tx, false, c->sent, UINT32_MAX, c->part);
		ssize_t done = c->out < 0 ? -1 : writev(c->out, c->part, (int)n);
		if (done < 0 && c->out >= 0 && errno == EINTR)
			continue;
		if (done < 0 && c->out >= 0 && errno == EAGAIN) {
			c->out_full = true;
			return 0;
		}
		/*
		 * Drops the output, because its reader has closed the other end and the guest must
		 * not wait for a reader.
		 */
		if (done <= 0)
			break;
		c->sent += (uint64_t)done;
	}
	c->sending = false;
	c->out_full = false;
	virtq_push(&c->dev.queues[c->tx_queue], c->tx.head, 0);
	return 1;
}

static int serve_tx(struct virtio_console *c, unsigned budget)
{
	struct virtq *q = &c->dev.queues[c->tx_queue];

	if (c->sending && send_output(c) == 0)
		return 0;
	for (; budget > 0; budget--) {
		int r = virtq_next(q, &c->tx);
		if (r < 0)
			return r;
		if (r == 0)
			break;
		if (c->tx.writable > 0)
			return err_set(EPROTO, "console output with a buffer to write to: expected "
					       "only buffers to read");
		c->sending = true;
		c->sent = c->skip;
		c->skip = 0;
		if (send_output(c) == 0)
			break;
	}
	virtio_signal_queue(&c->dev, c->tx_queue);
	return budget == 0;
}

static int serve_rx(struct virtio_console *c, unsigned budget)
{
	struct virtq *q = &c->dev.queues[c->rx_queue];

	c->in_full = false;
	while (budget > 0 && c->in >= 0 && !c->in_end && !c->closed) {
		int r = virtq_next(q, &c->rx);
		if (r < 0)
			return r;
		if (r == 0) {
			c->in_full = true;
			break;
		}
		budget--;
		if (c->rx.readable > 0 || c->rx.write_len == 0)
			return err_set(
				EPROTO, "console input: expected only writable buffers, with room");
		ssize_t n = readv(c->in, c->rx.iov, (int)c->rx.writable);
		if (n > 0) {
			virtq_push(q, c->rx.head, (uint32_t)n);
			continue;
		}
		/*
		 * Puts the guest's input request back into the queue, because there is no input for
		 * it yet.
		 */
		virtq_unpop(q, 1);
		c->in_end = n == 0 || (errno != EAGAIN && errno != EINTR);
		break;
	}
	virtio_signal_queue(&c->dev, c->rx_queue);
	return budget == 0;
}

int virtio_console_serve(struct virtio_device *d, unsigned index, unsigned budget)
{
	struct virtio_console *c = (struct virtio_console *)d;

	return index == c->rx_queue ? serve_rx(c, budget) : serve_tx(c, budget);
}

void virtio_console_reset(struct virtio_device *d)
{
	struct virtio_console *c = (struct virtio_console *)d;

	c->sending = c->out_full = c->in_full = false;
	c->sent = c->skip = 0;
}

void virtio_console_quiesce(struct virtio_device *d, unsigned index)
{
	struct virtio_console *c = (struct virtio_console *)d;

	if (index != c->tx_queue || !c->sending)
		return;
	virtq_unpop(&d->queues[c->tx_queue], 1);
	c->skip = c->sent;
	c->sending = c->out_full = false;
}

int virtio_console_save(struct virtio_device *d, struct snapshot_writer *w)
{
	const struct virtio_console *c = (const struct virtio_console *)d;

	return snapshot_put(w, &c->skip, sizeof(c->skip));
}

int virtio_console_load(struct virtio_device *d, struct snapshot_part *p)
{
	struct virtio_console *c = (struct virtio_console *)d;

	return snapshot_get(p, &c->skip, sizeof(c->skip));
}

static const struct virtio_ops ops = {.serve = virtio_console_serve,
	.reset = virtio_console_reset,
	.quiesce = virtio_console_quiesce,
	.save = virtio_console_save,
	.load = virtio_console_load};

void virtio_console_init(struct virtio_console *c, const struct vm_memory *m, int in, int out)
{
	*c = (struct virtio_console){
		.in = in, .out = out, .rx_queue = QUEUE_RX, .tx_queue = QUEUE_TX};
	c->dev = (struct virtio_device){.ops = &ops,
		.name = "console",
		.id = VIRTIO_ID_CONSOLE,
		.config = &c->config,
		.config_len = sizeof(c->config),
		.queue_count = 2};
	virtio_init(&c->dev, m);
}

static bool wants_event(struct virtio_console *c, bool output)
{
	pthread_mutex_lock(&c->dev.lock);
	bool yes = virtio_is_live(&c->dev) &&
		   (output ? c->out_full
			   : c->in >= 0 && !c->in_end && !c->in_full && !c->closed &&
					   c->dev.queues[c->rx_queue].ready);
	pthread_mutex_unlock(&c->dev.lock);
	return yes;
}

bool virtio_console_wants_input(struct virtio_console *c)
{
	return wants_event(c, false);
}

bool virtio_console_wants_output(struct virtio_console *c)
{
	return wants_event(c, true);
}

int virtio_console_input(struct virtio_console *c)
{
	return virtio_kick(&c->dev, c->rx_queue);
}

int virtio_console_output(struct virtio_console *c)
{
	return virtio_kick(&c->dev, c->tx_queue);
}
