/* SPDX-License-Identifier: Apache-2.0 */
/* Tests the serial port by its registers, as a guest's driver uses them. The tests need no KVM. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <linux/serial_reg.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vm/uart.h"

struct port {
	struct vm_bus pio;
	struct uart uart;
	int peer; /* the test's end of the socket that is the port's input and output */
	int own;
};

static void open_port(struct port *p)
{
	int socks[2];

	memset(p, 0, sizeof(*p));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, socks), 0);
	p->peer = socks[0];
	p->own = socks[1];
	assert_int_equal(uart_init(&p->uart, NULL, &p->pio, p->own, p->own), 0);
}

static void close_port(struct port *p)
{
	uart_release(&p->uart);
	close(p->peer);
	close(p->own);
}

static uint8_t get(struct port *p, unsigned reg)
{
	uint8_t v = 0;

	vm_bus_read(&p->pio, UART_PORT + reg, &v, 1);
	return v;
}

static void put(struct port *p, unsigned reg, uint8_t v)
{
	vm_bus_write(&p->pio, UART_PORT + reg, &v, 1);
}

/* Runs the monitor's event loop once for this port. */
static void turn(struct port *p)
{
	struct pollfd fds[UART_FDS];

	uart_poll(&p->uart, fds);
	poll(fds, UART_FDS, 0);
	uart_serve(&p->uart, fds);
}

/* Returns how many edges the port's interrupt line has had since the last call of this function. */
static unsigned edges(struct port *p)
{
	eventfd_t n = 0;

	return eventfd_read(p->uart.irq.fd, &n) < 0 ? 0 : (unsigned)n;
}

static void registers(void **state)
{
	struct port p;

	open_port(&p);
	/*
	 * The test does what Linux's autoconfig() tries. The port must behave as a 16550A whose
	 * FIFO works and which has no extension.
	 */
	put(&p, UART_IER, 0xff);
	assert_int_equal(get(&p, UART_IER), 0x0f);
	put(&p, UART_IER, 0);
	put(&p, UART_MCR, UART_MCR_LOOP | 0x0a);
	assert_int_equal(get(&p, UART_MSR) & 0xf0, UART_MSR_DCD | UART_MSR_CTS);
	put(&p, UART_TX, 'L');
	assert_true(get(&p, UART_LSR) & UART_LSR_DR);
	assert_int_equal(get(&p, UART_RX), 'L');
	put(&p, UART_MCR, 0);
	put(&p, UART_FCR, UART_FCR_ENABLE_FIFO);
	assert_int_equal(get(&p, UART_IIR) >> 6, 3);
	put(&p, UART_FCR, 0);
	assert_int_equal(get(&p, UART_IIR) >> 6, 0);
	put(&p, UART_SCR, 0x5a);
	assert_int_equal(get(&p, UART_SCR), 0x5a);
	/*
	 * While the bit DLAB is set, the registers of the data and of IER hold the divisor. Writing
	 * the divisor must neither send data nor change IER.
	 */
	put(&p, UART_LCR, UART_LCR_DLAB | UART_LCR_WLEN8);
	put(&p, UART_DLL, 1);
	put(&p, UART_DLM, 2);
	assert_int_equal(get(&p, UART_DLL), 1);
	assert_int_equal(get(&p, UART_DLM), 2);
	put(&p, UART_LCR, UART_LCR_WLEN8);
	assert_int_equal(get(&p, UART_IER), 0);
	turn(&p);
	char c;
	assert_int_equal(read(p.peer, &c, 1), -1);
	close_port(&p);
}

