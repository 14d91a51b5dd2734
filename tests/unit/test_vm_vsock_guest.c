/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the vsock device: credit, room for data, and guests that lie. The tests use plain memory
 * and no KVM.
 */
#include "unit/rig/descriptors.h"
#include "unit/rig/vsock_peer.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

static void credit_of_guest(void **state)
{
	struct virtio_vsock_hdr h = guest_header(HOST_PORT, OP(REQUEST), 0);
	struct guest s;
	int pair[2], left;
	char text[64] = "";

	guest_begin(&s);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(write(pair[1], "0123456789abcdefghij", 20), 20);
	h.buf_alloc = 8;
	s.next_fd = dup(pair[0]);
	guest_send_raw(&s, &h, NULL, 0);
	guest_expect(&s, OP(RESPONSE), HOST_PORT, 0);
	guest_expect_data(&s, "01234567");
	guest_expect(&s, OP(CREDIT_REQUEST), HOST_PORT, 0);
	guest_expect_quiet(&s);
	assert_int_equal(ioctl(pair[0], FIONREAD, &left), 0);
	assert_int_equal(left, 12);
	/* The device must not ask for credit again if the guest's answer gives it none. */
	h.op = OP(CREDIT_UPDATE);
	guest_send_raw(&s, &h, NULL, 0);
	guest_expect_quiet(&s);
	h.fwd_cnt = 3;
	guest_send_raw(&s, &h, NULL, 0);
	guest_expect_data(&s, "89a");
	guest_expect(&s, OP(CREDIT_REQUEST), HOST_PORT, 0);
	/*
	 * The guest claims to have received more bytes than the device has sent, or to have too
	 * little room for the data that is on its way. The device must send no data then.
	 */
	h.fwd_cnt = 12;
	guest_send_raw(&s, &h, NULL, 0);
	h.fwd_cnt = UINT32_MAX;
	guest_send_raw(&s, &h, NULL, 0);
	h.fwd_cnt = 3;
	h.buf_alloc = 0;
	guest_send_raw(&s, &h, NULL, 0);
	guest_expect_quiet(&s);
	h.fwd_cnt = 11;
	h.buf_alloc = UINT32_MAX;
	guest_send_raw(&s, &h, NULL, 0);
	guest_expect_data(&s, "bcdefghij");
	guest_send_op(&s, HOST_PORT, OP(CREDIT_REQUEST), 0);
	guest_expect(&s, OP(CREDIT_UPDATE), HOST_PORT, 0);
	assert_int_equal(s.h.buf_alloc, VSOCK_CREDIT);
	guest_expect_quiet(&s);
	/* The device must reset the connection if the guest sends more data than its credit. */
	guest_send_data(&s, HOST_PORT, "ok", 2);
	while (s.v.count > 0 && s.v.conns[0]->len < VSOCK_CREDIT - 0x10000)
		guest_send_data(&s, HOST_PORT, NULL, 0x10000);
	guest_send_data(&s, HOST_PORT, NULL, 0x20000);
	while (guest_receive(&s) == OP(CREDIT_UPDATE))
		;
	assert_int_equal(s.h.op, OP(RST));
	/* data within the credit must not be lost */
	assert_int_equal(read(pair[1], text, 2), 2);
	assert_string_equal(text, "ok");
	fd_close(&pair[0]);
	fd_close(&pair[1]);
	guest_end(&s);
}

/* Returns the number of the receive buffer for which the device wants a kick (avail_event). */
static unsigned wanted_kick(struct guest *s)
{
	uint16_t index;

	memcpy(&index, &used(&s->g, 0)->ring[s->g.size], sizeof(index));
	return index;
}

/*
 * Checks that the device does not read from the host's descriptor, and that the event loop does not
 * spin, as long as the guest has given no receive buffer.
 */
