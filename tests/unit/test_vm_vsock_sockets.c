/* SPDX-License-Identifier: Apache-2.0 */
/* Tests the vsock device with sockets behind it. The tests use plain memory and no KVM. */
#include "unit/rig/vsock_peer.h"

#include <sys/socket.h>

static void socket_stream(void **state)
{
	struct guest s;
	char text[16] = "";
	int pair[2];

	guest_begin(&s);
	assert_int_equal(*(uint64_t *)s.v.dev.config, GUEST_CID);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	guest_connect_to(&s, pair[0], VSOCK_BOTH);
	assert_int_equal(s.h.buf_alloc, VSOCK_CREDIT);
	guest_send_data(&s, HOST_PORT, "from guest", 10);
	assert_int_equal(read(pair[1], text, sizeof(text)), 10);
	assert_string_equal(text, "from guest");
	assert_int_equal(write(pair[1], "to guest", 8), 8);
	guest_expect_data(&s, "to guest");
	assert_int_equal(s.h.fwd_cnt, 10);
	guest_expect_quiet(&s);
	/*
	 * The guest ends its direction of the stream. The host must see the end, and the other
	 * direction must go on.
	 */
	guest_send_op(&s, HOST_PORT, OP(SHUTDOWN), SHUT(SEND));
	assert_int_equal(read(pair[1], text, sizeof(text)), 0);
	assert_int_equal(write(pair[1], "more", 4), 4);
	guest_expect_data(&s, "more");
	guest_expect_quiet(&s);
	shutdown(pair[1], SHUT_WR);
	guest_expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT_BOTH);
	assert_true(is_hung_up(pair[1]));
	assert_int_equal(s.closed, 1);
	assert_int_equal(s.closed_port, HOST_PORT);
	/* the device keeps the stream until the guest has confirmed the end */
	assert_int_equal(s.v.count, 1);
	guest_send_op(&s, HOST_PORT, OP(RST), 0);
	assert_int_equal(s.v.count, 0);
	guest_expect_quiet(&s);
	fd_close(&pair[1]);
	assert_int_equal(s.closed, 1);
	guest_end(&s);
}

static void guest_closes(void **state)
{
	struct guest s;
	char text[16] = "";
	int pair[2];

	guest_begin(&s);
	/*
	 * The guest closes the stream right after it has sent data. The host must get all data that
	 * the guest has sent.
	 */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	guest_connect_to(&s, pair[0], VSOCK_BOTH);
	guest_send_data(&s, HOST_PORT, "bye", 3);
	guest_send_op(&s, HOST_PORT, OP(SHUTDOWN), SHUT_BOTH);
	guest_expect(&s, OP(RST), HOST_PORT, 0);
	assert_int_equal(read(pair[1], text, sizeof(text)), 3);
	assert_int_equal(read(pair[1], text, sizeof(text)), 0);
	assert_int_equal(write(pair[1], "x", 1), -1);
	assert_int_equal(s.v.count, 0);
	fd_close(&pair[1]);
	/*
	 * The guest ends only its reading. A write of the host to its socket must then fail with
	 * EPIPE.
	 */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	guest_connect_to(&s, pair[0], VSOCK_BOTH);
	guest_send_op(&s, HOST_PORT, OP(SHUTDOWN), SHUT(RCV));
	assert_int_equal(write(pair[1], "x", 1), -1);
	assert_int_equal(errno, EPIPE);
	guest_expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(SEND));
	guest_send_data(&s, HOST_PORT, "still", 5);
	assert_int_equal(read(pair[1], text, sizeof(text)), 5);
	/*
	 * The host closes its socket. The device must tell the guest when it writes the next time,
	 * and then the stream must end.
	 */
	fd_close(&pair[1]);
	guest_send_data(&s, HOST_PORT, "x", 1);
	guest_expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT_BOTH);
	assert_int_equal(s.closed, 2);
	guest_send_op(&s, HOST_PORT, OP(SHUTDOWN), SHUT_BOTH);
	guest_expect(&s, OP(RST), HOST_PORT, 0);
	assert_int_equal(s.v.count, 0);
	/*
	 * The guest resets the connection without a shutdown. The host must see the end of the
	 * stream.
	 */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	guest_connect_to(&s, pair[0], VSOCK_BOTH);
	guest_send_op(&s, HOST_PORT, OP(RST), 0);
	assert_true(is_hung_up(pair[1]));
	guest_expect_quiet(&s);
	fd_close(&pair[1]);
	guest_end(&s);
}

static void host_opens_a_connection(void **state)
{
	struct guest s;
	int pair[2];

	guest_begin(&s);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(write(pair[1], "early", 5), 5);
	int port = virtio_vsock_dial(&s.v, GUEST_PORT, pair[0], VSOCK_BOTH);
	assert_int_equal(port, VSOCK_DIAL_PORT_FIRST);
	guest_expect(&s, OP(REQUEST), (uint32_t)port, 0);
	/* the device must send no data before the guest has answered its request */
	guest_expect_quiet(&s);
	guest_send_op(&s, (uint32_t)port, OP(RESPONSE), 0);
	guest_expect(&s, OP(RW), (uint32_t)port, 0);
	assert_string_equal((char *)s.data, "early");
	/*
	 * The guest refuses a second connection of the host, so the host's socket must be closed.
	 */
	int other[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, other), 0);
	port = virtio_vsock_dial(&s.v, GUEST_PORT, other[0], VSOCK_BOTH);
	assert_int_equal(port, VSOCK_DIAL_PORT_FIRST + 1);
	guest_expect(&s, OP(REQUEST), (uint32_t)port, 0);
	guest_send_op(&s, (uint32_t)port, OP(RST), 0);
	assert_true(is_hung_up(other[1]));
	assert_int_equal(s.closed_port, port);
	fd_close(&other[1]);
	/*
	 * The guest answers a request for a connection with data. The device must reset the
	 * connection.
	 */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, other), 0);
	port = virtio_vsock_dial(&s.v, GUEST_PORT, other[0], VSOCK_BOTH);
	guest_expect(&s, OP(REQUEST), (uint32_t)port, 0);
	guest_send_data(&s, (uint32_t)port, "x", 1);
	guest_expect(&s, OP(RST), (uint32_t)port, 0);
	assert_true(is_hung_up(other[1]));
	fd_close(&other[1]);
	/*
	 * If the device has no driver, it must refuse a connection of the host and close the
	 * connection's descriptor.
	 */
	set(&s.g, VIRTIO_MMIO_STATUS, 0);
	assert_true(is_hung_up(pair[1]));
	fd_close(&pair[1]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(virtio_vsock_dial(&s.v, 1, pair[0], VSOCK_BOTH), -ENOTCONN);
	assert_true(is_hung_up(pair[1]));
	fd_close(&pair[1]);
	guest_end(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(socket_stream),
		cmocka_unit_test(guest_closes),
		cmocka_unit_test(host_opens_a_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
