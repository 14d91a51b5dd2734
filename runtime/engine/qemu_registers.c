/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/qemu_registers.h"

#include <inttypes.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "engine/qemu_internal.h"
#include "engine/qemu_talk.h"

/* where the registers of the virtio-mmio transports of QEMU's microvm machine are */
#define TRANSPORTS_AT UINT64_C(0xfeb00000)
#define TRANSPORT_SIZE 0x200
/* the name of the object, of its connection, and of the descriptor that QEMU gets for it */
#define NAME "registers"

static int open_socket(struct engine *e)
{
	struct qemu *q = e->state;
	int socks[2];

	if (q->registers >= 0)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, socks) < 0)
		return err_sys("make a socket pair");
	q->registers = socks[0];
	_cleanup_fd_ int theirs = socks[1];
	const struct qemu_question questions[] = {
		{.command = "getfd", .arguments = "{\"fdname\":\"" NAME "\"}", .fd = theirs},
		{.command = "chardev-add",
			.arguments = "{\"id\":\"" NAME "\",\"backend\":{\"type\":\"socket\","
				     "\"data\":{\"addr\":{\"type\":\"fd\",\"data\":{\"str\":"
				     "\"" NAME "\"}},\"server\":false}}}"},
		{.command = "object-add",
			.arguments = "{\"qom-type\":\"qtest\",\"id\":\"" NAME
				     "\",\"chardev\":\"" NAME "\",\"log\":\"none\"}"},
	};
	int r = 0;
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(questions); i++)
		r = qemu_ask(e, &questions[i]);
	if (r < 0)
		fd_close(&q->registers);
	return r;
}

static int add_write(struct strbuf *text, uint64_t at, unsigned offset, uint64_t value)
{
	return strbuf_addf(
		text, "writel 0x%" PRIx64 " 0x%" PRIx32 "\n", at + offset, (uint32_t)value);
}

/* Adds the writes of an address to a pair of registers, of which the second follows the first. */
static int add_address(struct strbuf *text, uint64_t at, unsigned offset, uint64_t value)
{
	int r = add_write(text, at, offset, value);

	return r < 0 ? r : add_write(text, at, offset + 4, value >> 32);
}

static int add_queue(struct strbuf *text, uint64_t at, const struct qemu_carried *c, unsigned i)
{
	const struct vhost_rings *g = &c->queues[i].rings;

	if (!g->size)
		return 0;
	int r = add_write(text, at, VIRTIO_MMIO_QUEUE_SEL, i);
	if (r >= 0)
		r = add_write(text, at, VIRTIO_MMIO_QUEUE_NUM, g->size);
	if (r >= 0)
		r = add_address(text, at, VIRTIO_MMIO_QUEUE_DESC_LOW, g->desc);
	if (r >= 0)
		r = add_address(text, at, VIRTIO_MMIO_QUEUE_AVAIL_LOW, g->avail);
	if (r >= 0)
		r = add_address(text, at, VIRTIO_MMIO_QUEUE_USED_LOW, g->used);
	return r < 0 ? r : add_write(text, at, VIRTIO_MMIO_QUEUE_READY, 1);
}

static int add_features(struct strbuf *text, uint64_t at, uint64_t features)
{
	int r = 0;

	for (unsigned half = 0; r >= 0 && half < 2; half++) {
		r = add_write(text, at, VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
		if (r >= 0)
			r = add_write(
				text, at, VIRTIO_MMIO_DRIVER_FEATURES, features >> (half * 32));
	}
	return r;
}

/* Writes what a driver writes (virtio 1.2, 3.1.1), and reads the status at the end. */
static int write_lines(struct strbuf *text, const struct qemu_carried *c)
{
	const uint64_t at = TRANSPORTS_AT + (uint64_t)c->transport * TRANSPORT_SIZE;
	uint32_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;

	int r = add_write(text, at, VIRTIO_MMIO_STATUS, 0);
	if (r >= 0)
		r = add_write(text, at, VIRTIO_MMIO_STATUS, status);
	if (r >= 0)
		r = add_features(text, at, c->features);
	status |= VIRTIO_CONFIG_S_FEATURES_OK;
	if (r >= 0)
		r = add_write(text, at, VIRTIO_MMIO_STATUS, status);
	for (unsigned i = 0; r >= 0 && i < c->queue_count; i++)
		r = add_queue(text, at, c, i);
	if (r >= 0)
		r = add_write(text, at, VIRTIO_MMIO_STATUS, status | VIRTIO_CONFIG_S_DRIVER_OK);
	return r < 0 ? r : strbuf_addf(text, "readl 0x%" PRIx64 "\n", at + VIRTIO_MMIO_STATUS);
}

static unsigned count_lines(const char *text, size_t len)
{
	unsigned n = 0;

	for (size_t i = 0; i < len; i++)
		n += text[i] == '\n';
	return n;
}

/* Reads `lines` lines of answers, of which the last one tells the status. */
static int read_answers(struct engine *e, unsigned lines, struct strbuf *answers)
{
	const struct qemu *q = e->state;
	char part[512];

	while (count_lines(strbuf_str(answers), answers->len) < lines) {
		ssize_t n = read(q->registers, part, sizeof(part));
		int r = n > 0 ? strbuf_add(answers, part, (size_t)n)
			: n < 0 && (errno == EAGAIN || errno == EINTR)
				? qemu_talk_wait(e)
				: err_set(EPIPE, "QEMU has closed the socket for registers");
		if (r < 0)
			return r;
		if (answers->len > 65536)
			return err_set(EPROTO, "QEMU's answers about registers are too long");
	}
	return 0;
}

static int check_answers(const struct strbuf *answers)
{
	const char *last = strstr(strbuf_str(answers), "OK 0x");
	const uint32_t expected = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
				  VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;
	unsigned long status = last ? strtoul(last + 3, NULL, 16) : 0;

	if (strstr(strbuf_str(answers), "FAIL") || status != expected)
		return err_set(
			EIO, "QEMU's device has the status 0x%lx: expected 0x%x", status, expected);
	return 0;
}

int qemu_registers_drive(struct engine *e, const struct qemu_carried *c)
{
	const struct qemu *q = e->state;
	_cleanup_strbuf_ struct strbuf text = {0}, answers = {0};

	int r = open_socket(e);
	if (r >= 0)
		r = write_lines(&text, c);
	if (r >= 0)
		r = qemu_talk_watch(e, q->registers, EPOLLIN);
	if (r < 0)
		return r;
	/* The text is much smaller than what the socket holds. */
	if (write(q->registers, text.s, text.len) != (ssize_t)text.len)
		r = err_sys("write registers of QEMU's machine");
	if (r >= 0)
		r = read_answers(e, count_lines(text.s, text.len), &answers);
	qemu_talk_unwatch(e, q->registers);
	if (r >= 0)
		r = check_answers(&answers);
	return r < 0 ? err_ctx(r, "%s", c->id) : 0;
}