static void no_buffers(void **state)
{
	struct guest s;
	int pair[2], left, features;

	for (features = 0; features < 2; features++) {
		guest_start(&s, 8, features ? EVENT : 0);
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		assert_int_equal(write(pair[1], "data", 4), 4);
		s.next_fd = dup(pair[0]);
		guest_send_op(&s, HOST_PORT, OP(REQUEST), 0);
		guest_expect_quiet(&s);
		guest_offer(&s, 0, VSOCK_HEADER + 2);
		guest_offer(&s, 1, VSOCK_HEADER + 2);
		/*
		 * With EVENT_IDX the device must have asked the guest for a kick at the first
		 * receive buffer.
		 */
		if (features)
			assert_int_equal(wanted_kick(&s), 0);
		kick(&s.g, 0);
		assert_int_equal(used(&s.g, 0)->idx, 2);
		assert_int_equal(ioctl(pair[0], FIONREAD, &left), 0);
		assert_int_equal(left, 2);
		if (features)
			assert_int_equal(wanted_kick(&s), 2);
		guest_expect(&s, OP(RESPONSE), HOST_PORT, 0);
		s.seen++;
		/* Takes the receive buffer back that guest_expect() has offered to the device. */
		avail(&s.g, 0)->idx -= 1;
		struct pollfd p = {s.v.dev.event_fd, POLLIN, 0};
		guest_event(&s);
		assert_int_equal(poll(&p, 1, 0), 0);
		assert_int_equal(write(pair[1], "more", 4), 4);
		for (int i = 0; i < 3; i++)
			guest_event(&s);
		assert_int_equal(poll(&p, 1, 0), 0);
		guest_offer(&s, 0, VSOCK_HEADER + 100);
		kick(&s.g, 0);
		assert_int_equal(guest_receive(&s), OP(RW));
		assert_string_equal((char *)s.data, "tamore");
		fd_close(&pair[0]);
		fd_close(&pair[1]);
		guest_end(&s);
	}
}

