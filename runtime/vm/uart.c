/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/uart.h"

#include <linux/serial_reg.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/fd.h"

/*
 * Says whether the guest may send. A driver that sees an empty transmitter sends as many bytes as
 * the FIFO has room for without a look at LSR in between, so the buffer must have room for them.
 */
static bool can_send(const struct uart *u)
{
	return u->tx_len <= UART_BUFFER - UART_FIFO;
}

static bool has_input(const struct uart *u)
{
	return u->rx_at < u->rx_len;
}

/*
 * Returns the cause of the interrupt with the highest priority, as the register IIR has it. This
 * port never reports errors of the serial line or changes of the modem's state.
 */
static uint8_t find_cause(const struct uart *u)
{
	if ((u->ier & UART_IER_RDI) && has_input(u))
		return UART_IIR_RDI;
	if ((u->ier & UART_IER_THRI) && u->sent)
		return UART_IIR_THRI;
	return UART_IIR_NO_INT;
}

/*
 * Sets the interrupt line, which is active as long as there is a cause. The interrupt is
 * edge-triggered, so only a line that becomes active raises it. A driver that is told of a cause
 * reads IIR until no cause is left, and so it finds those that have come meanwhile.
 */
static void update_irq(struct uart *u)
{
	bool active = find_cause(u) != UART_IIR_NO_INT;

	if (active && !u->active)
		vm_irq_raise(&u->irq);
	u->active = active;
}

static bool in_loopback(const struct uart *u)
{
	return u->mcr & UART_MCR_LOOP;
}

static void receive(struct uart *u, uint8_t c)
{
	if (!has_input(u))
		u->rx_at = u->rx_len = 0;
	if (u->rx_len < UART_FIFO)
		u->rx[u->rx_len++] = c;
}

static void send(struct uart *u, uint8_t c)
{
	if (in_loopback(u)) {
		receive(u, c);
	} else if (u->tx_len < UART_BUFFER) {
		u->tx[u->tx_len++] = (char)c;
		/*
		 * Wakes the event loop only for the first byte in the empty buffer, because the
		 * event loop then writes everything that is in the buffer, and once more if much
		 * has come while the event loop gathers output.
		 */
		if (u->tx_len == 1 || u->tx_len == UART_MUCH)
			eventfd_write(u->wake, 1);
	}
	u->sent = can_send(u);
}

static uint8_t read_input(struct uart *u)
{
	if (!has_input(u))
		return 0;
	uint8_t c = u->rx[u->rx_at++];
	if (!has_input(u) && !in_loopback(u))
		eventfd_write(u->wake, 1);
	return c;
}

static uint8_t read_cause(struct uart *u)
{
	uint8_t cause = find_cause(u);

	if (cause == UART_IIR_THRI)
		u->sent = false;
	return cause | (u->fcr & UART_FCR_ENABLE_FIFO ? 0xc0 : 0);
}

static uint8_t modem_status(const struct uart *u)
{
	if (!in_loopback(u))
		return UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS;
	return (uint8_t)((u->mcr & UART_MCR_DTR ? UART_MSR_DSR : 0) |
			 (u->mcr & UART_MCR_RTS ? UART_MSR_CTS : 0) |
			 (u->mcr & UART_MCR_OUT1 ? UART_MSR_RI : 0) |
			 (u->mcr & UART_MCR_OUT2 ? UART_MSR_DCD : 0));
}

static uint8_t read_register(struct uart *u, uint64_t offset)
{
	bool latch = u->lcr & UART_LCR_DLAB;

	switch (offset) {
	case UART_RX:
		return latch ? u->dll : read_input(u);
	case UART_IER:
		return latch ? u->dlm : u->ier;
	case UART_IIR:
		return read_cause(u);
	case UART_LCR:
		return u->lcr;
	case UART_MCR:
		return u->mcr;
	case UART_LSR:
		return (uint8_t)((can_send(u) ? UART_LSR_THRE | UART_LSR_TEMT : 0) |
				 (has_input(u) ? UART_LSR_DR : 0));
	case UART_MSR:
		return modem_status(u);
	default:
		return u->scr;
	}
}

static void write_ier(struct uart *u, uint8_t value)
{
	/*
	 * If the driver enables the interrupt "transmitter empty" while the transmitter has room,
	 * the interrupt is due at once.
	 */
	if (value & ~u->ier & UART_IER_THRI)
		u->sent = can_send(u);
	u->ier = value & 0x0f;
}

static void write_fcr(struct uart *u, uint8_t value)
{
	u->fcr = value & UART_FCR_ENABLE_FIFO;
	if ((value & UART_FCR_CLEAR_RCVR) && has_input(u)) {
		u->rx_at = u->rx_len = 0;
		eventfd_write(u->wake, 1);
	}
}

