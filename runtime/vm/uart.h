/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A serial port as PCs have it, a 16550A at I/O port 0x3f8 (National Semiconductor's data sheet
 * PC16550D). Only a machine with a foreign guest has it: every kernel has its driver built in, so
 * that the guest's console works from the kernel's first line to the last one.
 *
 * Theory of operation. vCPU threads access the registers, and the event loop moves the data: `out`
 * is written to and `in` is read from there only. What the guest sends is buffered in between, so
 * that it needs no system call for each character. The event loop is woken by `wake` if there is
 * something to write, or if the guest has read all input. It waits a moment for more output before
 * it writes, because a guest sends one character after the other. If it wrote at once, a host with
 * one CPU would switch to the event loop and to the reader of `out` for each character. If `out`
 * takes nothing and the buffer is full, the port tells the guest that it cannot send, and a driver
 * waits then, so that a slow reader loses nothing. A byte that the guest sends all the same is
 * lost, as at a real port, because a vCPU must not wait for a reader; Linux does so for the
 * messages of its kernel after 10 ms. All members are protected by the lock, except for those that
 * never change.
 */
#pragma once
#include <poll.h>
#include <pthread.h>

#include "vm/bus.h"
#include "vm/irq.h"

#define UART_PORT 0x3f8
#define UART_LEN 8
#define UART_GSI 4
#define UART_FIFO 16
#define UART_BUFFER 8192
#define UART_FDS 3 /* how many descriptors uart_poll() lists */
/* for how many milliseconds the event loop gathers output; a person at the console notices none */
#define UART_GATHER_MS 5
#define UART_MUCH (UART_BUFFER / 2) /* so many bytes of output are written without a wait */

struct uart {
	pthread_mutex_t lock;
	int in, out; /* non-blocking, not owned; -EBADF: no input, and output is dropped */
	int wake;    /* eventfd by which vCPU threads wake the event loop */
	struct vm_irq irq;
	uint8_t ier, lcr, mcr, scr, fcr, dll, dlm;
	bool sent;   /* the interrupt "transmitter empty" was not acknowledged yet */
	bool active; /* the interrupt line is active */
	bool in_end;
	bool gathers; /* the event loop waits for more output before it writes */
	uint8_t rx[UART_FIFO];
	unsigned rx_len, rx_at;
	char tx[UART_BUFFER];
	unsigned tx_len;
};

/* Adds the port to the bus. The caller calls uart_release() also after errors. */
int uart_init(struct uart *u, const struct vm_kvm *k, struct vm_bus *pio, int in, int out)
	must_check;
void uart_release(struct uart *u);

/*
 * The event loop calls uart_poll() to get the descriptors that it has to poll, and then
 * uart_serve(), which moves the data that can be moved. uart_poll() returns for how many
 * milliseconds the event loop may wait at most, or -1 if there is no limit.
 */
int uart_poll(struct uart *u, struct pollfd p[UART_FDS]);
void uart_serve(struct uart *u, const struct pollfd p[UART_FDS]);
/*
 * Writes the buffered output of the guest, as far as `out` takes it, and returns whether output is
 * left. The caller calls this when the machine has ended, until nothing is left.
 */
bool uart_flush(struct uart *u);