static void large_transfers(void **state)
{
	const size_t len = 0x20000;
	_cleanup_free_ uint8_t *data = malloc(len), *got = malloc(len);
	struct guest s;
	int pair[2];
	size_t n = 0, packets = 0;

	fill_with_pattern(data, len);
	guest_begin(&s);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(write(pair[1], data, len), len);
	guest_connect_to(&s, pair[0], VSOCK_BOTH);
	while (guest_receive(&s) == OP(RW)) {
		memcpy(got + n, s.data, s.h.len);
		n += s.h.len;
		packets++;
	}
	assert_int_equal(n, len);
	assert_memory_equal(got, data, len);
	assert_int_equal(packets, len / 4096); /* the device must fill every packet with data */
	/* The device must fill a receive buffer of 64 KiB with one packet. */
	bring_up(&s.g, 0);
	s.seen = 0;
	fd_close(&pair[1]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(write(pair[1], data, 0x10000), 0x10000);
	guest_offer(&s, 0, VSOCK_HEADER);
	put_desc(desc(&s.g, 0, 0), RX_AT(0), VSOCK_HEADER + 1, WRITE, 0);
	guest_offer(&s, 1, VSOCK_HEADER + 0x10000);
	s.next_fd = pair[0];
	guest_send_op(&s, HOST_PORT, OP(REQUEST), 0);
	guest_expect(&s, OP(RESPONSE), HOST_PORT, 0);
	guest_expect(&s, OP(RW), HOST_PORT, 0);
	assert_int_equal(s.h.len, 0x10000);
	assert_memory_equal(s.data, data, 0x10000);
	fd_close(&pair[1]);
	guest_end(&s);
}

/* Checks that the device serves two streams equally if the data of both never ends. */
static void fairness(void **state)
{
	struct guest s;
	unsigned got[2] = {0};

	guest_begin(&s);
	for (uint32_t i = 0; i < 2; i++) {
		s.next_fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
		guest_send_op(&s, HOST_PORT + i, OP(REQUEST), 0);
	}
	for (int i = 0; i < 4000; i++) {
		assert_int_not_equal(guest_receive(&s), 0);
		kick(&s.g, 0);
		got[s.h.src_port - HOST_PORT]++;
	}
	assert_in_range(got[0], 1500, 2500);
	guest_end(&s);
}

static void many_connections(void **state)
{
	unsigned before = descriptors_below(4096), accepted = 0, refused = 0, large = 0;
	struct guest s;

	guest_begin(&s);
	for (uint32_t i = 0; i < 300; i++) {
		fd_close(&s.next_fd);
		s.next_fd = memfd_create("one", MFD_CLOEXEC);
		guest_send_op(&s, 10000 + i, OP(REQUEST), 0);
		for (int op; (op = guest_receive(&s));) {
			assert_int_equal(s.h.src_port, 10000 + i);
			accepted += op == OP(RESPONSE);
			refused += op == OP(RST);
			large += op == OP(RESPONSE) && s.h.buf_alloc == VSOCK_CREDIT;
		}
	}
	assert_int_equal(accepted, VSOCK_CONNS_MAX);
	assert_int_equal(refused, 300 - VSOCK_CONNS_MAX);
	assert_int_equal(large, VSOCK_LARGE_MAX);
	assert_int_equal(s.connects, VSOCK_CONNS_MAX);
	assert_int_equal(virtio_vsock_dial(&s.v, 1, dup(1), VSOCK_BOTH), -EBUSY);
	for (uint32_t i = 0; i < VSOCK_CONNS_MAX; i += 2)
		guest_send_op(&s, 10000 + i, OP(RST), 0);
	assert_int_equal(s.v.count, VSOCK_CONNS_MAX / 2);
	fd_close(&s.next_fd);
	s.next_fd = memfd_create("one", MFD_CLOEXEC);
	guest_send_op(&s, 7, OP(REQUEST), 0);
	guest_expect(&s, OP(RESPONSE), 7, 0);
	set(&s.g, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(s.v.count, 0);
	assert_int_equal(s.closed, VSOCK_CONNS_MAX + 1);
	guest_end(&s);
	assert_int_equal(descriptors_below(4096), before);
}

static void unknown_connections(void **state)
{
	struct guest s;
	struct virtio_vsock_hdr h;

	guest_begin(&s);
	for (uint16_t op = 0; op < 20; op++) {
		guest_send_op(&s, HOST_PORT, op, 3);
		if (op == OP(RST))
			guest_expect_quiet(&s);
		else
			guest_expect(&s, OP(RST), HOST_PORT, 0);
	}
	/* Only the REQUEST must have made the device call connect(), which has refused. */
	assert_int_equal(s.connects, 1);
	/*
	 * The device must answer a packet to another host with a reset from this host, and must
	 * ignore a packet that comes from another guest.
	 */
	h = guest_header(HOST_PORT, OP(REQUEST), 0);
	h.dst_cid = 99;
	guest_send_raw(&s, &h, NULL, 0);
	assert_int_equal(((struct virtio_vsock_hdr *)at(&s.g, RX_AT(19), 44))->src_cid, 99);
	assert_int_equal(((struct virtio_vsock_hdr *)at(&s.g, RX_AT(19), 44))->op, OP(RST));
	s.seen++;
	h.dst_cid = VSOCK_HOST_CID;
	h.src_cid = 1ULL << 32 | GUEST_CID;
	guest_send_raw(&s, &h, NULL, 0);
	h.src_cid = VSOCK_HOST_CID;
	guest_send_raw(&s, &h, NULL, 0);
	guest_expect_quiet(&s);
	/*
	 * The device must answer a packet of a type that it does not offer by a reset of that type.
	 */
	h = guest_header(HOST_PORT, OP(REQUEST), 0);
	h.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	guest_send_raw(&s, &h, NULL, 0);
	assert_int_equal(((struct virtio_vsock_hdr *)at(&s.g, RX_AT(20), 44))->type, 2);
	assert_int_equal(s.connects, 1);
	assert_false(is_broken(&s.g));
	guest_end(&s);
}

static void wrong_for_connection(void **state)
{
	static const uint16_t ops[] = {0, OP(REQUEST), OP(RESPONSE), 8, 0xffff};
	struct guest s;
	int pair[2];

	guest_begin(&s);
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		guest_connect_to(&s, pair[0], VSOCK_BOTH);
		guest_send_op(&s, HOST_PORT, ops[i], UINT32_MAX);
		guest_expect(&s, OP(RST), HOST_PORT, 0);
		assert_true(is_hung_up(pair[1]));
		assert_int_equal(s.v.count, 0);
		fd_close(&pair[1]);
	}
	/*
	 * The guest sends shutdowns with every combination of flags, and data after each of them.
	 * The device must drop the data if the guest has ended its sending.
	 */
	for (uint32_t flags = 0; flags < 16; flags++) {
		uint32_t known = flags & SHUT_BOTH;
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		guest_connect_to(&s, pair[0], VSOCK_BOTH);
		guest_send_op(&s, HOST_PORT, OP(SHUTDOWN), flags);
		guest_send_data(&s, HOST_PORT, "late", 4);
		if (known == SHUT_BOTH)
			guest_expect(&s, OP(RST), HOST_PORT, 0);
		if (known == SHUT(RCV))
			guest_expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(SEND));
		char text[8];
		ssize_t want = known & SHUT(SEND) ? 0 : 4;
		assert_int_equal(recv(pair[1], text, 8, MSG_DONTWAIT), want);
		if (known == SHUT_BOTH) /* both flags together have ended the connection */
			guest_expect(&s, OP(RST), HOST_PORT, 0);
		guest_send_op(&s, HOST_PORT, OP(SHUTDOWN), SHUT_BOTH);
		guest_expect(&s, OP(RST), HOST_PORT, 0);
		fd_close(&pair[1]);
		guest_expect_quiet(&s);
	}
	guest_end(&s);
}

