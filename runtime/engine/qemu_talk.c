/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/qemu_talk.h"

#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include "engine/qemu_internal.h"

/* what the ids of these commands begin with */
#define ID "talk-"

static struct qemu_talk *talk_of(const struct engine *e)
{
	return &((struct qemu *)e->state)->commands.talk;
}

int qemu_talk_watch(struct engine *e, int fd, uint32_t events)
{
	struct epoll_event in = {.events = events};

	return epoll_ctl(talk_of(e)->any, EPOLL_CTL_ADD, fd, &in) < 0 ? err_sys("watch QEMU") : 0;
}

void qemu_talk_unwatch(struct engine *e, int fd)
{
	(void)epoll_ctl(talk_of(e)->any, EPOLL_CTL_DEL, fd, NULL);
}

static int start_timer(struct qemu_talk *t, unsigned ms)
{
	const struct itimerspec limit = {
		.it_value = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 + 1}};

	t->ms = ms;
	t->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	if (t->timer < 0 || timerfd_settime(t->timer, 0, &limit, NULL) < 0)
		return err_sys("make a timer");
	return 0;
}

int qemu_talk_begin(struct engine *e, unsigned ms)
{
	struct qemu *q = e->state;
	struct qemu_talk *t = &q->commands.talk;

	pthread_mutex_lock(&t->lock);
	t->reads = ms > 0;
	t->migrated = t->migration_failed = false;
	t->timer = -EBADF;
	t->answer = ms ? -EBADF : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	t->any = epoll_create1(EPOLL_CLOEXEC);
	const bool made = t->any >= 0 && (ms || t->answer >= 0);
	pthread_mutex_unlock(&t->lock);
	if (!made)
		return err_sys("watch QEMU");
	int r = ms ? start_timer(t, ms) : 0;
	if (r >= 0)
		r = qemu_talk_watch(e, ms ? q->commands.qmp.sock : t->answer, EPOLLIN);
	if (r >= 0)
		r = qemu_talk_watch(e, ms ? q->pidfd : q->stop, EPOLLIN);
	if (r >= 0 && ms)
		r = qemu_talk_watch(e, t->timer, EPOLLIN);
	return r;
}

void qemu_talk_end(struct engine *e)
{
	struct qemu_talk *t = talk_of(e);

	pthread_mutex_lock(&t->lock);
	fd_close(&t->answer);
	pthread_mutex_unlock(&t->lock);
	fd_close(&t->any);
	fd_close(&t->timer);
}

static bool is_readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

/* Reads QEMU's messages, and finds out whether QEMU has ended or the time is over. */
static int read_messages(struct qemu *q)
{
	struct qemu_talk *t = &q->commands.talk;

	for (;;) {
		_cleanup_arena_ struct arena arena = {0};
		struct json *message;
		int r = qmp_next(&q->commands.qmp, &arena, &message);

		if (r < 0 || (r == 0 && is_readable(q->pidfd)))
			return err_set(EPIPE, "QEMU has ended");
		if (r == 0)
			break;
		qemu_talk_on_message(t, message);
	}
	if (is_readable(t->timer))
		return err_set(ETIMEDOUT,
			"QEMU was not done after %u s (annotation io.caisson.vm.boot-timeout)",
			t->ms / 1000);
	return 0;
}

int qemu_talk_wait(struct engine *e)
{
	struct qemu *q = e->state;
	struct qemu_talk *t = &q->commands.talk;
	eventfd_t n;

	int r = vhost_continue(q->served, t->any);
	if (r < 0)
		return r;
	/*
	 * If none of the descriptors is readable, QEMU has closed its connection to the vsock
	 * device.
	 */
	if (!is_readable(t->any))
		return err_set(EPIPE, "QEMU closed its connection to the vsock device");
	if (t->reads)
		return read_messages(q);
	(void)eventfd_read(t->answer, &n);
	(void)eventfd_read(q->stop, &n);
	return atomic_load(&q->ends) ? err_set(ECANCELED, "the machine is being stopped") : 0;
}

static int write_command(
	struct qemu_talk *t, const struct qemu_question *question, struct strbuf *ret)
{
	return strbuf_addf(ret, "{\"execute\":\"%s\",\"arguments\":%s,\"id\":\"" ID "%llu\"}\n",
		question->command, question->arguments ? question->arguments : "{}",
		(unsigned long long)t->number);
}

