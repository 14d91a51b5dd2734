/* SPDX-License-Identifier: Apache-2.0 */
/* Starts QEMU's machine from a snapshot, in the monitor's only thread, before it is jailed. */
#include <inttypes.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#include "base/crc32c.h"
#include "engine/qemu_internal.h"
#include "engine/qemu_talk.h"
#include "vm/vhost/carry.h"

int qemu_read_section(const struct snapshot *s, struct qemu_section *ret)
{
	struct snapshot_part p;
	int r = snapshot_find(s, SNAPSHOT_QEMU, 0, &p);

	if (r >= 0)
		r = snapshot_get(&p, ret, sizeof(*ret));
	return r < 0 ? r : snapshot_end(&p);
}

static int check_shape(const struct qemu_shape *saved, const struct qemu_shape *is)
{
	if (saved->memory != is->memory || saved->cpus != is->cpus)
		return err_set(ENOTSUP,
			"the snapshot is of a machine with %" PRIu64 " MiB and %" PRIu32
			" vCPUs: this one has %" PRIu64 " MiB and %" PRIu32,
			saved->memory >> 20, saved->cpus, is->memory >> 20, is->cpus);
	if (saved->nics != is->nics || saved->devices != is->devices ||
		saved->spares != is->spares || !saved->image_size != !is->image_size)
		return err_set(ENOTSUP,
			"the snapshot is of a machine with %" PRIu32 " interfaces, %" PRIu32
			" disks and %" PRIu32 " free places for devices: this one has %" PRIu32
			", %" PRIu32 " and %" PRIu32
			" (disks, shares and interfaces must be the same)",
			saved->nics, (uint32_t)(saved->image_size > 0), saved->spares, is->nics,
			(uint32_t)(is->image_size > 0), is->spares);
	if (saved->image_size != is->image_size)
		return err_set(ENOTSUP,
			"the snapshot's vm.image has %" PRIu64 " bytes: this one has %" PRIu64,
			saved->image_size, is->image_size);
	if (saved->nics_crc != is->nics_crc)
		return err_set(ENOTSUP, "the snapshot's interfaces have other MAC addresses or "
					"MTUs than those of this machine");
	return 0;
}

static int check_stream(int fd, const struct qemu_section *s)
{
	_cleanup_free_ uint8_t *part = malloc(QEMU_STREAM_PART);
	uint64_t at = 0;
	uint32_t crc = 0;
	struct stat st;

	if (!part)
		return err_set(ENOMEM, "out of memory");
	if (fstat(fd, &st) < 0)
		return err_sys("read the size of the file with guest memory");
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != s->stream)
		return err_set(EBADMSG,
			"the file with guest memory has %" PRIu64 " bytes: expected %" PRIu64,
			(uint64_t)st.st_size, s->stream);
	while (at < s->stream) {
		ssize_t n = pread(fd, part, QEMU_STREAM_PART, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? err_sys("read guest memory from the snapshot")
				     : err_set(EBADMSG, "the file with guest memory is truncated");
		crc = crc32c(crc, part, (size_t)n);
		at += (uint64_t)n;
	}
	if (crc != s->crc)
		return err_set(EBADMSG, "the file with guest memory is damaged or of another "
					"snapshot: it has a wrong checksum");
	return 0;
}

static int load_devices(struct qemu *q, const struct snapshot *s)
{
	int r = 0;

	for (unsigned i = 0; r >= 0 && i < q->carried_count; i++) {
		struct qemu_carried *c = &q->carried[i];
		struct snapshot_part p;

		r = snapshot_find(s, SNAPSHOT_DEVICE, i, &p);
		if (r >= 0)
			r = qemu_carry_load(c, &p);
		if (r >= 0)
			r = snapshot_end(&p);
	}
	const struct qemu_carried *vsock = &q->carried[0];
	if (r >= 0 && vsock->queue_count <= VSOCK_QUEUE_EVENT)
		r = err_set(EBADMSG, "the snapshot's vsock device has %u queues: expected %d",
			vsock->queue_count, VSOCK_QUEUE_EVENT + 1);
	return r;
}

int qemu_restore_prepare(struct engine *e, const struct engine_description *d)
{
	struct qemu *q = e->state;
	struct qemu_section section;

	int r = qemu_can_save(e);
	if (r >= 0)
		r = qemu_read_section(d->snapshot, &section);
	if (r >= 0)
		r = check_shape(&section.shape, &q->saves.shape);
	if (r >= 0)
		r = load_devices(q, d->snapshot);
	if (r >= 0)
		r = check_stream(d->snapshot_memory, &section);
	for (unsigned i = 0; r >= 0 && i < q->carried_count; i++) {
		struct qemu_carried *c = &q->carried[i];

		if (c->sock < 0)
			continue;
		r = vhost_carry_in(c->sock, QEMU_SHARE_PEER, c->state.s, c->state.len);
		strbuf_release(&c->state);
	}
	return r;
}