static void bad_lengths(void **state)
{
	static const uint32_t lies[] = {11, 12, 0x10000, 0x7fffffff, UINT32_MAX - 43, UINT32_MAX};
	struct guest s;
	struct virtio_vsock_hdr h = guest_header(HOST_PORT, OP(RW), 0);

	guest_begin(&s);
	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		/* a wrong length of the 10 bytes of data (CVE-2019-18960) */
		h.len = lies[i];
		guest_send_raw(&s, &h, "0123456789", 10);
		assert_true(is_broken(&s.g));
		assert_non_null(
			strstr(s.v.dev.broken, "vsock: queue 1: a packet that says it has"));
		bring_up(&s.g, 0);
	}
	for (uint32_t len = 0; len < VSOCK_HEADER; len += 43) {
		put_desc(desc(&s.g, 1, 0), DATA, len, 0, 0);
		offer(&s.g, 1, 0);
		kick(&s.g, 1);
		assert_non_null(strstr(s.v.dev.broken, "expected 44 or more"));
		bring_up(&s.g, 0);
	}
	put_desc(desc(&s.g, 1, 0), DATA, 0x100, NEXT, 1);
	put_desc(desc(&s.g, 1, 1), DATA, 0x100, WRITE, 0);
	offer(&s.g, 1, 0);
	kick(&s.g, 1);
	assert_true(is_broken(&s.g));
	/*
	 * These receive buffers are bad: readable, without length, too small, or only as long as a
	 * header. The device looks at a buffer only when it needs one, and must then break.
	 */
	for (uint32_t i = 0; i < 4; i++) {
		static const uint32_t sizes[] = {100, 0, 43, 44};
		bring_up(&s.g, 0);
		put_desc(desc(&s.g, 0, 0), RX_AT(0), sizes[i], i ? WRITE : 0, 0);
		offer(&s.g, 0, 0);
		kick(&s.g, 0);
		assert_false(is_broken(&s.g));
		guest_send_op(&s, HOST_PORT, OP(RW), 0);
		assert_true(is_broken(&s.g));
		assert_non_null(strstr(s.v.dev.broken, "vsock: queue 0: a receive buffer with"));
		assert_int_equal(used(&s.g, 0)->idx, 0);
	}
	guest_end(&s);
}

/*
 * Checks packets whose header and data are split at any byte, in both directions (virtio 1.2,
 * 2.7.4).
 */
