/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the console device with a named port (vm/virtio/port.c) behind the mmio transport, with a
 * driver that keeps the rules and with drivers that break them. The tests use plain memory and no
 * KVM. tests/fuzz/fuzz_virtq.c attacks it, and tests/host/test_vm_machine.py uses Linux's driver.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <endian.h>
#include <signal.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "unit/rig/virtio.h"

#define NAME "org.example.0"
#define MULTIPORT (1ULL << VIRTIO_CONSOLE_F_MULTIPORT)

enum { CONTROL_RX = 2, CONTROL_TX, PORT_RX, PORT_TX };

static struct rig g;
static struct virtio_port port;
static int host; /* the other end of the port's socket */
static unsigned changes;

static void note_change(void *ctx)
{
	changes++;
}

static int set_up(void **state)
{
	int s[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s), 0);
	host = s[1];
	changes = 0;
	rig_memory(&g);
	virtio_port_init(&port, &g.memory,
		&(struct virtio_port_options){.name = NAME, .sock = s[0], .changed = note_change});
	rig_attach(&g, &port.console.dev);
	bring_up(&g, MULTIPORT);
	return 0;
}

static int tear_down(void **state)
{
	rig_release(&g);
	fd_close(&port.options.sock);
	fd_close(&host);
	return 0;
}

/* Gives the device a buffer of `len` bytes for a control message. */
static void give(unsigned i, uint32_t len)
{
	put_desc(desc(&g, CONTROL_RX, i), DATA + 0x1000 + 256 * i, len, WRITE, 0);
	offer(&g, CONTROL_RX, i);
}

static void control(uint32_t id, uint16_t event, uint16_t value)
{
	const struct virtio_console_control c = {htole32(id), htole16(event), htole16(value)};

	memcpy(at(&g, DATA, sizeof(c)), &c, sizeof(c));
	put_desc(desc(&g, CONTROL_TX, 0), DATA, sizeof(c), 0, 0);
	offer(&g, CONTROL_TX, 0);
	kick(&g, CONTROL_TX);
}

/* The device has answered buffer `i` with this message of port 1, with `text` behind it. */
static void has_said(unsigned i, uint16_t event, const char *text)
{
	const struct virtio_console_control c = {htole32(1), htole16(event), htole16(1)};
	const void *buffer = at(&g, DATA + 0x1000 + 256 * i, 256);

	assert_int_equal(used(&g, CONTROL_RX)->ring[i].id, i);
	assert_int_equal(used(&g, CONTROL_RX)->ring[i].len, sizeof(c) + strlen(text));
	assert_memory_equal(buffer, &c, sizeof(c));
	assert_memory_equal((const char *)buffer + sizeof(c), text, strlen(text));
}

