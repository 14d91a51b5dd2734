/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/qemu_save.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "base/crc32c.h"
#include "engine/qemu_internal.h"
#include "engine/qemu_talk.h"

/* --- in the monitor's loop --- */

static const char *find_reason(const struct engine_description *d)
{
	if (d->config->foreign)
		return "its guest has an init of its own";
	if (d->config->nested)
		return "its guest may run virtual machines of its own (nested)";
	if (d->nbackends)
		return "a vhost-user server serves one of its disks or mounts, whose state QEMU "
		       "cannot save: only a microVM on KVM (--hypervisor kvm) can be saved with it";
	for (size_t i = 0; i < d->nnics; i++)
		if (d->nics[i].backend)
			return "a vhost-user server serves its network (vm.net), whose state QEMU "
			       "cannot save";
	return qemu_count_spares(d) == 0 ? "it has too many devices" : NULL;
}

/* The guest has read address and MTU of each interface once, and does not read them again. */
static uint32_t checksum_nics(const struct engine_description *d)
{
	uint32_t crc = 0;

	for (size_t i = 0; i < d->nnics; i++) {
		crc = crc32c(crc, d->nics[i].mac, sizeof(d->nics[i].mac));
		crc = crc32c(crc, &d->nics[i].mtu, sizeof(d->nics[i].mtu));
	}
	return crc;
}

void qemu_save_init(struct engine *e, const struct engine_description *d)
{
	struct qemu *q = e->state;

	q->saves = (struct qemu_saves){.refused = find_reason(d),
		.shape = {.memory = d->config->memory,
			.cpus = d->config->max_cpus,
			.nics = (uint32_t)d->nnics,
			.devices = q->carried_count,
			.spares = qemu_count_spares(d),
			.image_size = q->commands.image_size,
			.nics_crc = checksum_nics(d)}};
}

int qemu_can_save(const struct engine *e)
{
	const struct qemu *q = e->state;

	return q->saves.refused
		       ? err_set(ENOTSUP, "the microVM runs on QEMU and cannot be saved: %s",
				 q->saves.refused)
		       : 0;
}

static void give_job(struct qemu *q, unsigned job)
{
	atomic_fetch_or(&q->jobs, job);
	eventfd_write(q->stop, 1);
}

int qemu_save(struct engine *e, const struct engine_save *s)
{
	struct qemu *q = e->state;
	int r = qemu_can_save(e);

	if (r < 0)
		return r;
	q->saves.save = s;
	q->saves.shape.image_size = q->commands.image_size;
	atomic_store(&q->commands.saves, true);
	give_job(q, QEMU_JOB_SAVE);
	return 0;
}

int qemu_saved(struct engine *e)
{
	struct qemu *q = e->state;
	eventfd_t n;

	(void)eventfd_read(e->save_done, &n);
	q->saves.save = NULL;
	return q->saves.r < 0 ? err_set(-q->saves.r, "%s", q->saves.why) : 0;
}

void qemu_go_on(struct engine *e)
{
	struct qemu *q = e->state;

	give_job(q, QEMU_JOB_GO_ON);
}

/* --- in the vsock thread --- */

static void take_version(void *ctx, const struct json *answer)
{
	struct qemu_section *s = ctx;
	const struct json *qemu = json_get(answer, "qemu");
	uint64_t major, minor;

	if (json_get_u64(qemu, "major", &major) < 0 || json_get_u64(qemu, "minor", &minor) < 0)
		return;
	s->major = (uint32_t)major;
	s->minor = (uint32_t)minor;
}

int qemu_ask_version(struct engine *e, struct qemu_section *ret)
{
	const struct qemu_question q = {
		.command = "query-version", .take = take_version, .ctx = ret};

	ret->major = ret->minor = 0;
	int r = qemu_ask(e, &q);
	if (r >= 0 && ret->major == 0)
		r = err_set(EPROTO, "QEMU does not tell its version");
	return r;
}

int qemu_prepare_migration(struct engine *e)
{
	const struct qemu_question events = {.command = "migrate-set-capabilities",
		.arguments = "{\"capabilities\":[{\"capability\":\"events\",\"state\":true}]}"};
	const struct qemu_question speed = {.command = "migrate-set-parameters",
		.arguments = "{\"max-bandwidth\":1099511627776}"};
	int r = qemu_ask(e, &events);

	return r < 0 ? r : qemu_ask(e, &speed);
}

/* Copies the stream from the pipe into the file of the memory. */
static int copy_stream(struct engine *e, int from, int to, struct qemu_section *ret)
{
	_cleanup_free_ uint8_t *part = malloc(QEMU_STREAM_PART);

	if (!part)
		return err_set(ENOMEM, "out of memory");
	for (;;) {
		ssize_t n = read(from, part, QEMU_STREAM_PART);

		if (n == 0)
			return 0;
		int r = 0;
		if (n < 0)
			r = errno == EAGAIN || errno == EINTR ? qemu_talk_wait(e)
							      : err_sys("read QEMU's stream");
		else if (fd_write_all(to, part, (size_t)n) < 0)
			r = err_sys("write the machine's memory to the snapshot");
		if (r < 0)
			return r;
		if (n > 0) {
			ret->crc = crc32c(ret->crc, part, (size_t)n);
			ret->stream += (uint64_t)n;
		}
	}
}