static void write_register(struct uart *u, uint64_t offset, uint8_t value)
{
	bool latch = u->lcr & UART_LCR_DLAB;

	switch (offset) {
	case UART_TX:
		if (latch)
			u->dll = value;
		else
			send(u, value);
		break;
	case UART_IER:
		if (latch)
			u->dlm = value;
		else
			write_ier(u, value);
		break;
	case UART_FCR:
		write_fcr(u, value);
		break;
	case UART_LCR:
		u->lcr = value;
		break;
	case UART_MCR:
		u->mcr = value & 0x1f;
		break;
	case UART_SCR:
		u->scr = value;
		break;
	default:
		break; /* writes to LSR and MSR are ignored, because both are read-only */
	}
}

static void bus_read(void *device, uint64_t offset, void *ret_data, unsigned len)
{
	struct uart *u = device;

	pthread_mutex_lock(&u->lock);
	*(uint8_t *)ret_data = read_register(u, offset);
	update_irq(u);
	pthread_mutex_unlock(&u->lock);
}

static void bus_write(void *device, uint64_t offset, const void *data, unsigned len)
{
	struct uart *u = device;

	pthread_mutex_lock(&u->lock);
	write_register(u, offset, *(const uint8_t *)data);
	update_irq(u);
	pthread_mutex_unlock(&u->lock);
}

static const struct vm_bus_ops uart_bus = {1, bus_read, bus_write};

int uart_init(struct uart *u, const struct vm_kvm *k, struct vm_bus *pio, int in, int out)
{
	*u = (struct uart){
		.in = in, .out = out, .wake = -EBADF, .irq = {.fd = -EBADF, .gsi = UART_GSI}};
	pthread_mutex_init(&u->lock, NULL);
	u->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	u->irq.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (u->wake < 0 || u->irq.fd < 0)
		return err_sys("create an eventfd for the serial port");
	int r = k ? vm_kvm_irqfd(k, u->irq.fd, UART_GSI) : 0;
	if (r < 0)
		return r;
	return vm_bus_add(pio, &(struct vm_bus_entry){UART_PORT, UART_LEN, "serial", &uart_bus, u});
}

void uart_release(struct uart *u)
{
	fd_close(&u->wake);
	fd_close(&u->irq.fd);
}

int uart_poll(struct uart *u, struct pollfd p[UART_FDS])
{
	pthread_mutex_lock(&u->lock);
	int timeout = u->gathers ? UART_GATHER_MS : -1;
	bool reads = u->in >= 0 && !u->in_end && !has_input(u) && !in_loopback(u);
	p[0] = (struct pollfd){u->wake, POLLIN, 0};
	p[1] = (struct pollfd){reads ? u->in : -1, POLLIN, 0};
	p[2] = (struct pollfd){u->tx_len && !u->gathers ? u->out : -1, POLLOUT, 0};
	pthread_mutex_unlock(&u->lock);
	return timeout;
}

static void take_input(struct uart *u)
{
	if (has_input(u))
		return;
	ssize_t n = read(u->in, u->rx, UART_FIFO);
	u->rx_at = 0;
	u->rx_len = n > 0 ? (unsigned)n : 0;
	u->in_end = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
	update_irq(u);
}

static void put_output(struct uart *u)
{
	bool was_full = !can_send(u);
	ssize_t n = u->tx_len && u->out >= 0 ? write(u->out, u->tx, u->tx_len) : u->tx_len;

	/*
	 * Drops output that no one can read any more, because the guest must not wait for room in
	 * the buffer forever.
	 */
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		n = u->tx_len;
	if (n <= 0)
		return;
	u->tx_len -= (unsigned)n;
	memmove(u->tx, u->tx + n, u->tx_len);
	if (was_full && can_send(u)) {
		u->sent = true;
		update_irq(u);
	}
}

void uart_serve(struct uart *u, const struct pollfd p[UART_FDS])
{
	eventfd_t n;

	pthread_mutex_lock(&u->lock);
	if (p[0].revents)
		(void)eventfd_read(u->wake, &n);
	if (p[1].revents)
		take_input(u);
	bool waits = p[0].revents && !u->gathers && u->tx_len < UART_MUCH;
	if (!waits && (p[0].revents || p[2].revents || u->gathers))
		put_output(u);
	u->gathers = waits && u->tx_len;
	pthread_mutex_unlock(&u->lock);
}

bool uart_flush(struct uart *u)
{
	pthread_mutex_lock(&u->lock);
	put_output(u);
	const bool left = u->tx_len > 0;
	pthread_mutex_unlock(&u->lock);
	return left;
}