static void output(void **state)
{
	struct port p;
	char text[64] = "", much[UART_BUFFER];

	open_port(&p);
	put(&p, UART_IER, UART_IER_THRI);
	assert_int_equal(edges(&p), 1);
	assert_int_equal(get(&p, UART_IIR), UART_IIR_THRI);
	/*
	 * The read of IIR before must have acknowledged the interrupt, so that IIR names no cause
	 * any more.
	 */
	assert_int_equal(get(&p, UART_IIR), UART_IIR_NO_INT);
	/* The line stays active from the first byte on, so the others must not raise it again. */
	for (const char *s = "hello"; *s; s++)
		put(&p, UART_TX, (uint8_t)*s);
	assert_int_equal(edges(&p), 1);
	/* The next byte after the acknowledgement raises the line again. */
	assert_int_equal(get(&p, UART_IIR), UART_IIR_THRI);
	put(&p, UART_TX, '.');
	assert_int_equal(edges(&p), 1);
	/* The event loop gathers output for a moment, and then writes it at once. */
	struct pollfd fds[UART_FDS];
	assert_int_equal(uart_poll(&p.uart, fds), -1);
	turn(&p);
	assert_int_equal(read(p.peer, text, sizeof(text)), -1);
	assert_int_equal(uart_poll(&p.uart, fds), UART_GATHER_MS);
	assert_int_equal(fds[2].fd, -1);
	put(&p, UART_TX, '!');
	turn(&p);
	assert_int_equal(read(p.peer, text, sizeof(text)), 7);
	assert_string_equal(text, "hello.!");
	assert_int_equal(uart_poll(&p.uart, fds), -1);
	/* It does not wait if much is there already, and a guest that sends much wakes it. */
	put(&p, UART_TX, 'a');
	turn(&p);
	for (unsigned i = 1; i < UART_MUCH; i++)
		put(&p, UART_TX, 'a');
	uart_poll(&p.uart, fds);
	assert_int_equal(poll(fds, UART_FDS, 0), 1);
	uart_serve(&p.uart, fds);
	assert_int_equal(recv(p.peer, much, sizeof(much), 0), UART_MUCH);
	for (unsigned i = 0; i < UART_MUCH; i++)
		put(&p, UART_TX, 'b');
	turn(&p);
	assert_int_equal(recv(p.peer, much, sizeof(much), 0), UART_MUCH);
	/* What the event loop still gathers when the machine ends is not lost. */
	put(&p, UART_TX, 'c');
	turn(&p);
	uart_flush(&p.uart);
	assert_int_equal(recv(p.peer, much, sizeof(much), 0), 1);
	close_port(&p);
}

static void output_that_nobody_reads(void **state)
{
	struct port p;
	size_t written = 0, got = 0;
	char text[4096];
	ssize_t n;

	open_port(&p);
	put(&p, UART_IER, UART_IER_THRI);
	/*
	 * As a careful guest does, the test writes a byte only when the port says that it has room
	 * for one.
	 */
	for (int idle = 0; idle < 3;) {
		if (get(&p, UART_LSR) & UART_LSR_THRE) {
			put(&p, UART_TX, (uint8_t)('a' + written++ % 26));
			idle = 0;
		} else {
			turn(&p);
			idle++;
		}
	}
	assert_true(written > UART_BUFFER);
	/*
	 * A guest that writes bytes although the port has no room for a FIFO may lose these bytes,
	 * and no other bytes.
	 */
	for (int i = 0; i < 2 * UART_FIFO; i++)
		put(&p, UART_TX, '!');
	(void)get(&p, UART_IIR);
	edges(&p);
	for (int i = 0; i < 100000 && got < written; i++) {
		while ((n = read(p.peer, text, sizeof(text))) > 0)
			for (ssize_t k = 0; k < n && got < written; k++)
				assert_int_equal(text[k], 'a' + got++ % 26);
		turn(&p);
	}
	assert_int_equal(got, written);
	assert_true(edges(&p) > 0);
	assert_true(get(&p, UART_LSR) & UART_LSR_THRE);
	/*
	 * After the reader has closed its socket, the port must drop the output and always say that
	 * it has room, so that the guest goes on.
	 */
	close(p.peer);
	for (size_t i = 0; i < 3 * UART_BUFFER; i++) {
		put(&p, UART_TX, 'x');
		if (i % 100 == 0)
			turn(&p);
	}
	turn(&p);
	assert_true(get(&p, UART_LSR) & UART_LSR_THRE);
	p.peer = dup(p.own);
	close_port(&p);
}

/*
 * A driver that sees an empty transmitter fills the FIFO of 16 bytes without a look at LSR in
 * between. None of its bytes may be lost while the reader is slow, and none at the end.
 */