static bool is_answered(struct qemu_talk *t)
{
	pthread_mutex_lock(&t->lock);
	bool answered = t->answered;
	pthread_mutex_unlock(&t->lock);
	return answered;
}

int qemu_ask(struct engine *e, const struct qemu_question *question)
{
	struct qemu *q = e->state;
	struct qemu_talk *t = &q->commands.talk;
	_cleanup_strbuf_ struct strbuf text = {0};

	pthread_mutex_lock(&t->lock);
	t->number = ++t->last;
	t->answered = t->failed = false;
	t->take = question->take;
	t->ctx = question->ctx;
	pthread_mutex_unlock(&t->lock);
	int r = write_command(t, question, &text);
	if (r >= 0)
		r = fd_send(q->commands.qmp.sock, text.s, text.len,
			question->fd > 0 ? question->fd : -EBADF);
	while (r >= 0 && !is_answered(t))
		r = qemu_talk_wait(e);
	pthread_mutex_lock(&t->lock);
	t->number = 0;
	if (r >= 0 && t->failed)
		r = err_set(EIO, "QEMU: %s: %s", question->command, t->why);
	pthread_mutex_unlock(&t->lock);
	return r;
}

void qemu_expect_deletion(struct engine *e, const char *id)
{
	struct qemu_talk *t = talk_of(e);

	pthread_mutex_lock(&t->lock);
	t->deletes = id;
	t->deleted = false;
	pthread_mutex_unlock(&t->lock);
}

int qemu_await_deletion(struct engine *e)
{
	struct qemu_talk *t = talk_of(e);
	bool deleted = false;
	int r = 0;

	while (r >= 0 && !deleted) {
		pthread_mutex_lock(&t->lock);
		deleted = t->deleted;
		pthread_mutex_unlock(&t->lock);
		r = deleted ? 0 : qemu_talk_wait(e);
	}
	qemu_expect_deletion(e, NULL);
	return r;
}

int qemu_await_migration(struct engine *e)
{
	struct qemu_talk *t = talk_of(e);
	bool ended = false, failed = false;
	int r = 0;

	while (r >= 0 && !ended) {
		pthread_mutex_lock(&t->lock);
		failed = t->migration_failed;
		ended = t->migrated || failed;
		pthread_mutex_unlock(&t->lock);
		r = ended ? 0 : qemu_talk_wait(e);
	}
	return r >= 0 && failed ? err_set(EIO, "QEMU: the migration has failed") : r;
}

/* --- the thread that reads QEMU's messages --- */

static bool is_for_us(const struct qemu_talk *t, const struct json *message)
{
	const char *id = json_get_str(message, "id");
	char wanted[32];

	snprintf(wanted, sizeof(wanted), ID "%llu", (unsigned long long)t->number);
	return t->number && !t->answered && id && streq(id, wanted);
}

static void take_answer(struct qemu_talk *t, const struct json *message)
{
	const struct json *error = json_get(message, "error");
	const char *why = json_get_str(error, "desc");

	t->answered = true;
	t->failed = error != NULL;
	snprintf(t->why, sizeof(t->why), "%s", why && *why ? why : "it failed");
	if (!error && t->take)
		t->take(t->ctx, json_get(message, "return"));
}

static void take_event(struct qemu_talk *t, const char *event, const struct json *data)
{
	const char *status = json_get_str(data, "status");
	const char *device = json_get_str(data, "device");

	if (streq(event, "MIGRATION") && status) {
		t->migrated |= streq(status, "completed");
		t->migration_failed |= streq(status, "failed") || streq(status, "cancelled");
	}
	if (streq(event, "DEVICE_DELETED") && device && t->deletes && streq(device, t->deletes))
		t->deleted = true;
}

void qemu_talk_on_message(struct qemu_talk *t, const struct json *message)
{
	const char *event = json_get_str(message, "event");

	pthread_mutex_lock(&t->lock);
	if (is_for_us(t, message))
		take_answer(t, message);
	else if (event)
		take_event(t, event, json_get(message, "data"));
	if (!t->reads && t->answer > 0)
		eventfd_write(t->answer, 1);
	pthread_mutex_unlock(&t->lock);
}
