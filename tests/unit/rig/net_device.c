/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/rig/net_device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <poll.h>
#include <sys/socket.h>

#include "unit/rig/net.h"
#include "unit/rig/virtio.h"

void nic_init(struct nic *t, uint64_t features)
{
	struct virtio_net_options o = {.mtu = 1500};
	int pair[2];

	assert_int_equal(
		socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	t->tap = o.taps[0] = pair[0];
	t->wire = pair[1];
	memcpy(o.mac, nic_mac, 6);
	rig_memory(&t->g);
	assert_int_equal(virtio_net_init(&t->n, &t->g.memory, &o), 0);
	rig_attach(&t->g, &t->n.dev);
	bring_up(&t->g, features);
}

void nic_release(struct nic *t)
{
	virtio_net_release(&t->n);
	rig_release(&t->g);
	fd_close(&t->tap);
	fd_close(&t->wire);
}

bool nic_serve_event(struct nic *t)
{
	struct pollfd p = {t->n.dev.event_fd, POLLIN, 0};

	if (poll(&p, 1, 0) == 0)
		return false;
	assert_int_equal(t->n.dev.ops->event(&t->n.dev), 0);
	return true;
}

uint8_t frame_byte(size_t i)
{
	return (uint8_t)(i * 7 + (i >> 8));
}

void nic_send_from_wire(struct nic *t, size_t len)
{
	_cleanup_free_ uint8_t *frame = calloc(1, len);

	for (size_t i = HEADER; i < len; i++)
		frame[i] = frame_byte(i);
	/*
	 * The test fills the header's field num_buffers with junk, because the kernel does not set
	 * this field in the frames that a real tap delivers, and the device must set it itself.
	 */
	memset(frame + 10, 0xee, len > 12 ? 2 : 0);
	assert_int_equal(send(t->wire, frame, len, 0), len);
}

void nic_give_buffer(struct nic *t, unsigned i, uint32_t len)
{
	put_desc(desc(&t->g, RX, i), BUFFER(i), len, WRITE, 0);
	offer(&t->g, RX, i);
}
