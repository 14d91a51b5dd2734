/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The data of the port flows as that of a console does (console.c). Besides,
 * the driver and the device exchange control messages. The driver says that it is ready, and the
 * device adds the port. The driver says that it has the port, and the device tells it the name, and
 * that the host has opened its end. When a program of the guest opens or closes the port, the
 * driver says so.
 *
 * A message of the device is not queued, but noted as a bit in `owed`, because it always says the
 * same. So a driver that never takes the messages, or asks for them again and again, costs nothing.
 */
#include <endian.h>
#include <linux/virtio_ids.h>
#include <string.h>

#include "vm/virtio/devices.h"

/* The queues of data of port 0, which the device does not have, come first. */
enum { CONTROL_RX = 2, CONTROL_TX, PORT_RX, PORT_TX, QUEUES };
#define PORT 1u
#define PORTS 2u /* the device has room for so many ports: numbers 0 and 1 */

enum { OWES_ADD = 1 << 0, OWES_NAME = 1 << 1, OWES_OPEN = 1 << 2, OWES_ALL = 7 };

/* Writes the first of the owed messages into the driver's buffer. Returns its length. */
static uint32_t write_owed(struct virtio_port *p)
{
	struct virtio_console_control c = {.id = htole32(PORT), .value = htole16(1)};
	const bool names = !(p->owed & OWES_ADD) && (p->owed & OWES_NAME);
	const uint32_t bit = p->owed & OWES_ADD ? OWES_ADD : names ? OWES_NAME : OWES_OPEN;

	c.event = htole16(bit == OWES_ADD    ? VIRTIO_CONSOLE_PORT_ADD
			  : bit == OWES_NAME ? VIRTIO_CONSOLE_PORT_NAME
					     : VIRTIO_CONSOLE_PORT_OPEN);
	p->owed &= ~bit;
	size_t len = virtq_write(&p->control, 0, &c, sizeof(c));
	if (names)
		len += virtq_write(
			&p->control, sizeof(c), p->options.name, strlen(p->options.name));
	return (uint32_t)len;
}

/* Sends the driver the messages that it has not got yet, if it has given buffers for them. */
static int serve_control_rx(struct virtio_port *p, unsigned budget)
{
	struct virtq *q = &p->console.dev.queues[CONTROL_RX];
	const size_t longest = sizeof(struct virtio_console_control) + strlen(p->options.name);

	for (; budget > 0 && p->owed && q->ready; budget--) {
		int r = virtq_next(q, &p->control);
		if (r < 0)
			return r;
		if (r == 0)
			break;
		if (p->control.readable > 0 || p->control.write_len < longest)
			return err_set(EPROTO,
				"a buffer for control messages: expected one to write, with room "
				"for %zu bytes",
				longest);
		virtq_push(q, p->control.head, write_owed(p));
	}
	virtio_signal_queue(&p->console.dev, CONTROL_RX);
	return budget == 0 && p->owed;
}

static void set_open(struct virtio_port *p, bool open)
{
	p->console.closed = !open;
	if (atomic_exchange(&p->open, open) != open && p->options.changed)
		p->options.changed(p->options.ctx);
}

/* Handles a message of the driver. What the device does not know, or is of no port, is ignored. */
static void on_control(struct virtio_port *p, const struct virtio_console_control *c)
{
	const uint16_t event = le16toh(c->event), value = le16toh(c->value);

	if (event == VIRTIO_CONSOLE_DEVICE_READY && value == 1)
		p->owed |= OWES_ADD;
	else if (le32toh(c->id) != PORT)
		return;
	else if (event == VIRTIO_CONSOLE_PORT_READY && value == 1)
		p->owed |= OWES_NAME | OWES_OPEN;
	else if (event == VIRTIO_CONSOLE_PORT_OPEN)
		set_open(p, value == 1);
}

static int serve_control_tx(struct virtio_port *p, unsigned budget)
{
	struct virtq *q = &p->console.dev.queues[CONTROL_TX];
	const unsigned all = budget;

	for (; budget > 0; budget--) {
		struct virtio_console_control c;
		int r = virtq_next(q, &p->control);
		if (r < 0)
			return r;
		if (r == 0)
			break;
		if (p->control.writable > 0 ||
			virtq_read(&p->control, 0, &c, sizeof(c)) != sizeof(c))
			return err_set(EPROTO,
				"a control message: expected a buffer to read, of %zu bytes or "
				"more",
				sizeof(c));
		virtq_push(q, p->control.head, 0);
		on_control(p, &c);
	}
	virtio_signal_queue(&p->console.dev, CONTROL_TX);
	int r = p->owed ? serve_control_rx(p, all) : 0;
	return r < 0 ? r : budget == 0 || r > 0;
}

static int port_serve(struct virtio_device *d, unsigned index, unsigned budget)
{
	struct virtio_port *p = (struct virtio_port *)d;

	switch (index) {
	case CONTROL_RX:
		return serve_control_rx(p, budget);
	case CONTROL_TX:
		return serve_control_tx(p, budget);
	case PORT_RX:
	case PORT_TX:
		return virtio_console_serve(d, index, budget);
	default:
		return 0;
	}
}

static void port_reset(struct virtio_device *d)
{
	struct virtio_port *p = (struct virtio_port *)d;

	virtio_console_reset(d);
	p->owed = 0;
	/* The function `changed` is not called, because this is the thread of a vCPU. */
	p->console.closed = true;
	atomic_store(&p->open, false);
}

/* what the port saves besides what a console saves */
struct port_state {
	uint32_t open, owed;
};

static int port_save(struct virtio_device *d, struct snapshot_writer *w)
{
	const struct virtio_port *p = (const struct virtio_port *)d;
	const struct port_state s = {atomic_load(&p->open), p->owed};
	int r = virtio_console_save(d, w);

	return r < 0 ? r : snapshot_put(w, &s, sizeof(s));
}

static int port_load(struct virtio_device *d, struct snapshot_part *part)
{
	struct virtio_port *p = (struct virtio_port *)d;
	struct port_state s;
	int r = virtio_console_load(d, part);

	if (r >= 0)
		r = snapshot_get(part, &s, sizeof(s));
	if (r < 0)
		return r;
	if (s.open > 1 || s.owed & ~(uint32_t)OWES_ALL)
		return err_set(EBADMSG, "port: open %u, messages 0x%x: expected 0 or 1, and 0x%x",
			s.open, s.owed, OWES_ALL);
	p->owed = s.owed;
	p->console.closed = !s.open;
	atomic_store(&p->open, s.open);
	return 0;
}

static const struct virtio_ops ops = {.serve = port_serve,
	.reset = port_reset,
	.quiesce = virtio_console_quiesce,
	.save = port_save,
	.load = port_load};

void virtio_port_init(
	struct virtio_port *p, const struct vm_memory *m, const struct virtio_port_options *o)
{
	struct virtio_console *c = &p->console;

	*p = (struct virtio_port){.options = *o};
	*c = (struct virtio_console){.in = o->sock,
		.out = o->sock,
		.closed = true,
		.rx_queue = PORT_RX,
		.tx_queue = PORT_TX,
		.config = {.max_nr_ports = htole32(PORTS)}};
	c->dev = (struct virtio_device){.ops = &ops,
		.name = "port",
		.id = VIRTIO_ID_CONSOLE,
		.features = 1ULL << VIRTIO_CONSOLE_F_MULTIPORT,
		.config = &c->config,
		.config_len = sizeof(c->config),
		.queue_count = QUEUES};
	virtio_init(&c->dev, m);
}

bool virtio_port_is_open(const struct virtio_port *p)
{
	return atomic_load(&p->open);
}
