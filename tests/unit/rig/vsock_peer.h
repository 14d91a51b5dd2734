/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends packets to the vsock device and checks the packets that it sends, with cmocka's assertions.
 */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "unit/rig/vsock.h"

#define OP(name) VIRTIO_VSOCK_OP_##name
#define SHUT(name) VIRTIO_VSOCK_SHUTDOWN_##name
#define SHUT_BOTH (SHUT(RCV) | SHUT(SEND))

void guest_send_op(struct guest *s, uint32_t port, uint16_t op, uint32_t flags);
void guest_send_data(struct guest *s, uint32_t port, const void *data, uint32_t len);

/*
 * Receives the next packet into s->h and s->data and offers the packet's buffer to the device
 * again. Returns the packet's op, or 0 if there is no packet.
 */
int guest_receive(struct guest *s);
void guest_expect(struct guest *s, uint16_t op, uint32_t port, uint32_t flags);
void guest_expect_data(struct guest *s, const char *text);

/*
 * Checks that the device has no packet for the guest, and that its event_fd does not ask for a call
 * of event().
 */
void guest_expect_quiet(struct guest *s);
void guest_begin(struct guest *s);
void guest_end(struct guest *s);
void guest_connect_to(struct guest *s, int fd, unsigned use);
bool is_hung_up(int fd);
size_t read_available(int fd, void *data, size_t max);
void fill_with_pattern(uint8_t *data, size_t len);
