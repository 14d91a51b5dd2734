/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declares the simple devices: entropy, console and port. The init function of each device prepares
 * its struct virtio_device for a transport. The release function may be called only after the last
 * vCPU and the event loop have ended. The caller owns all descriptors.
 */
#pragma once
#include <linux/virtio_console.h>
#include <stdatomic.h>

#include "vm/virtio/device.h"

/* --- entropy device (virtio 1.2, 5.4): getrandom(2), at most VIRTIO_RNG_MAX bytes a request --- */

#define VIRTIO_RNG_MAX 4096

struct virtio_rng {
	struct virtio_device dev;
	struct virtq_chain chain;
};

void virtio_rng_init(struct virtio_rng *r, const struct vm_memory *m);

/* --- console (virtio 1.2, 5.3): one port; queue 0 has input for the guest, queue 1 output --- */

struct virtio_console {
	struct virtio_device dev;
	struct virtio_console_config config;
	/* non-blocking descriptors; -EBADF: there is no input, or output is dropped */
	int in, out;
	bool out_full; /* `out` takes no more bytes, so the event loop waits until it is writable */
	/* the guest has no buffer for input, so the event loop waits for the guest's kick */
	bool in_full;
	bool in_end;  /* the end of the input was reached */
	bool closed;  /* no program of the guest has opened the port, so its input is not read */
	bool sending; /* `tx` holds an output request of which `sent` bytes are written */
	uint64_t sent;
	/*
	 * bytes of the next output request that were written before the request was put back into
	 * the queue
	 */
	uint64_t skip;
	unsigned rx_queue, tx_queue; /* the queues with input for the guest, and with output */
	struct virtq_chain tx, rx;
	struct iovec part[VIRTQ_CHAIN_MAX];
};

void virtio_console_init(struct virtio_console *c, const struct vm_memory *m, int in, int out);

/*
 * Return whether the event loop has to poll the descriptor `in`, or the descriptor `out`, now. Both
 * functions take the lock.
 */
bool virtio_console_wants_input(struct virtio_console *c);
bool virtio_console_wants_output(struct virtio_console *c);

/*
 * The event loop calls virtio_console_input() when `in` is readable, and virtio_console_output()
 * when `out` is writable. A result of 1 means that the function has to be called again soon.
 */
int virtio_console_input(struct virtio_console *c);
int virtio_console_output(struct virtio_console *c);

/*
 * The functions of a console's struct virtio_ops, which the port has too, for its two queues of
 * data. virtio_console_quiesce() puts an output request of which a part is written back into the
 * queue. When the device takes the request again, it continues behind that part.
 */
int virtio_console_serve(struct virtio_device *d, unsigned index, unsigned budget) must_check;
void virtio_console_reset(struct virtio_device *d);
void virtio_console_quiesce(struct virtio_device *d, unsigned index);
int virtio_console_save(struct virtio_device *d, struct snapshot_writer *w) must_check;
int virtio_console_load(struct virtio_device *d, struct snapshot_part *p) must_check;

/*
 * --- port.c: a console device with one named port, which is no console (virtio 1.2, 5.3, feature
 * MULTIPORT) ---
 *
 * The port has the number 1, because drivers take port 0 for a console. The event loop serves the
 * member `console` as it serves a console.
 */

struct virtio_port_options {
	/* name by which a program of the guest finds the port; exists as long as the device */
	const char *name;
	int sock; /* non-blocking socket for both directions */
	/*
	 * called by the thread of the devices when a program of the guest has opened or closed the
	 * port, with the device's lock held
	 */
	void (*changed)(void *ctx);
	void *ctx;
};

struct virtio_port {
	struct virtio_console console;
	struct virtio_port_options options;
	atomic_bool open; /* a program of the guest has opened the port */
	uint32_t owed;    /* the control messages that the driver has not got yet, bits of port.c */
	struct virtq_chain control;
};

void virtio_port_init(
	struct virtio_port *p, const struct vm_memory *m, const struct virtio_port_options *o);
/* Returns whether a program of the guest has opened the port. Any thread may call this. */
bool virtio_port_is_open(const struct virtio_port *p);