int qemu_begin_stream(struct engine *e, const char *command, int end, int *ret)
{
	const struct qemu_question begin = {
		.command = command, .arguments = "{\"uri\":\"fd:stream\"}"};
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys("make a pipe");
	*ret = ends[end];
	_cleanup_fd_ int theirs = ends[!end];
	const struct qemu_question getfd = {
		.command = "getfd", .arguments = "{\"fdname\":\"stream\"}", .fd = theirs};
	if (fcntl(*ret, F_SETFL, O_NONBLOCK) < 0)
		return err_sys("make a pipe");
	int r = qemu_ask(e, &getfd);
	return r < 0 ? r : qemu_ask(e, &begin);
}

static int write_stream(struct engine *e, int to, struct qemu_section *ret)
{
	_cleanup_fd_ int ours = -EBADF;

	int r = qemu_begin_stream(e, "migrate", 0, &ours);
	if (r < 0)
		return r;
	r = qemu_talk_watch(e, ours, EPOLLIN);
	if (r >= 0)
		r = copy_stream(e, ours, to, ret);
	if (r >= 0)
		return qemu_await_migration(e);
	/* QEMU fails to write when the pipe is closed, and its migration has to end. */
	_cleanup_free_ char *why = strdup(err_msg());
	fd_close(&ours);
	if (r != -ECANCELED && qemu_await_migration(e) == -ECANCELED)
		return -ECANCELED;
	return err_set(-r, "%s", why ? why : "out of memory");
}

static int write_state(struct engine *e, const struct qemu_section *section)
{
	struct qemu *q = e->state;
	const struct engine_save *s = q->saves.save;
	struct snapshot_writer w;

	int r = snapshot_begin(&w);
	w.format = SNAPSHOT_FORMAT_QEMU;
	for (unsigned i = 0; r >= 0 && i < q->carried_count; i++) {
		r = snapshot_section(&w, SNAPSHOT_DEVICE, i);
		if (r >= 0)
			r = qemu_carry_save(&q->carried[i], &w);
	}
	if (r >= 0)
		r = snapshot_section(&w, SNAPSHOT_OWNER, 0);
	if (r >= 0)
		r = snapshot_put(&w, s->owner, s->owner_len);
	if (r >= 0)
		r = snapshot_section(&w, SNAPSHOT_QEMU, 0);
	if (r >= 0)
		r = snapshot_put(&w, section, sizeof(*section));
	if (r >= 0)
		r = snapshot_finish(&w);
	if (r >= 0 && fd_write_all(s->state, w.bytes.s, w.bytes.len) < 0)
		r = err_sys("write the snapshot");
	snapshot_release(&w);
	return r;
}

static int save_machine(struct engine *e)
{
	const struct qemu_question stop = {.command = "stop"};
	struct qemu *q = e->state;
	struct qemu_section section = {.shape = q->saves.shape};

	int r = qemu_talk_begin(e, 0);
	if (r >= 0)
		r = qemu_ask_version(e, &section);
	if (r >= 0)
		r = qemu_prepare_migration(e);
	if (r >= 0)
		r = qemu_ask(e, &stop);
	for (unsigned i = 0; r >= 0 && i < q->carried_count; i++)
		r = qemu_carry_query(e, &q->carried[i]);
	for (unsigned i = 0; r >= 0 && i < q->carried_count; i++)
		r = qemu_carry_remove(e, &q->carried[i]);
	for (unsigned i = 0; r >= 0 && i < q->carried_count; i++)
		r = qemu_carry_read(e, &q->carried[i]);
	if (r >= 0)
		r = write_stream(e, q->saves.save->memory, &section);
	if (r >= 0)
		r = write_state(e, &section);
	qemu_talk_end(e);
	return r;
}

static void save_now(struct engine *e)
{
	struct qemu_saves *s = &((struct qemu *)e->state)->saves;

	s->r = save_machine(e);
	snprintf(s->why, sizeof(s->why), "%s", s->r < 0 ? err_msg() : "");
	eventfd_write(e->save_done, 1);
}

static int go_on_now(struct engine *e)
{
	const struct qemu_question cont = {.command = "cont"};
	struct qemu *q = e->state;

	int r = qemu_talk_begin(e, 0);
	for (unsigned i = 0; r >= 0 && i < q->carried_count; i++)
		if (q->carried[i].removed)
			r = qemu_carry_add(e, &q->carried[i]);
	if (r >= 0)
		r = qemu_carry_configure(e);
	/* qemu_retry() lets the machine run from now on, or has cleared `paused` before. */
	atomic_store(&q->commands.saves, false);
	if (r >= 0 && !atomic_load(&q->commands.paused))
		r = qemu_ask(e, &cont);
	qemu_talk_end(e);
	return r < 0 ? err_ctx(r, "the machine cannot go on after a checkpoint") : 0;
}

int qemu_serve(struct engine *e)
{
	struct qemu *q = e->state;
	eventfd_t n;
	int r;

	do {
		r = vhost_continue(q->served, q->stop);
		if (r < 0 || eventfd_read(q->stop, &n) < 0)
			return r;
		for (unsigned jobs; r >= 0 && (jobs = atomic_exchange(&q->jobs, 0));) {
			if (jobs & QEMU_JOB_GO_ON)
				r = go_on_now(e);
			if (r >= 0 && (jobs & QEMU_JOB_SAVE))
				save_now(e);
		}
	} while (r >= 0 && !atomic_load(&q->ends));
	return r;
}
