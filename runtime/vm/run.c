/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's event loop. It handles the kicks of all queues, both directions of the console, and
 * the end of the machine. It uses poll(2) and not epoll, because the set of descriptors changes in
 * each round: the console's input is polled only if the guest has room for it.
 */
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

#include "vm/machine.h"

#define FDS_MAX (1 + 2 + 1 + UART_FDS + MACHINE_DEVICES_MAX * (VIRTIO_QUEUES_MAX + 1))

static void serve_kick(const struct machine_slot *s, unsigned queue)
{
	eventfd_t kicks;

	(void)eventfd_read(s->kicks[queue], &kicks);
	/*
	 * If the queue has more requests than virtio_kick() serves in one call, makes the event
	 * loop serve the queue once more after all other queues.
	 */
	if (virtio_kick(s->device, queue) > 0)
		eventfd_write(s->kicks[queue], 1);
}

static bool take_pending(struct machine *m, struct machine_pending *ret)
{
	pthread_mutex_lock(&m->pending_lock);
	bool found = m->pending_count > 0;
	if (found) {
		*ret = m->pending[0];
		memmove(m->pending, m->pending + 1, --m->pending_count * sizeof(m->pending[0]));
	}
	pthread_mutex_unlock(&m->pending_lock);
	return found;
}

/* Calls the functions that other threads have set by machine_call(). */
static void serve_calls(struct machine *m)
{
	struct machine_pending p;
	eventfd_t calls;

	(void)eventfd_read(m->calls, &calls);
	while (take_pending(m, &p))
		p.fn(m, p.ctx);
}

void machine_call(struct machine *m, void (*fn)(struct machine *m, void *ctx), void *ctx)
{
	unsigned i = 0;

	pthread_mutex_lock(&m->pending_lock);
	while (i < m->pending_count && (m->pending[i].fn != fn || m->pending[i].ctx != ctx))
		i++;
	if (i == m->pending_count && i < MACHINE_CALLS_MAX)
		m->pending[m->pending_count++] = (struct machine_pending){fn, ctx};
	pthread_mutex_unlock(&m->pending_lock);
	eventfd_write(m->calls, 1);
}

void machine_pause(struct machine *m)
{
	vcpus_pause(&m->cpus);
}

void machine_retry(struct machine *m)
{
	for (unsigned i = 0; i < MACHINE_DISKS_MAX; i++)
		if (m->disks[i].local.dev.ops)
			virtio_blk_retry(&m->disks[i].local);
	vcpus_resume(&m->cpus);
}

int machine_resize_disk(struct machine *m, uint64_t size)
{
	struct machine_blk *disk = &m->disks[0];
	struct virtio_blk *b = &disk->local;

	if (!b->dev.ops)
		return vhost_user_reload(&disk->remote);
	pthread_mutex_lock(&b->dev.lock);
	int r = blk_file_resize(&disk->file, size);
	if (r >= 0)
		virtio_blk_resized(b);
	pthread_mutex_unlock(&b->dev.lock);
	return r;
}

static int serve_events(struct machine *m)
{
	struct pollfd p[FDS_MAX];
	nfds_t n = 0;
	int timeout = -1;
	/* the device whose descriptors the loop polls, a console or a port, or NULL */
	struct virtio_console *c = !m->has_uart  ? &m->console
				   : m->has_port ? &m->port.console
						 : NULL;
	bool input = c && virtio_console_wants_input(c);
	bool output = c && virtio_console_wants_output(c);

	p[n++] = (struct pollfd){m->cpus.ended, POLLIN, 0};
	p[n++] = (struct pollfd){input ? c->in : -1, POLLIN, 0};
	p[n++] = (struct pollfd){output ? c->out : -1, POLLOUT, 0};
	p[n++] = (struct pollfd){m->calls, POLLIN, 0};
	if (m->has_uart)
		timeout = uart_poll(&m->uart, p + n);
	n += m->has_uart ? UART_FDS : 0;
	for (unsigned i = 0; i < m->slot_count; i++) {
		const struct virtio_device *d = m->slots[i].device;

		p[n++] = (struct pollfd){d->event_fd, POLLIN, 0};
		for (unsigned q = 0; q < d->queue_count; q++)
			p[n++] = (struct pollfd){
				q < d->remote_queues ? -1 : m->slots[i].kicks[q], POLLIN, 0};
	}
	if (poll(p, n, timeout) < 0)
		return errno == EINTR ? 0 : err_sys("wait for the machine's devices");
	if (p[0].revents)
		return 1;
	if (p[1].revents)
		(void)virtio_console_input(c);
	if (p[2].revents)
		(void)virtio_console_output(c);
	/*
	 * The function that another thread has set may exchange devices. The events that poll(2)
	 * has found may belong to a device that was exchanged, so they are ignored, and the next
	 * poll(2) reports them again.
	 */
	if (p[3].revents) {
		serve_calls(m);
		return 0;
	}
	if (m->has_uart)
		uart_serve(&m->uart, &p[4]);
	const struct pollfd *ready = &p[m->has_uart ? 4 + UART_FDS : 4];
	for (unsigned i = 0; i < m->slot_count; i++) {
		struct virtio_device *d = m->slots[i].device;

		if ((ready++)->revents)
			(void)d->ops->event(d);
		for (unsigned q = 0; q < d->queue_count; q++, ready++)
			if (ready->revents)
				serve_kick(&m->slots[i], q);
	}
	return 0;
}

int machine_start(struct machine *m)
{
	return m->cpus.threads > 0 ? 0 : vcpus_start(&m->cpus);
}

void machine_cut(struct machine *m)
{
	atomic_store(&m->cut, true);
	eventfd_write(m->calls, 1);
}

/*
 * Writes the console output that the serial port or the virtio console still holds, because the
 * guest may have written this output right before it powered off. Waits until the reader has taken
 * it all or has gone.
 */
static void drain_console(struct machine *m)
{
	eventfd_t calls;

	for (;;) {
		bool left;

		if (m->has_uart) {
			left = uart_flush(&m->uart);
		} else {
			while (virtio_console_output(&m->console) > 0)
				;
			left = virtio_console_wants_output(&m->console);
		}
		if (!left || atomic_load(&m->cut))
			return;
		struct pollfd p[] = {{m->has_uart ? m->uart.out : m->console.out, POLLOUT, 0},
			{m->calls, POLLIN, 0}};
		if (poll(p, 2, -1) > 0 && p[1].revents)
			(void)eventfd_read(m->calls, &calls);
	}
}

int machine_run(struct machine *m)
{
	int r = machine_start(m);

	if (r < 0)
		return r;

	machine_go_on(m);
	while (r == 0)
		r = serve_events(m);
	vcpus_stop(&m->cpus);
	if (r < 0)
		return r;
	drain_console(m);
	return (int)m->cpus.end;
}