static void open_port(void)
{
	for (unsigned i = 0; i < 4; i++)
		give(i, 256);
	control(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	assert_int_equal(used(&g, CONTROL_RX)->idx, 1);
	has_said(0, VIRTIO_CONSOLE_PORT_ADD, "");
	control(1, VIRTIO_CONSOLE_PORT_READY, 1);
	assert_int_equal(used(&g, CONTROL_RX)->idx, 3);
	has_said(1, VIRTIO_CONSOLE_PORT_NAME, NAME);
	has_said(2, VIRTIO_CONSOLE_PORT_OPEN, "");
	assert_int_equal(changes, 0);
	control(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	assert_int_equal(changes, 1);
	assert_true(virtio_port_is_open(&port));
}

/* Offers a buffer for input in the queue of data. */
static void give_input(unsigned i)
{
	put_desc(desc(&g, PORT_RX, i), DATA + 0x4000 + 256 * i, 256, WRITE, 0);
	offer(&g, PORT_RX, i);
	kick(&g, PORT_RX);
}

static void a_program_uses_the_port(void **state)
{
	char text[16] = "";

	assert_int_equal(get(&g, VIRTIO_MMIO_CONFIG + 4), 2);
	/* What the host sends before the port is open waits in the socket. */
	assert_int_equal(write(host, "in", 2), 2);
	give_input(0);
	assert_false(virtio_console_wants_input(&port.console));
	assert_int_equal(used(&g, PORT_RX)->idx, 0);
	open_port();
	assert_true(virtio_console_wants_input(&port.console));
	assert_int_equal(virtio_console_input(&port.console), 0);
	assert_int_equal(used(&g, PORT_RX)->idx, 1);
	assert_memory_equal(at(&g, DATA + 0x4000, 2), "in", 2);
	memcpy(at(&g, DATA + 0x8000, 3), "out", 3);
	put_desc(desc(&g, PORT_TX, 0), DATA + 0x8000, 3, 0, 0);
	offer(&g, PORT_TX, 0);
	kick(&g, PORT_TX);
	assert_int_equal(read(host, text, sizeof(text)), 3);
	assert_string_equal(text, "out");

	control(1, VIRTIO_CONSOLE_PORT_OPEN, 0);
	assert_int_equal(changes, 2);
	assert_false(virtio_port_is_open(&port));
	assert_int_equal(write(host, "late", 4), 4);
	give_input(1);
	assert_int_equal(used(&g, PORT_RX)->idx, 1);
	control(1, VIRTIO_CONSOLE_PORT_OPEN, 0);
	assert_int_equal(changes, 2);
	control(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	/* A driver that starts anew finds the port closed. */
	bring_up(&g, MULTIPORT);
	assert_false(virtio_port_is_open(&port));
	assert_int_equal(port.owed, 0);
}

/* Messages about other ports, of kinds that the device does not know, and repeated ones. */
static void strange_messages(void **state)
{
	static const uint16_t events[] = {VIRTIO_CONSOLE_PORT_ADD, VIRTIO_CONSOLE_PORT_REMOVE,
		VIRTIO_CONSOLE_CONSOLE_PORT, VIRTIO_CONSOLE_RESIZE, VIRTIO_CONSOLE_PORT_NAME, 8,
		0xffff};

	for (size_t i = 0; i < ARRAY_SIZE(events); i++)
		control(1, events[i], 1);
	control(0, VIRTIO_CONSOLE_PORT_OPEN, 1);
	control(2, VIRTIO_CONSOLE_PORT_OPEN, 1);
	control(UINT32_MAX, VIRTIO_CONSOLE_PORT_READY, 1);
	control(0, VIRTIO_CONSOLE_DEVICE_READY, 0);
	control(1, VIRTIO_CONSOLE_PORT_OPEN, 2);
	assert_int_equal(port.owed, 0);
	assert_false(virtio_port_is_open(&port));
	/* The driver asks again and again, and gives no buffer: each message is owed once. */
	for (unsigned i = 0; i < 1000; i++) {
		control(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
		control(1, VIRTIO_CONSOLE_PORT_READY, 1);
	}
	for (unsigned i = 0; i < 4; i++)
		give(i, 256);
	kick(&g, CONTROL_RX);
	assert_int_equal(used(&g, CONTROL_RX)->idx, 3);
	has_said(0, VIRTIO_CONSOLE_PORT_ADD, "");
	/* The queues of port 0, which the device does not have, do nothing. */
	put_desc(desc(&g, 1, 0), DATA, 8, 0, 0);
	offer(&g, 1, 0);
	kick(&g, 1);
	kick(&g, 0);
	assert_int_equal(used(&g, 1)->idx, 0);
	assert_false(is_broken(&g));
}

static void broken_rules(void **state)
{
	put_desc(desc(&g, CONTROL_TX, 0), DATA, 7, 0, 0);
	offer(&g, CONTROL_TX, 0);
	kick(&g, CONTROL_TX);
	assert_true(is_broken(&g));
	assert_non_null(strstr(port.console.dev.broken, "a control message"));
	bring_up(&g, MULTIPORT);
	put_desc(desc(&g, CONTROL_TX, 0), DATA, 8, WRITE, 0);
	offer(&g, CONTROL_TX, 0);
	kick(&g, CONTROL_TX);
	assert_true(is_broken(&g));
	bring_up(&g, MULTIPORT);
	give(0, 20);
	control(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	assert_true(is_broken(&g));
	assert_non_null(strstr(port.console.dev.broken, "room for 21 bytes"));
	bring_up(&g, MULTIPORT);
	put_desc(desc(&g, CONTROL_RX, 0), DATA + 0x1000, 256, 0, 0);
	offer(&g, CONTROL_RX, 0);
	control(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	assert_true(is_broken(&g));
	bring_up(&g, MULTIPORT);
	open_port();
}

/*
 * Saves the port and loads it into a new one with the same memory. Returns the result of loading.
 */
static int save_and_load(void)
{
	const struct virtio_port_options o = port.options;
	struct snapshot_writer w;
	struct snapshot s;
	struct snapshot_part part;

	assert_int_equal(snapshot_begin(&w), 0);
	assert_int_equal(snapshot_section(&w, SNAPSHOT_DEVICE, 0), 0);
	assert_int_equal(virtio_save(&port.console.dev, &w), 0);
	assert_int_equal(snapshot_finish(&w), 0);
	virtio_release(&port.console.dev);
	virtio_port_init(&port, &g.memory, &o);
	g.bus = (struct vm_bus){0};
	rig_attach(&g, &port.console.dev);
	assert_int_equal(snapshot_open(&s, w.bytes.s, w.bytes.len), 0);
	assert_int_equal(snapshot_find(&s, SNAPSHOT_DEVICE, 0, &part), 0);
	int r = virtio_load(&port.console.dev, &part);
	snapshot_release(&w);
	return r;
}

/* An open port is still open after a snapshot, and owes what it has owed. */
static void snapshots(void **state)
{
	open_port();
	for (unsigned i = 0; i < 4; i++)
		control(1, VIRTIO_CONSOLE_PORT_READY, 1);
	assert_int_equal(used(&g, CONTROL_RX)->idx, 4);
	assert_true(port.owed != 0);
	const uint32_t owed = port.owed;
	assert_int_equal(save_and_load(), 0);
	assert_true(virtio_port_is_open(&port));
	assert_int_equal(port.owed, owed);
	give_input(0);
	assert_int_equal(write(host, "in", 2), 2);
	assert_int_equal(virtio_console_input(&port.console), 0);
	assert_int_equal(used(&g, PORT_RX)->idx, 1);
	/* A hostile snapshot has messages that no driver can ask for. */
	port.owed = 8;
	assert_int_equal(save_and_load(), -EBADMSG);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(a_program_uses_the_port),
		TEST(strange_messages),
		TEST(broken_rules),
		TEST(snapshots),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
