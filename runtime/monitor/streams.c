/* SPDX-License-Identifier: Apache-2.0 */
#include "streams.h"

#include <sys/eventfd.h>
#include <sys/socket.h>

#include "agent.h"
#include "fd.h"
#include "vsock.h"

int streams_init(struct streams *s)
{
	*s = (struct streams){.agent = -EBADF};
	pthread_mutex_init(&s->lock, NULL);
	s->changed = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return s->changed < 0 ? err_sys("create an eventfd") : 0;
}

void streams_release(struct streams *s)
{
	for (size_t i = 0; i < STREAMS_MAX; i++)
		if (s->stream[i].state == STREAM_WAITING)
			fd_close(&s->stream[i].fd);
	fd_close(&s->agent);
	fd_close(&s->changed);
	pthread_mutex_destroy(&s->lock);
}

static struct stream *find(struct streams *s, enum stream_state state, uint32_t port)
{
	for (size_t i = 0; i < STREAMS_MAX; i++)
		if (s->stream[i].state == state && (!port || s->stream[i].port == port))
			return &s->stream[i];
	return NULL;
}

int streams_offer(struct streams *s, uint32_t process, unsigned stream, int fd)
{
	pthread_mutex_lock(&s->lock);
	struct stream *e = find(s, STREAM_FREE, 0);
	if (e)
		*e = (struct stream){STREAM_WAITING, AGENT_STREAM_PORT(process, stream), fd};
	pthread_mutex_unlock(&s->lock);
	return e ? 0
		 : err_set(ENOSPC, "too many processes in the microVM: %d standard streams at once",
			   STREAMS_MAX);
}

bool streams_offered(struct streams *s, uint32_t process, unsigned stream)
{
	pthread_mutex_lock(&s->lock);
	bool found = find(s, STREAM_WAITING, AGENT_STREAM_PORT(process, stream)) != NULL;
	pthread_mutex_unlock(&s->lock);
	return found;
}

bool streams_has_output(struct streams *s, uint32_t process)
{
	bool found = false;

	pthread_mutex_lock(&s->lock);
	for (unsigned i = AGENT_STDOUT; i <= AGENT_TERMINAL; i++)
		found |= find(s, STREAM_JOINED, AGENT_STREAM_PORT(process, i)) != NULL;
	pthread_mutex_unlock(&s->lock);
	return found;
}

void streams_withdraw(struct streams *s, uint32_t process)
{
	pthread_mutex_lock(&s->lock);
	for (unsigned i = AGENT_STDIN; i <= AGENT_TERMINAL; i++) {
		struct stream *e = find(s, STREAM_WAITING, AGENT_STREAM_PORT(process, i));
		if (!e)
			continue;
		fd_close(&e->fd);
		e->state = STREAM_FREE;
	}
	pthread_mutex_unlock(&s->lock);
}

int streams_take_agent(struct streams *s)
{
	pthread_mutex_lock(&s->lock);
	int fd = take_fd(&s->agent);
	pthread_mutex_unlock(&s->lock);
	return fd;
}

static int meet_agent(struct streams *s)
{
	int ends[2];

	/* Whoever comes second is not caisson-init: a program in the guest that can reach vsock. */
	if (s->agent_met)
		return -ECONNREFUSED;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
		return -errno;
	s->agent_met = true;
	s->agent = ends[0];
	return ends[1];
}

int streams_on_connect(void *ctx, uint32_t guest_port, uint32_t port, unsigned *ret_use)
{
	struct streams *s = ctx;
	int fd = -ECONNREFUSED;

	pthread_mutex_lock(&s->lock);
	if (port == AGENT_PORT) {
		fd = meet_agent(s);
	} else {
		struct stream *e = find(s, STREAM_WAITING, port);
		if (e) {
			/* Other than a terminal's own, a caller's terminal may stand for each. */
			if (port % 4 != AGENT_TERMINAL)
				*ret_use =
					port % 4 == AGENT_STDIN ? VSOCK_TO_GUEST : VSOCK_FROM_GUEST;
			fd = take_fd(&e->fd);
			e->state = STREAM_JOINED;
		}
	}
	pthread_mutex_unlock(&s->lock);
	eventfd_write(s->changed, 1);
	return fd;
}

void streams_on_closed(void *ctx, uint32_t guest_port, uint32_t port)
{
	struct streams *s = ctx;

	pthread_mutex_lock(&s->lock);
	struct stream *e = find(s, STREAM_JOINED, port);
	if (e)
		e->state = STREAM_FREE;
	pthread_mutex_unlock(&s->lock);
	eventfd_write(s->changed, 1);
}