static int check_version(struct engine *e, const struct engine_description *d)
{
	struct qemu_section saved, is = {0};

	int r = qemu_read_section(d->snapshot, &saved);
	if (r >= 0)
		r = qemu_ask_version(e, &is);
	if (r >= 0 && (saved.major != is.major || saved.minor != is.minor))
		r = err_set(ENOTSUP,
			"the snapshot is of QEMU %" PRIu32 ".%" PRIu32
			": this host has QEMU %" PRIu32 ".%" PRIu32
			", and the two versions of the machine are not the same",
			saved.major, saved.minor, is.major, is.minor);
	return r;
}

/*
 * Takes the devices away that QEMU cannot load. They are on the command line nevertheless, so that
 * QEMU gives all devices the same transports as before. Checks that it has done so.
 */
static int remove_devices(struct engine *e)
{
	struct qemu *q = e->state;
	int r = 0;

	for (unsigned i = 0; r >= 0 && i < q->carried_count; i++) {
		struct qemu_carried *c = &q->carried[i];
		const unsigned saved = c->transport;

		r = qemu_carry_locate(e, c);
		if (r >= 0 && c->transport != saved)
			r = err_set(ENOTSUP,
				"the snapshot has the device %s in the transport %u: this machine "
				"has it in %u (disks, shares and interfaces must be the same)",
				c->id, saved, c->transport);
		if (r >= 0)
			r = qemu_carry_remove(e, c);
	}
	return r;
}

/* Writes the file of the memory into the pipe from which QEMU reads. */
static int feed(struct engine *e, int from, int to)
{
	_cleanup_free_ uint8_t *part = malloc(QEMU_STREAM_PART);
	off_t at = 0;

	if (!part)
		return err_set(ENOMEM, "out of memory");
	for (;;) {
		ssize_t n = pread(from, part, QEMU_STREAM_PART, at);
		if (n == 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return err_sys("read guest memory from the snapshot");
		n = n > 0 ? write(to, part, (size_t)n) : 0;
		at += n > 0 ? n : 0;
		/* If QEMU does not read any more, it has failed, and its end tells why. */
		int r = n < 0 && errno == EPIPE                        ? 1
			: n < 0 && (errno == EAGAIN || errno == EINTR) ? qemu_talk_wait(e)
			: n < 0 ? err_sys("give QEMU guest memory")
				: 0;
		if (r != 0)
			return r < 0 ? r : 0;
	}
}

static int load_stream(struct engine *e, int from)
{
	_cleanup_fd_ int ours = -EBADF;

	int r = qemu_begin_stream(e, "migrate-incoming", 1, &ours);
	if (r >= 0)
		r = qemu_talk_watch(e, ours, EPOLLOUT);
	if (r >= 0)
		r = feed(e, from, ours);
	fd_close(&ours);
	if (r >= 0)
		r = qemu_await_migration(e);
	return r == -EIO ? err_ctx(-EPIPE, "load the snapshot") : r;
}

static void take_balloon(void *ctx, const struct json *answer)
{
	struct qemu_commands *q = ctx;
	uint64_t left;

	if (json_get_u64(answer, "actual", &left) >= 0 && left <= q->memory)
		q->balloon.wanted = q->balloon.given = q->memory - left;
}

static int load_machine(struct engine *e, const struct engine_description *d)
{
	struct qemu *q = e->state;
	const struct qemu_question balloon = {
		.command = "query-balloon", .take = take_balloon, .ctx = &q->commands};
	_cleanup_strbuf_ struct strbuf text = {0};

	int r = qemu_ask(e, &(const struct qemu_question){.command = "qmp_capabilities"});
	if (r >= 0)
		r = check_version(e, d);
	if (r >= 0)
		r = qemu_empty_spares(&text, q->commands.hotplug.spares);
	if (r >= 0)
		r = qmp_send(&q->commands.qmp, text.s);
	if (r >= 0)
		r = remove_devices(e);
	if (r >= 0)
		r = qemu_prepare_migration(e);
	if (r >= 0)
		r = load_stream(e, d->snapshot_memory);
	for (unsigned i = 0; r >= 0 && i < q->carried_count; i++)
		r = qemu_carry_add(e, &q->carried[i]);
	if (r >= 0)
		r = qemu_carry_configure(e);
	if (r >= 0)
		r = qemu_ask(e, &balloon);
	return r;
}

int qemu_restore(struct engine *e, const struct engine_description *d)
{
	struct qemu *q = e->state;

	int r = qemu_talk_begin(e, d->config->boot_timeout_ms);
	if (r >= 0)
		r = load_machine(e, d);
	qemu_talk_end(e);
	if (r < 0)
		return r;
	/* The guest is told that its connections are gone, and its agent connects again. */
	vhost_adopt(q->served, VSOCK_QUEUE_EVENT, &q->carried[0].queues[VSOCK_QUEUE_EVENT].rings);
	virtio_vsock_restored(&q->vsock);
	return 0;
}