static void bursts_for_a_slow_reader(void **state)
{
	struct port p;
	size_t written = 0, got = 0;
	char text[4096];
	ssize_t n;

	open_port(&p);
	put(&p, UART_FCR, UART_FCR_ENABLE_FIFO);
	put(&p, UART_TX, 'a'); /* so that the buffer is not full at a multiple of 16 */
	written++;
	for (int idle = 0; idle < 3; idle++) {
		while (get(&p, UART_LSR) & UART_LSR_THRE) {
			for (int i = 0; i < UART_FIFO; i++)
				put(&p, UART_TX, (uint8_t)('a' + written++ % 26));
			idle = 0;
		}
		turn(&p);
	}
	assert_true(uart_flush(&p.uart)); /* the machine has ended, and output is left */
	for (bool left = true; left;) {
		n = read(p.peer, text, sizeof(text));
		assert_true(n > 0);
		for (ssize_t k = 0; k < n; k++)
			assert_int_equal(text[k], 'a' + got++ % 26);
		left = uart_flush(&p.uart);
	}
	while ((n = read(p.peer, text, sizeof(text))) > 0)
		for (ssize_t k = 0; k < n; k++)
			assert_int_equal(text[k], 'a' + got++ % 26);
	assert_int_equal(got, written);
	/* Nothing is left if the reader has gone. */
	put(&p, UART_TX, 'x');
	close(p.peer);
	assert_false(uart_flush(&p.uart));
	p.peer = dup(p.own);
	close_port(&p);
}

static void input(void **state)
{
	struct port p;
	char text[100];

	open_port(&p);
	for (int i = 0; i < 100; i++)
		text[i] = (char)('0' + i % 10);
	assert_int_equal(write(p.peer, text, 100), 100);
	turn(&p);
	assert_int_equal(edges(&p), 0);
	put(&p, UART_IER, UART_IER_RDI);
	assert_int_equal(edges(&p), 1);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(get(&p, UART_IIR), UART_IIR_RDI);
		assert_true(get(&p, UART_LSR) & UART_LSR_DR);
		assert_int_equal(get(&p, UART_RX), '0' + i % 10);
		if (!(get(&p, UART_LSR) & UART_LSR_DR))
			turn(&p);
	}
	assert_int_equal(get(&p, UART_IIR), UART_IIR_NO_INT);
	assert_int_equal(get(&p, UART_RX), 0);
	/*
	 * The end of the input must not count as input, and the event loop must not poll the input
	 * any more.
	 */
	shutdown(p.peer, SHUT_WR);
	turn(&p);
	assert_false(get(&p, UART_LSR) & UART_LSR_DR);
	struct pollfd fds[UART_FDS];
	uart_poll(&p.uart, fds);
	assert_int_equal(fds[1].fd, -1);
	close_port(&p);
}

/*
 * Checks that any sequence of reads and writes of registers leaves the port's indices within its
 * buffers. AddressSanitizer notices an access beyond them.
 */
static void any_accesses(void **state)
{
	uint64_t seed = 12345;
	struct port p;
	char text[256];

	open_port(&p);
	for (int i = 0; i < 200000; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		unsigned reg = (unsigned)(seed >> 33) & 7, what = (unsigned)(seed >> 40) & 7;
		if (what < 4)
			put(&p, reg, (uint8_t)(seed >> 50));
		else if (what < 7)
			(void)get(&p, reg);
		else if (reg < 4)
			turn(&p);
		else if (reg < 6)
			(void)!write(p.peer, text, reg * 8);
		else
			(void)!read(p.peer, text, sizeof(text));
		assert_true(p.uart.tx_len <= UART_BUFFER && p.uart.rx_at <= p.uart.rx_len &&
			    p.uart.rx_len <= UART_FIFO);
	}
	close_port(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registers),
		cmocka_unit_test(output),
		cmocka_unit_test(output_that_nobody_reads),
		cmocka_unit_test(bursts_for_a_slow_reader),
		cmocka_unit_test(input),
		cmocka_unit_test(any_accesses),
	};

	/*
	 * The test ignores SIGPIPE, because the monitor, in which the port runs otherwise, blocks
	 * all signals.
	 */
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