static void layouts(void **state)
{
	static const uint32_t cuts[] = {1, 7, 0, 30, 5, 1, 4, 6};
	struct virtio_vsock_hdr h = guest_header(HOST_PORT, OP(RW), 10);
	struct guest s;
	char text[16] = "";
	int pair[2];

	guest_begin(&s);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	guest_connect_to(&s, pair[0], VSOCK_BOTH);
	memcpy(at(&s.g, DATA, VSOCK_HEADER), &h, VSOCK_HEADER);
	memcpy(at(&s.g, DATA + VSOCK_HEADER, 10), "0123456789", 10);
	uint64_t where = DATA;
	for (unsigned i = 0; i < ARRAY_SIZE(cuts); i++) {
		put_desc(desc(&s.g, 1, i), where, cuts[i], i < ARRAY_SIZE(cuts) - 1 ? NEXT : 0,
			i + 1);
		where += cuts[i];
	}
	offer(&s.g, 1, 0);
	kick(&s.g, 1);
	assert_int_equal(read(pair[1], text, sizeof(text)), 10);
	assert_string_equal(text, "0123456789");
	bring_up(&s.g, 0);
	assert_true(is_hung_up(pair[1]));
	fd_close(&pair[1]);
	/*
	 * For the direction to the guest the test makes a receive buffer that has a descriptor of
	 * its own for each byte of the header.
	 */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	s.next_fd = pair[0];
	guest_offer(&s, 63, 100);
	guest_send_op(&s, HOST_PORT, OP(REQUEST), 0);
	for (unsigned i = 0; i < 50; i++)
		put_desc(desc(&s.g, 0, i), RX_AT(0) + i, i == 49 ? 100 : 1,
			WRITE | (i < 49 ? NEXT : 0), i + 1);
	offer(&s.g, 0, 0);
	assert_int_equal(write(pair[1], "0123456789", 10), 10);
	guest_event(&s);
	assert_int_equal(used(&s.g, 0)->idx, 2);
	assert_int_equal(used(&s.g, 0)->ring[1].len, VSOCK_HEADER + 10);
	memcpy(&h, at(&s.g, RX_AT(0), VSOCK_HEADER), VSOCK_HEADER);
	assert_int_equal(h.op, OP(RW));
	assert_int_equal(h.len, 10);
	assert_memory_equal(at(&s.g, RX_AT(0) + VSOCK_HEADER, 10), "0123456789", 10);
	fd_close(&pair[1]);
	guest_end(&s);
}

/*
 * Checks a guest that makes the device send resets but gives no receive buffers: the device must
 * stop reading the guest's packets, use bounded memory, and lose no reset.
 */
static void flood(void **state)
{
	struct virtio_vsock_hdr h;
	struct guest s;
	unsigned sent = 0, answers = 0;

	guest_start(&s, 256, 0);
	for (; sent < 200; sent++) {
		h = guest_header(sent, OP(RW), 0);
		guest_send_raw(&s, &h, NULL, 0);
	}
	assert_int_equal(used(&s.g, 1)->idx, VSOCK_RESETS_MAX);
	guest_expect_quiet(&s);
	for (int i = 0; i < 20; i++) {
		for (unsigned j = 0; j < 10; j++)
			guest_offer(&s, (unsigned)i * 10 + j, VSOCK_HEADER + 4);
		kick(&s.g, 0);
		for (int j = 0; j < 3; j++)
			guest_event(&s);
		answers = used(&s.g, 0)->idx;
		assert_int_equal(answers, (i + 1) * 10);
	}
	assert_int_equal(used(&s.g, 1)->idx, 200);
	assert_false(is_broken(&s.g));
	guest_end(&s);
}

static void refused_options(void **state)
{
	static const uint64_t cids[] = {0, 1, 2, UINT32_MAX, 1ULL << 32, UINT64_MAX};
	struct virtio_vsock v;
	struct rig g;

	rig_memory(&g);
	for (size_t i = 0; i < ARRAY_SIZE(cids); i++) {
		struct virtio_vsock_options o = {.cid = cids[i], .connect = guest_connect};
		assert_int_equal(virtio_vsock_init(&v, &g.memory, &o), -EINVAL);
		assert_non_null(strstr(err_msg(), "expected 3 to 4294967294"));
	}
	vm_memory_release(&g.memory);
	/*
	 * connect() returns a descriptor that is not open in the direction which the stream needs.
	 * The device must refuse the connection.
	 */
	struct guest s;
	int p[2];
	guest_begin(&s);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	s.next_fd = p[0];
	s.next_use = VSOCK_FROM_GUEST;
	guest_send_op(&s, HOST_PORT, OP(REQUEST), 0);
	guest_expect(&s, OP(RST), HOST_PORT, 0);
	assert_int_equal(s.closed, 1);
	assert_int_equal(write(p[1], "x", 1), -1);
	fd_close(&p[1]);
	guest_end(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(credit_of_guest),
		cmocka_unit_test(no_buffers),
		cmocka_unit_test(large_transfers),
		cmocka_unit_test(fairness),
		cmocka_unit_test(many_connections),
		cmocka_unit_test(unknown_connections),
		cmocka_unit_test(wrong_for_connection),
		cmocka_unit_test(bad_lengths),
		cmocka_unit_test(layouts),
		cmocka_unit_test(flood),
		cmocka_unit_test(refused_options),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
